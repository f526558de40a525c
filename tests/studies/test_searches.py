"""Searches side by side: by words and by the vectors of models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from companion.cli import app
from companion.studies import searches
from companion.studies.searches import WORDINGS, WORDS, measure_searches, searches_table

DOCUMENTS = {"shutil.rmtree": "Delete an entire directory tree.", "time.sleep": "Wait for some seconds."}
QUESTIONS = {
    "question": ["delete a directory tree", "wait some seconds", "remove a folder and all in it"],
    "names": [["shutil.rmtree"], ["time.sleep"], ["shutil.rmtree"]],
    "wording": list(WORDINGS),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection of two texts and a question in each wording."""
    monkeypatch.setattr(searches, "documented", lambda modules: DOCUMENTS)
    monkeypatch.setattr(searches, "load_dataset", lambda name: {"test": Columns(QUESTIONS)})


class Columns(dict):
    def __len__(self) -> int:
        return len(QUESTIONS["question"])


def test_every_search_answers_every_question(small: None, tmp_path: Path):
    record = measure_searches(["mini"], tmp_path / "record.json")
    assert [entry["search"] for entry in record["entries"]] == [WORDS, "mini"]
    assert record["data"]["texts"] == 2
    for entry in record["entries"]:
        assert [len(values) for values in entry["reciprocal_ranks"].values()] == [1, 1, 1]
        assert entry["provenance"]["hardware"]["device"]
    by_words = record["entries"][0]["reciprocal_ranks"]
    assert (by_words["documentation"], by_words["everyday"]) == ([1.0], [1.0])
    assert by_words["distant"] == [pytest.approx(1 / 1.5)]  # no word in common: a tie of two texts, as chance breaks it


def test_what_is_measured_is_not_measured_again(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = measure_searches(["mini"], tmp_path / "record.json")
    monkeypatch.setattr(searches, "_by_vectors", lambda *_: pytest.fail("measured again"))
    assert measure_searches(["mini"], tmp_path / "record.json") == first


def test_another_collection_is_refused(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    measure_searches([], tmp_path / "record.json")
    monkeypatch.setattr(searches, "documented", lambda modules: DOCUMENTS | {"more": "Another text."})
    with pytest.raises(ValueError, match="another measurement"):
        measure_searches([], tmp_path / "record.json")


def test_a_model_that_is_not_there_is_refused_before_the_work(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        measure_searches([tmp_path / "none"], tmp_path / "record.json")
    assert not (tmp_path / "record.json").exists()


def test_the_command_prints_means_and_writes_the_record(small: None, tmp_path: Path):
    result = CliRunner().invoke(app, ["bench", "search", "--output", str(tmp_path / "record.json")])
    record = json.loads((tmp_path / "record.json").read_text())
    assert result.exit_code == 0, result.output
    mean = np.mean(record["entries"][1]["reciprocal_ranks"]["everyday"])
    assert f"{mean:.3f}" in result.stdout
    assert searches_table(record) in result.stdout
