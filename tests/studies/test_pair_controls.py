"""What a classifier of pairs reads: controls see what they name, and answers are kept as they were given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from companion import Tokenizer
from companion.cli import app
from companion.studies.pairs import (
    CONTROLS,
    PAIRED,
    VIEWS,
    SegmentClassifier,
    accuracies,
    answers,
    control_answers,
    measure_controls,
    measure_pairs,
    pairs_table,
    shared_words,
)
from tests.toys import save_tiny

OPTIONS = {"epochs": 1, "learning_rate": 1e-3, "max_length": 16, "precision": "fp32"}
ROWS = [("the red one", word, label) for word, label in [("good", "entailment"), ("bad", "not_entailment")] * 8]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "tiny", positions=512, words="good bad red blue the one")


@pytest.fixture
def small_task(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "data" / "tasks" / "rte"
    folder.mkdir(parents=True)
    rows = [json.dumps(dict(zip(("sentence1", "sentence2", "label"), row, strict=True))) for row in ROWS]
    for part in ("train", "validation"):
        (folder / f"{part}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path / "data"))


def test_shared_words_are_counted_once_each_and_without_case():
    assert shared_words([("A cat sat, a cat!", "The cat sat down")]).tolist() == [[2 / 5, 2 / 4, 2 / 3, 1]]
    assert shared_words([("one", "two"), ("same words", "Words same.")]).tolist() == [[0, 0, 0, 0], [1, 1, 1, 0]]


def test_a_control_sees_what_it_names():
    pairs = [("red", "good"), ("red", "bad")]
    assert CONTROLS["both texts"](pairs) == ["red good", "red bad"]
    assert CONTROLS["first alone"](pairs) == ["red", "red"] and CONTROLS["second alone"](pairs) == ["good", "bad"]
    train = [(a, b) for a, b, _ in ROWS], [label for *_, label in ROWS]
    assert control_answers("second alone", train, pairs).tolist() == ["entailment", "not_entailment"]
    assert len(set(control_answers("first alone", train, pairs))) == 1
    with pytest.raises(ValueError, match="control='third'"):
        control_answers("third", train, pairs)


def test_without_segments_all_tokens_are_of_the_first(tiny: Path):
    tokenizer, estimator = Tokenizer.from_pretrained(tiny), SegmentClassifier(tiny, max_length=16)
    with_segments = estimator._encode(tokenizer, [("red", "good")])
    assert with_segments["token_type_ids"] == [[0, 0, 0, 1, 1]]
    estimator.segments = False
    without = estimator._encode(tokenizer, [("red", "good")])
    assert without["token_type_ids"] == [[0] * 5] and without["input_ids"] == with_segments["input_ids"]


def test_every_training_is_measured_once_and_keeps_its_answers(
    tiny: Path, small_task: None, tmp_path: Path, monkeypatch
):
    output = tmp_path / "rte-pairs.json"
    record = measure_pairs(tiny, output, task="rte", seeds=2, progress=False, **OPTIONS)
    assert record["config"]["labels"] == ["entailment", "not_entailment"]
    found = accuracies(record)
    assert list(found) == list(VIEWS) and {len(values) for values in found.values()} == {2}
    truth = np.array([label for *_, label in ROWS])
    given = answers(record, "both", "swapped")
    assert given.shape == (2, 16) and set(given.flat) <= set(truth)
    assert found["swapped when asked"] == (100 * (given == truth).mean(axis=1)).tolist()
    assert len(pairs_table(record).splitlines()) == len(VIEWS)
    monkeypatch.setattr("companion.finetuning.base.FineTuned.fit", lambda *_: pytest.fail("measured again"))
    assert measure_pairs(tiny, output, task="rte", seeds=2, progress=False, **OPTIONS) == record


def test_controls_are_scored_beside_the_commonest_label(small_task: None, tmp_path: Path):
    record = measure_controls(["rte"], tmp_path / "controls.json")
    right = {entry["control"]: entry["right"] for entry in record["entries"]}
    assert right == {"constant": 8, "both texts": 16, "first alone": 8, "second alone": 16, "shared words": 8}
    assert measure_controls(["rte"], tmp_path / "controls.json") == record


def test_what_is_no_task_of_pairs_is_refused(tmp_path: Path):
    assert PAIRED == ("mrpc", "rte", "pairs")
    for measure in (
        lambda: measure_pairs("mini", tmp_path / "x", task="sst2"),
        lambda: measure_controls(["stsb"], "x"),
    ):
        with pytest.raises(ValueError, match="task="):
            measure()


def test_the_commands_print_their_tables(tiny: Path, small_task: None, tmp_path: Path):
    options = ["--model", str(tiny), "--task", "rte", "--seeds", "1", "--epochs", "1", "--precision", "fp32"]
    result = CliRunner().invoke(
        app, ["bench", "pairs", *options, "--no-progress", "--output", str(tmp_path / "p.json")]
    )
    assert result.exit_code == 0, result.output
    assert [line.split("  ")[0] for line in result.output.splitlines()] == list(VIEWS)
    result = CliRunner().invoke(app, ["bench", "controls", "--task", "rte", "--output", str(tmp_path / "c.json")])
    assert result.exit_code == 0 and "second alone" in result.output
