"""The public benchmarks: the right columns, scores worked by hand, one value a seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from companion import BertConfig, BertModel, Tokenizer
from companion.datasets import texts_and_labels
from companion.devices import seed_everything
from companion.finetuning import TextClassifier
from companion.finetuning.tasks import TASKS, data_checksum, measure_task


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    tokenizer = Tokenizer.train(["good bad red blue the"] * 9, vocab_size=120)
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    seed_everything(7)
    BertModel(BertConfig.preset("tiny", vocab_size=tokenizer.vocab_size, **sizes)).save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


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
    expected = [TextClassifier(tiny, seed=seed, **options).fit(texts, labels).score(texts, labels) for seed in (0, 3)]
    assert measured["scores"] == {"accuracy": expected}
    assert measured["median"]["accuracy"] == np.median(expected)
    assert measured["rows"] == {"train": 16, "validation": 16}
    assert measured["parameters"]["learning_rate"] == 1e-3 and measured["seeds"] == [0, 3]


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


def test_columns_become_texts_or_pairs():
    split = Dataset.from_dict({"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": ["x", "y"]})
    assert texts_and_labels(split, TASKS["rte"].texts, "label") == ([("a", "c"), ("b", "d")], ["x", "y"])
    with pytest.raises(ValueError, match="column 'sentence' is not in the data, which has: sentence1"):
        texts_and_labels(split, TASKS["sst2"].texts, "label")


def test_the_checksum_follows_the_rows():
    def splits(text: str) -> DatasetDict:
        return DatasetDict({part: Dataset.from_dict({"text": [text]}) for part in ("train", "validation")})

    assert data_checksum(splits("a")) == data_checksum(splits("a")) != data_checksum(splits("b"))


def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch):
    with pytest.raises(ValueError, match="task 'glue' is unknown; choose from sst2, cola"):
        measure_task("glue")
    with pytest.raises(ValueError, match="seeds is empty"):
        measure_task("sst2", seeds=())
