"""What a classifier of relations reads: views, the vectors at the marks, and answers kept as they were given."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from companion import Tokenizer, load_dataset
from companion.cli import app
from companion.finetuning.texts import encode_texts
from companion.studies.relations import (
    BETWEEN,
    TRAININGS,
    VIEWS,
    MarkClassifier,
    answers,
    measure_relations,
    relation_f1,
    relations_table,
)
from tests.toys import save_tiny

OPTIONS = {"epochs": 1, "learning_rate": 1e-3, "precision": "fp32"}
ROW = {"text": "Gail owns Fjord.", "head": [10, 15], "tail": [0, 4], "head_type": "ORG", "tail_type": "PER"}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "tiny", positions=512, words="@ # good bad red blue the one")


def test_every_view_is_what_its_name_says():
    assert {name: view(ROW) for name, view in VIEWS.items()} == {
        "plain text": "Gail owns Fjord.",
        "names alone": "@ Fjord @ # Gail #",
        "marks": "# Gail # owns @ Fjord @.",
        "marks and types": "# ^ person ^ Gail # owns @ * company * Fjord @.",
        "types for names": "# person # owns @ company @.",
    }


def test_a_relation_of_the_set_holds_between_its_types():
    for row in load_dataset("relations")["train"]:
        assert row["relation"] == "none" or (row["head_type"], row["tail_type"]) in BETWEEN[row["relation"]]


def test_the_head_reads_the_first_of_each_mark(tiny: Path):
    texts = ["the # red # @ blue @ good", "@ one @ # bad #"]
    model = MarkClassifier(tiny, **OPTIONS).fit(texts, ["a", "b"]).model_.eval()
    rows = encode_texts(Tokenizer.from_pretrained(tiny), texts, 16)
    for ids, places in zip(rows["input_ids"], ((5, 2), (1, 4)), strict=True):
        one = torch.tensor([ids])
        hidden = model.bert(one).last_hidden_state[0]
        expected = model.classifier(torch.cat([hidden[i] for i in places]))
        torch.testing.assert_close(model(one).logits[0], expected)
        torch.testing.assert_close(model(one, output_hidden_states=True).logits[0], expected)
    with pytest.raises(ValueError, match="input_ids"):
        model()


def test_a_saved_classifier_reads_the_marks_again(tiny: Path, tmp_path: Path):
    texts = ["the # red # @ blue @ good", "@ one @ # bad #"]
    classifier = MarkClassifier(tiny, **OPTIONS).fit(texts, ["a", "b"])
    classifier.save(tmp_path / "saved")
    loaded = MarkClassifier.load(tmp_path / "saved")
    assert loaded.model_.marks == classifier.model_.marks
    np.testing.assert_array_equal(loaded.predict_proba(texts), classifier.predict_proba(texts))
    with pytest.raises(ValueError, match="lacks '@' or '#'.*max_length"):
        loaded.predict(["@ one @ is good", *texts])


def test_f1_of_the_relations_by_hand():
    truth = np.array(["founded", "born_in", "none", "none"])
    found = np.array(["founded", "founded", "founded", "none"])
    assert relation_f1(truth, found) == 2 * 1 / (3 + 2)
    assert relation_f1(truth, np.array(["none"] * 4)) == 0.0
    assert relation_f1(np.array(["none"]), np.array(["none"])) == 0.0


def test_every_training_is_measured_once_and_keeps_its_answers(tiny: Path, tmp_path: Path, monkeypatch):
    output = tmp_path / "relations.json"
    record = measure_relations(tiny, output, seeds=1, progress=False, **OPTIONS)
    test = load_dataset("relations")["test"]
    for name in TRAININGS:
        given = answers(record, name)
        assert given.shape == (1, len(test)) and set(given.flat) <= set(test["relation"])
    commands = {entry["training"]: entry["provenance"]["command"] for entry in record["entries"]}
    assert all(f"--training {shlex.quote(name)} " in command for name, command in commands.items())
    assert [line[:30].strip() for line in relations_table(record).splitlines()] == list(TRAININGS)
    with pytest.raises(ValueError, match="training='marks only'"):
        measure_relations(tiny, output, trainings=["marks only"])
    monkeypatch.setattr("companion.finetuning.base.FineTuned.fit", lambda *_: pytest.fail("measured again"))
    assert measure_relations(tiny, output, seeds=1, progress=False, **OPTIONS) == record
    options = ["--model", str(tiny), "--seeds", "0", "--output", str(tmp_path / "other.json")]
    assert "seeds=0" in CliRunner().invoke(app, ["bench", "relations", *options]).output
