"""Few labels: samples are balanced and nested, every method learns from the same texts, and no run is done twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from companion.cli import app
from companion.studies import few_labels
from companion.studies.few_labels import (
    LABELS,
    METHODS,
    VARIANTS,
    answers_of,
    balanced_sample,
    few_label_rows,
    few_labels_table,
    learning_curves,
    measure_few_labels,
    spreads,
)
from tests.toys import save_tiny

COLOURS = [f"the {word} {number}" for number in range(60) for word in ("red", "blue")], ["warm", "cold"] * 60


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "tiny", positions=512, words="red blue the 0 1 2 3 4 5 6 7 8 9")


@pytest.fixture
def colours(monkeypatch) -> None:
    monkeypatch.setattr(few_labels, "few_label_rows", lambda name: (COLOURS, COLOURS))
    monkeypatch.setattr(few_labels, "LABELS", (2, 10))
    monkeypatch.setattr(few_labels, "passes", lambda labels: 1)


def test_a_sample_has_as_many_of_every_class_until_one_is_used_up():
    labels = ["a"] * 10 + ["b"] * 10 + ["c"] * 2
    assert Counter(labels[i] for i in balanced_sample(labels, 6, seed=0)) == {"a": 2, "b": 2, "c": 2}
    assert Counter(labels[i] for i in balanced_sample(labels, 11, seed=0)) == {"a": 5, "b": 4, "c": 2}
    assert sorted(balanced_sample(labels, 22, seed=0)) == list(range(22))


def test_a_larger_sample_holds_the_smaller_one_and_another_seed_draws_other_texts():
    labels = list("abcd") * 25
    small, large = balanced_sample(labels, 8, seed=3), balanced_sample(labels, 40, seed=3)
    np.testing.assert_array_equal(large[:8], small)
    assert set(balanced_sample(labels, 8, seed=4)) != set(small)


@pytest.mark.parametrize("count", [1, 5])
def test_a_sample_with_too_few_or_too_many_texts_is_refused(count):
    with pytest.raises(ValueError, match=f"count={count} is not allowed; it must be from 2, the classes, to 4"):
        balanced_sample(["a", "b", "a", "b"], count, seed=0)


def test_the_texts_of_genres_are_words_joined_and_those_of_headlines_name_the_company():
    (texts, labels), (tested, truth) = few_label_rows("genres")
    assert (len(texts), len(tested)) == (250, 280) and len(set(labels)) == len(set(truth)) == 10
    assert all(isinstance(text, str) for text in texts)
    (texts, _), _ = few_label_rows("headlines")
    assert texts[0].endswith(" Tortoise Insurance")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_answers_with_labels_it_learned(tiny: Path, method):
    answers = answers_of(method, (COLOURS[0][:20], COLOURS[1][:20]), COLOURS[0][20:30], tiny, 0, epochs=2)
    assert len(answers) == 10 and set(answers) <= {"warm", "cold"}


def test_a_record_has_every_method_size_and_sample_once(tiny: Path, colours: None, tmp_path: Path, monkeypatch):
    output = tmp_path / "few.json"
    record = measure_few_labels(tiny, output, seeds=2, spread=1, progress=False, precision="fp32")
    curves = learning_curves(record, "genres")
    assert list(curves) == list(METHODS)
    assert all(len(curve[labels]) == 2 for curve in curves.values() for labels in (2, 10))
    assert {name: len(values) for name, values in spreads(record, "genres").items()} == dict.fromkeys(VARIANTS, 1)
    assert record["entries"][0]["provenance"]["command"].startswith("companion bench few-labels --model tiny")
    monkeypatch.setattr(few_labels, "answers_of", lambda *_, **__: pytest.fail("measured again"))
    again = measure_few_labels(tiny, output, seeds=2, spread=1, progress=False, precision="fp32")
    assert again == record


def test_the_table_has_medians_in_percent():
    methods = [(method, labels, seed) for method in METHODS for labels in LABELS for seed in range(3)]
    entries = [
        {"task": "genres", "method": m, "labels": n, "draw": s, "seed": s, "accuracy": s / 4} for m, n, s in methods
    ]
    assert few_labels_table({"entries": entries}).splitlines()[1].split() == ["genres,", "fine-tuned", *["25.0"] * 3]


def test_one_answer_to_all_is_the_commonest_in_every_text():
    assert few_labels._scores(np.array(["a", "a", "a", "b"]), ["a", "b", "a", "a"]) == {
        "accuracy": 0.5,
        "commonest": 0.75,
    }


def test_a_record_of_some_methods_has_no_others_and_its_table_says_so(tiny: Path, colours: None, tmp_path: Path):
    record = measure_few_labels(tiny, tmp_path / "x.json", methods=["bag of words"], seeds=1, progress=False)
    assert {entry["method"] for entry in record["entries"]} == {"bag of words"}
    assert few_labels_table(record).splitlines()[1].split()[-2:] == ["-", "-"]
    with pytest.raises(ValueError, match="method='bags'"):
        measure_few_labels(tiny, tmp_path / "y.json", methods=["bags"], progress=False)


def test_an_unknown_task_and_no_seed_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="task='sst3'"):
        measure_few_labels("mini", tmp_path / "x.json", task="sst3")
    with pytest.raises(ValueError, match="seeds=0"):
        measure_few_labels("mini", tmp_path / "x.json", seeds=0)


def test_the_command_prints_the_table(tiny: Path, colours: None, tmp_path: Path):
    options = ["--model", str(tiny), "--seeds", "1", "--precision", "fp32", "--no-progress"]
    result = CliRunner().invoke(app, ["bench", "few-labels", *options, "--output", str(tmp_path / "few.json")])
    assert result.exit_code == 0, result.output
    assert [line.split("  ")[0] for line in result.output.splitlines()[1:]] == [f"genres, {name}" for name in METHODS]
