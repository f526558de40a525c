"""The names that other people's code relies on, used as they use them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone

import companion
import companion.finetuning
import companion.pretraining


def test_a_model_is_loaded_run_and_saved(tmp_path: Path):
    from companion import BertConfig, BertForMaskedLM, BertModel, Tokenizer

    model = BertModel.from_pretrained("mini")
    tokenizer = Tokenizer.from_pretrained("mini")
    batch = tokenizer(["one text", "another"], max_length=128)
    assert {values.shape for values in batch.values()} == {(2, 4)}
    with torch.inference_mode():
        output = model(**batch, output_attentions=True, output_hidden_states=True)
    assert output.last_hidden_state.shape == (2, 4, 256) and output.pooler_output.shape == (2, 256)
    assert (len(output.attentions), len(output.hidden_states)) == (4, 5)
    model.save_pretrained(tmp_path)
    again = BertModel.from_pretrained(tmp_path)(**batch)
    torch.testing.assert_close(again.last_hidden_state, output.last_hidden_state)
    assert isinstance(model.config, BertConfig) and hasattr(BertForMaskedLM.from_pretrained("mini"), "mlm_head")


def test_a_classifier_is_fitted_saved_and_loaded_as_scikit_learn_users_expect(tmp_path: Path):
    from companion.finetuning import TextClassifier, load

    texts, labels = ["a red one", "a blue one"] * 4, ["red", "blue"] * 4
    classifier = clone(TextClassifier("mini", epochs=1, random_state=0)).fit(texts, labels)
    probabilities = classifier.predict_proba(texts)
    assert probabilities.shape == (8, 2) and set(classifier.predict(texts)) <= {"red", "blue"}
    assert 0 <= classifier.score(texts, labels) <= 1
    classifier.save(tmp_path / "saved")
    np.testing.assert_allclose(load(tmp_path / "saved").predict_proba(texts), probabilities, atol=1e-6)


@pytest.mark.parametrize("package", [companion, companion.finetuning, companion.pretraining], ids=lambda p: p.__name__)
def test_every_name_that_is_offered_is_there_and_nothing_else_is_shown(package):
    assert all(getattr(package, name) is not None for name in package.__all__)
    assert sorted(dir(package)) == sorted(package.__all__)


def test_what_pre_trains_is_offered():
    assert {"PretrainingConfig", "pretrain"} <= set(companion.pretraining.__all__)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        (
            "companion.applications.search.engine, companion.applications.search.tune",
            ("sklearn", "scipy", "pandas", "datasets", "transformers"),
        ),
        ("companion.pretraining.run", ("sklearn", "pandas", "datasets", "transformers")),
        ("companion.cli", ("torch", "sklearn", "datasets", "transformers")),
    ],
)
def test_a_module_loads_no_library_that_it_does_not_use(module: str, heavy: tuple[str, ...]):
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
