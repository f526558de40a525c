"""Which vector stands for a text: each pooling reads the vector it names, and runs are neither lost nor done twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from companion import BertConfig, BertModel
from companion.cli import app
from companion.model.heads import BertForSequenceClassification
from companion.studies.pooling import (
    POOLINGS,
    FirstTokenModel,
    MeanModel,
    NewPoolerClassifier,
    accuracies,
    measure_pooling,
    pooling_table,
)
from companion.support.devices import seed_everything
from tests.toys import save_tiny

IDS, MASK = torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
SIZES = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
OPTIONS = {"epochs": 1, "learning_rate": 1e-3, "max_length": 16, "precision": "fp32"}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "tiny", positions=512, words="good bad red blue the")


@pytest.fixture
def small_task(tmp_path: Path, monkeypatch) -> None:
    rows = [{"sentence": f"the {word}", "label": label} for word, label in [("good", "yes"), ("bad", "no")] * 8]
    folder = tmp_path / "data" / "tasks" / "sst2"
    folder.mkdir(parents=True)
    for part in ("train", "validation"):
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path / "data"))


def test_each_model_reads_the_vector_that_it_names():
    seed_everything(0)
    config = BertConfig.preset("tiny", vocab_size=20, **SIZES)
    for model_class in (BertForSequenceClassification, FirstTokenModel, MeanModel):
        model = model_class(config).eval()
        output = model.bert(IDS, MASK)
        hidden = output.last_hidden_state
        mean = torch.stack([hidden[0].mean(0), hidden[1, :3].mean(0)])
        vectors = {FirstTokenModel: hidden[:, 0], MeanModel: mean}.get(model_class, output.pooler_output)
        torch.testing.assert_close(model(IDS, MASK).logits, model.classifier(vectors))


def test_without_a_mask_the_mean_takes_every_token():
    seed_everything(0)
    model = MeanModel(BertConfig.preset("tiny", vocab_size=20, **SIZES)).eval()
    torch.testing.assert_close(model(IDS).logits, model(IDS, torch.ones_like(IDS)).logits)


def test_a_new_pooler_is_not_that_of_the_checkpoint_and_depends_on_the_seed_alone(tiny: Path):
    old = BertModel.from_pretrained(tiny)
    first, again, other = (NewPoolerClassifier(tiny)._start(seed)[0].bert for seed in (0, 0, 1))
    assert not torch.equal(first.pooler.dense.weight, old.pooler.dense.weight)
    assert torch.equal(first.pooler.dense.weight, again.pooler.dense.weight)
    assert not torch.equal(first.pooler.dense.weight, other.pooler.dense.weight)
    assert torch.equal(first.embeddings.tokens.weight, old.embeddings.tokens.weight)


def test_every_pooling_is_measured_with_every_seed_once(tiny: Path, small_task: None, tmp_path: Path, monkeypatch):
    output = tmp_path / "pooling.json"
    record = measure_pooling(tiny, output, task="sst2", seeds=2, progress=False, **OPTIONS)
    found = accuracies(record)
    assert list(found) == list(POOLINGS) and {len(values) for values in found.values()} == {2}
    assert all(0 <= value <= 100 for values in found.values() for value in values)
    assert record["entries"][0]["provenance"]["command"].startswith("companion bench pooling --model tiny --task sst2")
    monkeypatch.setattr("companion.finetuning.base.FineTuned.fit", lambda *_: pytest.fail("measured again"))
    assert measure_pooling(tiny, output, task="sst2", seeds=2, progress=False, **OPTIONS) == record


def test_the_table_has_a_row_for_each_pooling():
    entries = [{"pooling": name, "seed": seed, "accuracy": 0.5 + seed / 8} for seed in (1, 0) for name in POOLINGS]
    assert pooling_table({"entries": entries}).splitlines()[-1] == "mean           50.0   62.5"


def test_a_task_of_numbers_and_no_seed_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="task='stsb'"):
        measure_pooling("mini", tmp_path / "x.json", task="stsb")
    with pytest.raises(ValueError, match="seeds=0"):
        measure_pooling("mini", tmp_path / "x.json", seeds=0)


def test_the_command_prints_the_table(tiny: Path, small_task: None, tmp_path: Path):
    options = ["--model", str(tiny), "--task", "sst2", "--seeds", "1", "--epochs", "1", "--precision", "fp32"]
    options += ["--no-progress", "--output", str(tmp_path / "pooling.json")]
    result = CliRunner().invoke(app, ["bench", "pooling", *options])
    assert result.exit_code == 0, result.output
    assert [line.split("  ")[0] for line in result.output.splitlines()] == list(POOLINGS)
