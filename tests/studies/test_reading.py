"""Answers from a text, measured: each training once, beside its baselines, in a record that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from companion import BertConfig, BertModel, Tokenizer
from companion.cli import app
from companion.studies import reading
from companion.studies.reading import ContinuedReader, grouped, measure_reading, reading_scores, reading_table
from companion.support.devices import seed_everything

TEXT = "Anna lives in Rome. Ben works in Oslo."
ASKED = [("Where does Anna live?", ["Rome"]), ("Where does Ben work?", ["Oslo"]), ("Who is old?", [])]
OPTIONS = {"epochs": 1, "learning_rate": 1e-3, "max_length": 32, "precision": "fp32"}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    tokenizer = Tokenizer.train([TEXT, *(question for question, _ in ASKED)] * 9, vocab_size=120)
    seed_everything(7)
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig.preset("tiny", vocab_size=tokenizer.vocab_size, **sizes)).save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def small_sets(monkeypatch) -> None:
    from datasets import Dataset, DatasetDict

    def rows(asked):
        starts = [[TEXT.find(one) for one in answers] for _, answers in asked]
        answers = [{"text": one, "answer_start": s} for (_, one), s in zip(asked, starts, strict=True)]
        return Dataset.from_dict(
            {"question": [q for q, _ in asked], "context": [TEXT] * len(asked), "answers": answers}
        )

    sets = {
        "passages": DatasetDict(train=rows(ASKED * 2), test=rows(ASKED)),
        "squad_v1_subset": DatasetDict(train=rows(ASKED[:2] * 2), validation=rows(ASKED[:2])),
    }
    monkeypatch.setattr(reading, "load_dataset", lambda name, **_: sets[name])


def test_scores_are_told_apart_by_whether_there_is_an_answer():
    gold = [["red car"], ["blue"], [], []]
    assert reading_scores(["car", "", "", "green"], gold) == pytest.approx(
        {"exact_match": 0.25, "f1": (2 / 3 + 1) / 4, "answerable_f1": 1 / 3, "silent": 0.5, "refused": 0.5}
    )
    assert "refused" not in reading_scores(["blue"], [["blue"]])


def test_every_training_is_measured_once_and_the_record_goes_on(
    tiny: Path, small_sets: None, tmp_path: Path, monkeypatch
):
    output = tmp_path / "reading.json"
    first = measure_reading(tiny, output, seeds=1, progress=False, **OPTIONS)
    assert list(grouped(first)) == [*reading.BASELINES, "passages", "from scratch, passages"]
    assert first["entries"][0]["scores"]["passages"] == pytest.approx(
        {"exact_match": 1 / 3, "f1": 1 / 3, "answerable_f1": 0, "silent": 1, "refused": 1}
    )
    both = measure_reading(tiny, output, train=["squad_v1_subset"], seeds=1, progress=False, **OPTIONS)
    assert both["entries"][: len(first["entries"])] == first["entries"]
    assert set(grouped(both)["no answer"][1]["scores"]) == {"squad_v1_subset"}  # the set is new, the baselines too
    last = both["entries"][-2:]
    assert [entry["trained"] for entry in last] == ["squad_v1_subset", "squad_v1_subset, then passages"]
    assert all(set(entry["scores"]) == set(reading.SETS) for entry in last)
    assert last[0]["scores"]["passages"]["refused"] == 0  # SQuAD has no question without answer
    command = last[0]["provenance"]["command"]
    assert command.startswith("companion bench reading --model tiny") and "--train squad_v1_subset" in command
    monkeypatch.setattr(reading, "_train", lambda *_: pytest.fail("trained twice"))
    trained = measure_reading(tiny, output, train=["passages", "squad_v1_subset"], seeds=1, progress=False, **OPTIONS)
    assert trained == both
    assert reading_table(both).count("\n") == 3 * 2 + 2 + 2 * 2


def test_a_continued_reader_starts_from_the_head_it_finds(tiny: Path, tmp_path: Path):
    pairs, answers = [(question, TEXT) for question, _ in ASKED], [next(iter(one), None) for _, one in ASKED]
    settings = {"learning_rate": 1e-3, "max_length": 32, "batch_size": 4}
    reading.QuestionAnswerer(tiny, epochs=2, **settings).fit(pairs, answers).save(tmp_path / "first")
    learned = reading.QuestionAnswerer.load(tmp_path / "first").model_
    started, _ = ContinuedReader(tmp_path / "first", **settings)._start(0)
    assert all((a == b).all() for a, b in zip(learned.parameters(), started.parameters(), strict=True))


def test_mistakes_are_named_before_the_work(tiny: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="train='squad'"):
        measure_reading(tiny, tmp_path / "r.json", train=["squad"])
    with pytest.raises(ValueError, match="seeds=0"):
        measure_reading(tiny, tmp_path / "r.json", seeds=0)


def test_the_command_prints_the_table(tiny: Path, small_sets: None, tmp_path: Path):
    output = tmp_path / "reading.json"
    call = ["bench", "reading", "--model", str(tiny), "--seeds", "1", "--output", str(output), "--no-progress"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    assert "from scratch, passages" in result.stdout and json.loads(output.read_text())["kind"] == "reading"
