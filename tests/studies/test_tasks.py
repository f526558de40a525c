"""The public benchmarks: the right columns, scores worked by hand, one value a seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from typer.testing import CliRunner

from companion.cli import app
from companion.finetuning import TextClassifier
from companion.model.checkpoints import read_weights
from companion.studies.tasks import (
    TASKS,
    baseline_scores,
    by_task,
    data_checksum,
    measure_task,
    measure_tasks,
    tasks_table,
    weights_checksum,
)
from tests.toys import save_tiny


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "tiny", positions=512, words="good bad red blue the")


def write_task(folder: Path, rows: list[dict]) -> None:
    folder.mkdir(parents=True)
    for part in ("train", "validation"):
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_every_seed_is_scored_as_a_classifier_with_that_seed(tiny: Path, tmp_path: Path, monkeypatch):
    rows = [{"sentence": f"the {word}", "label": label} for word, label in [("good", "yes"), ("bad", "no")] * 8]
    write_task(tmp_path / "data" / "tasks" / "sst2", rows)
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path / "data"))
    options = {"epochs": 1, "learning_rate": 1e-3, "max_length": 16}
    measured = measure_task("sst2", tiny, seeds=(0, 3), **options)
    texts, labels = [row["sentence"] for row in rows], [row["label"] for row in rows]
    expected = [
        TextClassifier(tiny, random_state=seed, **options).fit(texts, labels).score(texts, labels) for seed in (0, 3)
    ]
    assert measured["scores"] == {"accuracy": expected}
    assert measured["median"]["accuracy"] == np.median(expected)
    assert measured["data"]["rows"] == {"train": 16, "validation": 16}
    assert measured["parameters"]["learning_rate"] == 1e-3 and measured["seeds"] == [0, 3]


def test_the_rate_that_is_searched_is_the_one_trained_with(tiny: Path, tmp_path: Path, monkeypatch):
    rows = [{"sentence": f"the {word}", "label": label} for word, label in [("good", "yes"), ("bad", "no")] * 8]
    write_task(tmp_path / "sst2", rows)
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path))
    measured = measure_task("sst2", tiny, seeds=(0,), search_rows=10, epochs=1, max_length=16)
    assert [sorted(one) for one in measured["search"]] == [["learning_rate", "score"]] * 2
    assert measured["parameters"]["learning_rate"] == measured["search"][0]["learning_rate"]
    assert measure_task("sst2", tiny, seeds=(0,), epochs=1, max_length=16)["search"] == []


def test_a_regression_of_pairs_is_correlated(tiny: Path, tmp_path: Path, monkeypatch):
    rows = [
        {"sentence1": f"the {first}", "sentence2": second, "score": float(first == second)}
        for first in ("red", "blue") for second in ("red", "blue") for _ in range(4)
    ]  # fmt: skip
    write_task(tmp_path / "data" / "stsb", rows)
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path / "data"))
    measured = measure_task("stsb", tiny, seeds=(1,), epochs=1, max_length=16)
    assert set(measured["scores"]) == {"pearson", "spearman"}
    assert all(-1 <= values[0] <= 1 for values in measured["scores"].values())


def test_scores_by_hand():
    truth, predicted = ["equivalent"] * 3 + ["not_equivalent"], ["equivalent"] * 4
    assert TASKS["mrpc"].scores["f1"](truth, predicted) == pytest.approx(2 * 0.75 * 1 / 1.75)
    assert TASKS["mrpc"].scores["accuracy"](truth, predicted) == 0.75
    assert TASKS["cola"].scores["matthews"](["a", "u", "a", "u"], ["a", "a", "a", "u"]) == pytest.approx(1 / 3**0.5)
    assert next(iter(TASKS["cola"].scores)) == "matthews"


def test_out_of_scope_texts_are_scored_apart():
    truth, predicted = ["pay", "pay", "call", "oos", "oos"], ["pay", "oos", "call", "oos", "pay"]
    scores = {name: score(truth, predicted) for name, score in TASKS["clinc150"].scores.items()}
    assert scores == {"in_scope_accuracy": pytest.approx(2 / 3), "out_of_scope_recall": 0.5}


def test_words_are_tagged_and_entities_scored(tiny: Path, tmp_path: Path, monkeypatch):
    rows = [{"tokens": ["the", word], "ner_tags": ["O", tag]} for word, tag in [("red", "B-LOC"), ("bad", "O")] * 8]
    write_task(tmp_path / "wnut17", rows)
    (tmp_path / "wnut17" / "test.jsonl").write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path))
    measured = measure_task("wnut17", tiny, seeds=(0,), epochs=20, learning_rate=1e-2)
    assert measured["scores"] == {"entity_f1": [1.0]} and measured["data"]["rows"] == {"train": 16, "test": 1}
    assert baseline_scores("wnut17", "constant") == {"entity_f1": 0.0}
    assert baseline_scores("wnut17", "bag_of_words") == {"entity_f1": 1.0}


def test_columns_become_texts_or_pairs():
    split = Dataset.from_dict({"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": ["x", "y"]})
    assert TASKS["rte"].rows(split) == ([("a", "c"), ("b", "d")], ["x", "y"])
    with pytest.raises(ValueError, match="column 'sentence' is not in the data, which has: sentence1"):
        TASKS["sst2"].rows(split)


def test_the_checksum_follows_the_rows():
    def splits(text: str) -> DatasetDict:
        return DatasetDict({part: Dataset.from_dict({"text": [text]}) for part in ("train", "validation")})

    assert data_checksum(splits("a")) == data_checksum(splits("a")) != data_checksum(splits("b"))


def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch):
    with pytest.raises(ValueError, match="task='glue' is not allowed; it must be one of 'sst2', 'cola'"):
        measure_task("glue")
    with pytest.raises(ValueError, match=r"seeds=\[\] is not allowed; it must be one seed or more"):
        measure_task("sst2", seeds=())


@pytest.fixture
def acceptability(tmp_path: Path, monkeypatch) -> Path:
    words = [("good red", "yes"), ("good blue", "yes"), ("bad red", "no")] * 4
    write_task(tmp_path / "data" / "cola", [{"sentence": text, "label": label} for text, label in words])
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path / "data"))
    return tmp_path


def test_the_baselines_are_one_answer_and_the_words(acceptability: Path):
    constant, words = (baseline_scores("cola", name) for name in ("constant", "bag_of_words"))
    assert constant == {"matthews": 0.0, "accuracy": pytest.approx(2 / 3)}
    assert words == {"matthews": 1.0, "accuracy": 1.0}


def test_a_constant_has_no_correlation(tmp_path: Path, monkeypatch):
    rows = [{"sentence1": f"{'red ' * n}", "sentence2": "blue", "score": float(n)} for n in range(1, 6)]
    write_task(tmp_path / "stsb", rows)
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path))
    assert baseline_scores("stsb", "constant") == {"pearson": None, "spearman": None}


def test_a_record_holds_both_networks_and_goes_on_where_it_stopped(tiny: Path, acceptability: Path, monkeypatch):
    output, options = acceptability / "scores.json", {"epochs": 1, "max_length": 16}
    record = measure_tasks(["cola"], tiny, output, seeds=2, progress=False, **options)
    assert record == json.loads(output.read_text(encoding="utf-8"))
    entry = by_task(record)["cola"]
    for part, from_scratch in (("pretrained", False), ("from_scratch", True)):
        expected = measure_task("cola", tiny, seeds=(0, 1), from_scratch=from_scratch, **options)
        assert entry[part]["scores"] == expected["scores"]
        assert entry[part]["parameters"]["from_scratch"] is from_scratch
    assert record["data"]["cola"]["rows"] == {"train": 12, "validation": 12}
    assert entry["bag_of_words"]["scores"]["accuracy"] == 1.0
    assert (
        entry["pretrained"]["provenance"]["command"]
        == "companion bench tasks --model tiny --task cola --seeds 2 --epochs 1 --max-length 16 --output scores.json"
    )
    monkeypatch.setattr("companion.studies.tasks.measure_task", lambda *_, **__: pytest.fail("measured again"))
    assert measure_tasks(["cola"], tiny, output, seeds=2, progress=False, **options) == record
    with pytest.raises(ValueError, match=r"scores.json is of another measurement, which differs in: seeds"):
        measure_tasks(["cola"], tiny, output, seeds=3, progress=False, **options)


def test_the_table_shows_medians_and_ranges_in_percent():
    scores = {"matthews": [0.1, 0.3, 0.2], "accuracy": [0.7, 0.7, 0.75]}
    fixed = {"matthews": 0.0, "accuracy": None}
    parts = {"constant": fixed, "bag_of_words": fixed, "pretrained": scores, "from_scratch": scores}
    entries = [{"task": "cola", "part": part, "scores": found} for part, found in parts.items()]
    lines = tasks_table({"config": {"model": "mini"}, "entries": entries}).splitlines()
    assert lines[0].split() == ["constant", "bag", "of", "words", "from", "scratch", "mini"]
    assert lines[1].split() == "cola, matthews 0.0 0.0 20.0 (10.0 to 30.0) 20.0 (10.0 to 30.0)".split()
    assert lines[2].split()[2:4] == ["-", "-"]


def test_the_command_measures_and_refuses_in_one_line(tiny: Path, acceptability: Path):
    output = str(acceptability / "scores.json")
    options = ["--model", str(tiny), "--epochs", "1", "--seeds", "1", "--output", output, "--no-progress"]
    result = CliRunner().invoke(app, ["bench", "tasks", "--task", "cola", *options])
    assert result.exit_code == 0 and result.output.startswith(" " * 34), result.output
    wrong = CliRunner().invoke(app, ["bench", "tasks", "--task", "glue", *options])
    assert wrong.exit_code == 2 and "task='glue' is not allowed; it must be one of 'sst2'" in wrong.output
    none = CliRunner().invoke(app, ["bench", "tasks", "--task", "cola", *options[:4], "--seeds", "0", *options[6:]])
    assert none.exit_code == 2 and "seeds=0 is not allowed" in none.output


def test_the_checksum_is_of_the_weights_and_not_of_the_file(tiny: Path, tmp_path: Path):
    weights = read_weights(tiny)
    torch.save(weights, tmp_path / "pytorch_model.bin")
    assert weights_checksum(tmp_path) == weights_checksum(tiny)
    name = next(iter(weights))
    torch.save(weights | {name: weights[name] + 1}, tmp_path / "pytorch_model.bin")
    assert weights_checksum(tmp_path) != weights_checksum(tiny)
