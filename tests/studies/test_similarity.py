"""Texts read alone and together: cosines by hand, a second order of a search, and a record that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from companion import BertModel, Tokenizer
from companion.cli import app
from companion.studies.similarity import (
    BI,
    CROSS,
    UNTUNED,
    BiEncoder,
    Questions,
    measure_similarity,
    similarity_table,
)
from tests.toys import save_tiny

ROWS = [
    ("a red cat", "the red cat", 5.0),
    ("a blue dog", "the blue dog", 4.0),
    ("the sun", "a red dog", 2.5),
    ("a red cat", "the cat", 4.5),
    ("blue", "the sun", 0.0),
    ("a dog", "the moon", 1.2),
    ("the moon", "a moon", 3.2),
]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "tiny", positions=512, words="a red cat the blue dog sun moon")


@pytest.fixture
def small_stsb(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "data" / "tasks" / "stsb"
    folder.mkdir(parents=True)
    rows = [json.dumps(dict(zip(("sentence1", "sentence2", "score"), row, strict=True))) for row in ROWS]
    for part in ("train", "validation"):
        (folder / f"{part}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path / "data"))


def test_what_means_the_same_is_searched_for_among_all_second_texts(small_stsb: None):
    asked = Questions.load()
    assert asked.collection == ["the red cat", "the blue dog", "a red dog", "the cat", "the sun", "the moon", "a moon"]
    assert asked.searches == {"a red cat": [0, 3], "a blue dog": [1]}
    assert len(asked.own) == 328


def test_a_pair_scores_the_cosine_of_its_vectors_whatever_stands_beside_it(tiny: Path):
    encoder = BiEncoder(BertModel.from_pretrained(tiny), Tokenizer.from_pretrained(tiny))
    pairs = [("a red cat", "the red cat"), ("the sun", "a red dog with the blue moon"), ("a dog", "a dog")]
    together = encoder.predict(pairs)
    assert together[2] == pytest.approx(1, abs=1e-6)
    assert together == pytest.approx([encoder.predict([pair])[0] for pair in pairs], abs=1e-5)
    assert together == pytest.approx(encoder.predict([(b, a) for a, b in pairs]), abs=1e-5)
    texts = [text for row in ROWS for text in row[:2]]
    encoder.centre(texts)
    found = encoder.vectors(texts)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-5)
    assert together[0] > encoder.predict(pairs)[0]  # without the common direction, two texts are less alike


def test_each_method_is_measured_once_and_trained_ones_for_each_seed(
    tiny: Path, small_stsb: None, tmp_path: Path, monkeypatch
):
    output, options = tmp_path / "similarity.json", {"learning_rate": 1e-3, "precision": "fp32", "progress": False}
    record = measure_similarity(tiny, output, seeds=1, **options)
    names = [(entry["method"], entry.get("seed")) for entry in record["entries"]]
    assert names == [(method, None) for method in UNTUNED] + [(BI, 0), (CROSS, 0)]
    assert all(len(entry["own"]) == 328 and len(entry["by_score"]) == 5 for entry in record["entries"])
    centred = next(entry for entry in record["entries"] if entry["method"] == "mean, centred")
    assert abs(centred["random"]) < 0.5
    assert len(similarity_table(record).splitlines()) == 8
    result = CliRunner().invoke(
        app,
        ["bench", "similarity", "--model", str(tiny), "--seeds", "1", "--learning-rate", "0.001", "--precision", "fp32"]
        + ["--no-progress", "--output", str(output)],
    )
    assert result.exit_code == 0 and result.output == similarity_table(record) + "\n"  # nothing is measured again
    with pytest.raises(ValueError, match="seeds=0"):
        measure_similarity(tiny, output, seeds=0)
