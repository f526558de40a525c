"""Fine-tuning and prediction beside others: that all do the same work, and that the figures are right."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from companion.cli import app
from companion.studies import finetuning_speed
from companion.studies.finetuning_cases import LENGTHS, FinetuningCase, made_texts

pytestmark = pytest.mark.slow
QUICK = "--model tiny --texts 24 --rounds 2 --max-length 16 --batch-size 8 --threads 1 --device cpu --precision fp32"


def command(name: str, path, *more: str):
    return CliRunner().invoke(app, ["bench", name, *QUICK.split(), "--no-progress", "--output", str(path), *more])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("record") / "speed.json"
    return path, command("finetune", path, "--learning-rate", "1e-3")


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("record") / "speed.json"
    return path, command("predict", path)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_texts_are_words_of_reviews_of_one_label_in_the_lengths_that_are_said(lengths: str):
    case = FinetuningCase(lengths=lengths, texts=3000)
    texts, labels = made_texts(case)
    words = [len(text.split()) for text in texts]
    deciles = np.quantile(words, np.linspace(0, 1, 11))
    np.testing.assert_allclose(deciles[1:-1], LENGTHS[lengths][1:-1], rtol=0.12, atol=1.01)
    assert min(words) >= LENGTHS[lengths][0] and max(words) <= LENGTHS[lengths][-1]
    assert labels.count("positive") == labels.count("negative") == 1500
    assert made_texts(case) == (texts, labels) != made_texts(FinetuningCase(lengths=lengths, texts=3000, seed=1))


def test_all_train_on_the_same_for_an_epoch(trained):
    path, result = trained
    assert result.exit_code == 0, result.output
    (entry,) = json.loads(path.read_text())["entries"]
    losses = {row["name"]: row["mean_loss"] for row in entry["variants"]}
    assert list(losses) == ["companion fp32", "padded loop fp32", "Trainer fp32", "Trainer grouped fp32"]
    assert all(0.3 < loss < 1.2 for loss in losses.values())
    assert all(len(row["seconds"]) == 2 for row in entry["variants"])


def test_the_figures_of_the_record_follow_from_its_seconds(trained):
    (entry,) = json.loads(trained[0].read_text())["entries"]
    ours, *others = entry["variants"]
    for row in entry["variants"]:
        assert row["texts_per_second"] == pytest.approx(np.median(24 / np.array(row["seconds"])), rel=0.01)
    assert [row["theirs"] for row in entry["comparisons"]] == [row["name"] for row in others]
    for pair, row in zip(entry["comparisons"], others, strict=True):
        assert pair["speed"] == pytest.approx(np.median(np.divide(row["seconds"], ours["seconds"])), rel=0.01)
        assert pair["memory"] == ours["peak_memory_bytes"] / row["peak_memory_bytes"]


def test_predictions_are_those_of_the_pipeline(predicted):
    path, result = predicted
    assert result.exit_code == 0, result.output
    (entry,) = json.loads(path.read_text())["entries"]
    assert {row["name"]: row["same_answers"] for row in entry["variants"]} == {
        "companion fp32": 1.0,
        "pipeline fp32": 1.0,
    }


def test_only_those_that_are_named_are_compared_with():
    case = FinetuningCase(against=["padded loop fp32", "Trainer fp32"])
    assert [one.name for one in case.trainers] == ["padded loop fp32", "Trainer fp32"]
    assert "'--against=padded loop fp32' '--against=Trainer fp32'" in finetuning_speed._command("finetune", case)
    with pytest.raises(ValueError, match="against='Trainer' is not allowed; it must be one of 'padded loop fp32'"):
        FinetuningCase(against=["Trainer"])


@pytest.mark.parametrize("name", ["finetune", "predict"])
def test_the_command_in_the_record_is_one_that_measures_the_same(trained, predicted, monkeypatch, name: str):
    path = trained[0] if name == "finetune" else predicted[0]
    record, seen = json.loads(path.read_text()), []
    function = {"finetune": "benchmark_finetuning", "predict": "benchmark_prediction"}[name]
    monkeypatch.setattr(finetuning_speed, function, lambda case, **_: seen.append(case) or record)
    again = CliRunner().invoke(app, record["entries"][0]["provenance"]["command"].split()[1:])
    assert again.exit_code == 0, again.output
    config = record["entries"][0]["config"]
    assert {key: value for key, value in json.loads(json.dumps(vars(seen[0]))).items()} == config


def test_the_table_shows_what_the_record_says(trained):
    _, result = trained
    assert "tiny, 24 short texts in batches of 8; wall clock, 1 thread(s), medians of 2 passes" in result.stdout
    assert re.search(r"companion fp32 : Trainer grouped fp32 +[\d.]+x", result.stdout)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "huge"}, "model='huge' is not allowed; it must be one of 'tiny', 'mini'"),
        ({"lengths": "odd"}, "lengths='odd' is not allowed; it must be one of 'short', 'long'"),
        ({"vocab_size": 100}, "vocab_size=100 is not allowed"),
        ({"texts": 0}, "texts=0 is not allowed"),
        ({"rounds": 0}, "rounds=0 is not allowed"),
        ({"max_length": 513}, "max_length=513 is not allowed"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 is not allowed"),
        ({"precisions": ()}, "precisions=.* is not allowed"),
        ({"clock": "sun"}, "clock='sun' is not allowed"),
        ({"clock": "cpu", "threads": 2}, "clock='cpu' adds up the time of all threads; pass threads=1"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        FinetuningCase(**changes)
