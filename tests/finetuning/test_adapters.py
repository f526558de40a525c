"""Adapters in estimators: what is trained, merged, saved alone, opened by PEFT and Transformers, and refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file
from sklearn.base import clone

from companion import BertModel, Tokenizer
from companion.finetuning import MultipleChoice, QuestionAnswerer, TextClassifier, TextRegressor, TokenTagger, load
from companion.finetuning.adapters import NAMES, adapter_config, adapter_of
from tests.toys import keyword_texts

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's use
WORDS = [["rain", "again"], ["sun"]] * 6
QUESTIONS = [("rain", ["red one", "blue one"]), ("sun", ["blue one", "red one"])] * 6
ASKED = [("which one", "red one two"), ("which two", "blue one two")] * 6
OWN = [
    peft.LoraConfig(r=2, target_modules="all-linear", use_dora=True),
    peft.LoHaConfig(r=2, target_modules=["query", "expand"]),
    peft.LoKrConfig(r=2, target_modules=["value"]),
    peft.OFTConfig(r=0, oft_block_size=4, target_modules=["query"]),
]
QUICK = {"epochs": 2, "batch_size": 8, "max_length": 16}
ESTIMATORS = [
    (TextClassifier, *keyword_texts(12)),
    (TextRegressor, keyword_texts(12)[0], [1.5, -2.0, 0.25] * 4),
    (TokenTagger, WORDS, [["B-W", "O"], ["B-W"]] * 6),
    (MultipleChoice, QUESTIONS, [0, 1] * 6),
    (QuestionAnswerer, ASKED, ["one", "two"] * 6),
]


def trained(tiny: Path, adapter: object = "lora", cls: type = TextClassifier, data: tuple | None = None):
    return cls(tiny, adapter=adapter, **QUICK).fit(*(keyword_texts(24) if data is None else data))


def outputs(estimator, texts) -> list[np.ndarray]:
    found = estimator._predicted(texts)[0]
    return [np.asarray(one) for one in found]


def assert_close(found, expected, tolerance: float = 1e-5) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("cls", "texts", "labels"), ESTIMATORS)
def test_every_estimator_takes_one_saves_it_alone_and_merges_it(tmp_path: Path, tiny: Path, cls, texts, labels):
    estimator = trained(tiny, "lora", cls, (texts, labels))
    expected = outputs(estimator, texts)
    estimator.save(tmp_path / "saved")
    assert not (tmp_path / "saved" / "model.safetensors").exists()
    loaded = load(tmp_path / "saved", device="cpu")
    assert type(loaded) is cls
    assert loaded.get_params() == estimator.get_params() | {"model": str(tiny), "device": "cpu"}
    assert_close(outputs(loaded, texts), expected, 0)
    assert loaded.merge_adapter() is loaded
    assert_close(outputs(loaded, texts), expected)
    loaded.save(tmp_path / "whole")
    assert_close(outputs(load(tmp_path / "whole"), texts), expected)


@pytest.mark.parametrize("adapter", [*NAMES, *OWN], ids=[*NAMES, "dora", "loha", "lokr", "oft"])
def test_only_adapter_and_head_change_and_transformers_finds_the_same(tmp_path: Path, tiny: Path, adapter):
    estimator = trained(tiny, adapter)
    before, texts = BertModel.from_pretrained(tiny).state_dict(), keyword_texts(10, seed=3)[0]
    after = {name.replace("base_layer.", ""): tensor for name, tensor in estimator.model_.bert.state_dict().items()}
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, atol=0, rtol=0, msg=name)
    changed = [name for name, weight in estimator.model_.named_parameters() if weight.requires_grad]
    assert {"classifier.weight", "classifier.bias"} < set(changed)
    estimator.save(tmp_path / "saved")
    base = transformers.BertForSequenceClassification.from_pretrained(tiny, num_labels=len(estimator.classes_))
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "saved").eval()
    batch = Tokenizer.from_pretrained(tmp_path / "saved")(texts)
    with torch.inference_mode():
        logits = theirs(**batch).logits
    np.testing.assert_allclose(logits.softmax(-1), estimator.predict_proba(texts), atol=1e-5)
    assert_close(outputs(load(tmp_path / "saved"), texts), outputs(estimator, texts), 0)


def test_an_adapter_learns_and_its_file_is_small(tmp_path: Path, tiny: Path):
    estimator = TextClassifier(tiny, adapter="lora", epochs=12, batch_size=16, max_length=16, learning_rate=5e-3)
    texts, labels = keyword_texts(200)
    estimator.fit(texts, labels, validation=keyword_texts(60, seed=1))
    assert estimator.score(*keyword_texts(60, seed=1)) > 0.9
    estimator.save(tmp_path / "saved")
    assert sum(
        tensor.numel() for tensor in load_file(tmp_path / "saved" / "adapter_model.safetensors").values()
    ) == sum(weight.numel() for weight in estimator.model_.parameters() if weight.requires_grad)


def test_its_rate_is_five_times_that_of_the_whole_network_unless_given(tiny: Path):
    whole = TextClassifier(tiny, **QUICK).fit(*keyword_texts(12)).learning_rate_
    assert trained(tiny).learning_rate_ == pytest.approx(5 * whole)
    given = TextClassifier(tiny, adapter="lora", learning_rate=1e-4, **QUICK).fit(*keyword_texts(12))
    assert given.learning_rate_ == 1e-4


def test_the_same_seed_gives_the_same_adapter_and_the_configuration_given_is_not_changed(tiny: Path):
    config = peft.LoraConfig(r=2, target_modules=["query"])
    before = config.to_dict()
    texts = keyword_texts(8, seed=2)[0]
    first = TextClassifier(tiny, adapter=config, **QUICK)
    again = clone(first).fit(*keyword_texts(24))
    np.testing.assert_array_equal(first.fit(*keyword_texts(24)).predict_proba(texts), again.predict_proba(texts))
    assert config.to_dict() == before


def test_early_stopping_keeps_the_adapter_of_the_best_epoch(tiny: Path):
    estimator = TextClassifier(tiny, adapter="lora", early_stopping=True, **QUICK | {"epochs": 6})
    estimator.fit(*keyword_texts(60))
    assert 1 <= estimator.best_epoch_ <= estimator.n_iter_
    assert adapter_of(estimator.model_) is not None


def test_what_was_saved_in_the_folder_before_is_replaced_whole(tmp_path: Path, tiny: Path):
    whole, texts = TextClassifier(tiny, **QUICK).fit(*keyword_texts(24)), keyword_texts(8, seed=2)[0]
    adapted = trained(tiny)
    for estimator, gone in (
        (whole, "adapter_model.safetensors"),
        (adapted, "model.safetensors"),
        (whole, "adapter_config.json"),
    ):
        estimator.save(tmp_path / "saved")
        assert not (tmp_path / "saved" / gone).exists()
        np.testing.assert_array_equal(load(tmp_path / "saved").predict_proba(texts), estimator.predict_proba(texts))


def test_a_base_with_other_weights_or_none_is_an_error_that_names_it(tmp_path: Path, tiny: Path):
    base = tmp_path / "base"
    shutil.copytree(tiny, base)
    trained(base).save(tmp_path / "saved")
    other = BertModel.from_pretrained(base)
    with torch.no_grad():
        other.pooler.dense.bias.add_(1)
    other.save_pretrained(base)
    with pytest.raises(ValueError, match="holds an adapter of .*base.* with other weights"):
        load(tmp_path / "saved")
    shutil.rmtree(base)
    with pytest.raises(FileNotFoundError, match="base"):
        load(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "companion.json").read_text())["base"]["name"] == str(base)


@pytest.mark.parametrize("adapter", ["prefix", "LoRA", 3, peft.PrefixTuningConfig(num_virtual_tokens=2)])
def test_an_adapter_that_cannot_be_had_is_refused_before_the_work(tiny: Path, adapter):
    with pytest.raises(ValueError, match="adapter=.* is not allowed; it must be None, 'lora', 'ia3' or a PeftConfig"):
        trained(tiny, adapter)


@pytest.mark.parametrize("other", [{"freeze": "embeddings"}, {"freeze": 0}, {"from_scratch": True}])
def test_with_what_an_adapter_does_not_go_together(tiny: Path, other: dict):
    with pytest.raises(ValueError, match=f"{next(iter(other))}=.* with an adapter"):
        TextClassifier(tiny, adapter="lora", **other).fit(["a", "b"], [0, 1])


def test_there_must_be_an_adapter_to_merge(tiny: Path):
    with pytest.raises(ValueError, match="no adapter to merge"):
        TextClassifier(tiny, **QUICK).fit(*keyword_texts(12)).merge_adapter()


def test_lora_is_in_every_linear_layer_of_the_encoder(tiny: Path):
    bert = trained(tiny, "lora").model_.bert
    plain = [name for name, part in bert.encoder.named_modules() if type(part) is torch.nn.Linear]
    assert plain and all("lora_" in name or name.endswith("base_layer") for name in plain)
    assert (adapter_config("lora").r, adapter_config("lora").lora_alpha) == (8, 16)


def test_without_peft_training_and_loading_say_how_to_get_it(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
):
    trained(tiny).save(tmp_path)
    monkeypatch.setitem(sys.modules, "peft", None)
    for needs in (lambda: trained(tiny), lambda: TextClassifier.load(tmp_path)):
        with pytest.raises(
            ModuleNotFoundError, match=r"adapters need PEFT; run: pip install 'bert-companion\[adapters\]'"
        ):
            needs()
