"""The vocabulary of a run is that of its settings, and a text that cannot teach is noticed before the training."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from companion.config import BertConfig
from companion.data import plain
from companion.model.heads import BertForPreTraining
from companion.pretraining import PretrainingConfig, pretrain, run
from companion.pretraining.record import source_names
from companion.pretraining.vocabulary import learn_or_load_tokenizer
from companion.text.tokenizer import Tokenizer
from companion.training.settings import TrainingSettings
from tests.toys import animal_documents, write_documents

SHAPE = BertConfig(200, 16, 1, 2, 32, max_position_embeddings=32)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_documents(tmp_path / "animals.txt", animal_documents(20))


def config(text: Path | str, folder: Path, **changes: object) -> PretrainingConfig:
    training = TrainingSettings(steps=2, precision="fp32", device="cpu", log_every=1)
    options = {"training": training, "model": SHAPE, "vocab_size": 60, "batch_size": 4, "max_tokens": 24} | changes
    return PretrainingConfig(source=text, folder=folder, **options)


def learned(*arguments: object, **changes: object) -> Tokenizer:
    return learn_or_load_tokenizer(config(*arguments, **changes), progress=False)


def test_a_vocabulary_is_learned_once(text, tmp_path):
    first = learned(text, tmp_path / "run")
    file = tmp_path / "run" / "tokenizer" / "vocab.txt"
    stamp = file.stat().st_mtime_ns
    assert learned(text, tmp_path / "run", batch_size=8, dropout=0.3).vocabulary == first.vocabulary
    assert file.stat().st_mtime_ns == stamp
    assert Tokenizer.from_pretrained(tmp_path / "run" / "tokenizer").vocabulary == first.vocabulary


CHANGES = [
    {"vocab_size": 52},
    {"limit_alphabet": 6},
    {"lowercase": False},
    {"limit": 300},
    {"strip_accents": False},
    {"tokenize_chinese_chars": False},
    {"tokenizer": "mini"},
    {"stream": 0.0005},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_one_of_other_settings_is_never_taken_without_a_word(text, tmp_path, caplog, change):
    text.write_text(text.read_text() + "\n\nThe café sees the CAT. 京都 sees it.\nIt runs.\n", encoding="utf-8")
    fresh = learned(text, tmp_path / "fresh", **change)
    learned(text, tmp_path / "run")
    caplog.clear()
    found = learned(text, tmp_path / "run", **change)
    assert found.vocabulary == fresh.vocabulary
    treatment = ("lowercase", "strip_accents", "tokenize_chinese_chars")
    assert [getattr(found, name) for name in treatment] == [getattr(fresh, name) for name in treatment]
    name = "vocabulary_checksum" if "tokenizer" in change else next(iter(change))
    assert name in caplog.text and "is of other settings" in caplog.text


def test_a_changed_text_gives_another_vocabulary(text, tmp_path):
    learned(text, tmp_path / "run")
    text.write_text(text.read_text().replace("cat", "zebra"), encoding="utf-8")
    assert any("z" in token for token in learned(text, tmp_path / "run").vocabulary)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 40}, "vocab_size=40 was 60"),
        ({"lowercase": False, "limit_alphabet": 9}, "limit_alphabet=9 was 1000; lowercase=False was True"),
        ({"tokenizer": "mini"}, "the tokenizer has changed"),
    ],
)
def test_one_that_a_checkpoint_was_trained_with_is_not_replaced(text, tmp_path, change, message):
    pretrain(config(text, tmp_path / "run"), progress=False)
    before = (tmp_path / "run" / "tokenizer" / "vocab.txt").read_text()
    with pytest.raises(ValueError, match=f"that of another run: .*{message}.*Set them back, or use another folder"):
        pretrain(config(text, tmp_path / "run", **change), resume=True, progress=False)
    assert (tmp_path / "run" / "tokenizer" / "vocab.txt").read_text() == before


def test_a_changed_text_is_said_in_words(text, tmp_path):
    pretrain(config(text, tmp_path / "run"), progress=False)
    text.write_text(text.read_text().replace("cat", "zebra"), encoding="utf-8")
    with pytest.raises(ValueError, match="the text has changed"):
        pretrain(config(text, tmp_path / "run"), resume=True, progress=False)


def test_one_of_unknown_origin_is_taken_only_by_name(text, tmp_path):
    folder = tmp_path / "run" / "tokenizer"
    Tokenizer.from_pretrained("mini").save_pretrained(folder)
    with pytest.raises(ValueError, match=r"holds a vocabulary, and not what it was made of; pass tokenizer='.*run"):
        learned(text, tmp_path / "run")
    assert learned(text, tmp_path / "other", tokenizer=folder).vocab_size == 8192


def test_one_beside_a_checkpoint_of_an_earlier_version_goes_on(text, tmp_path):
    hasty = config(text, tmp_path / "run", training=TrainingSettings(steps=2, device="cpu", minutes=1e-9))
    pretrain(hasty, progress=False)
    (tmp_path / "run" / "tokenizer" / "origin.json").unlink()
    result = pretrain(replace(hasty, training=replace(hasty.training, minutes=None)), resume=True, progress=False)
    assert result.history.finished


def test_embeddings_are_not_trained_under_another_vocabulary(text, tmp_path):
    first = pretrain(config(text, tmp_path / "first"), progress=False)
    initial = tmp_path / "first" / "model"
    with pytest.raises(ValueError, match="tokenizer='mini' has another vocabulary than initial='.*model'.*leave"):
        pretrain(config(text, tmp_path / "second", initial=initial, tokenizer="mini"), progress=False)
    assert not (tmp_path / "second" / "corpus-train").exists()
    again = pretrain(config(text, tmp_path / "third", initial=initial, tokenizer=initial), progress=False)
    assert again.tokenizer.vocabulary == first.tokenizer.vocabulary


def test_a_checkpoint_to_go_on_from_keeps_its_own_dropout_and_its_shape_is_recorded(text, tmp_path):
    model = BertForPreTraining(SHAPE.replace(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.2))
    model.save_pretrained(tmp_path / "initial")
    learned(text, tmp_path / "run").save_pretrained(tmp_path / "initial")
    options = {"initial": tmp_path / "initial", "model": "mini", "dropout": 0.0}
    result = pretrain(config(text, tmp_path / "second", **options), progress=False)
    saved = BertForPreTraining.from_pretrained(tmp_path / "second" / "model").config
    assert (saved.hidden_dropout_prob, saved.attention_probs_dropout_prob) == (0.3, 0.2)
    assert result.model.config.hidden_dropout_prob == 0.0
    recorded = json.loads((tmp_path / "second" / "record.json").read_text())["config"]
    assert recorded["model"]["hidden_size"] == 16 and recorded["dropout"] == 0.0


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("hub:wikimedia/wikipedia/20231101.en", "hub:wikimedia/wikipedia/20231101.en"),
        ("/data/text/train-*.txt.xz", "train-*.txt.xz"),
        ("/data/*/part.txt", "*/part.txt"),
        (Path("/data/text/a.txt"), "a.txt"),
        ("python-docs", "python-docs"),
        (["/data/a.txt", "/data/b/*.txt"], ["a.txt", "*.txt"]),
    ],
)
def test_a_source_is_recorded_by_its_name_without_the_place_where_it_lies(source, name):
    assert source_names(source) == name


def test_the_model_is_saved_before_anything_is_recorded(text, tmp_path, monkeypatch):
    def failing(*_: object) -> None:
        raise RuntimeError("no record")

    monkeypatch.setattr(run, "run_record", failing)
    with pytest.raises(RuntimeError, match="no record"):
        pretrain(config(text, tmp_path / "run"), progress=False)
    assert BertForPreTraining.from_pretrained(tmp_path / "run" / "model").config.hidden_size == 16


def test_a_system_that_does_not_tell_its_memory_stops_no_run(text, tmp_path, monkeypatch):
    monkeypatch.setattr("companion.support.devices._process_status", lambda: "Name:\tpython\n")
    result = pretrain(config(text, tmp_path / "run"), progress=False)
    assert result.record["entries"][0]["peak_memory_bytes"] is None


@pytest.fixture
def unread(monkeypatch) -> None:
    """Fail where a text is read or a corpus prepared."""

    def read(*_: object, **__: object) -> None:
        raise AssertionError("the text was read")

    monkeypatch.setattr(plain, "_open_source", read)
    monkeypatch.setattr(plain, "source_checksum", read)


def test_an_earlier_run_is_refused_before_the_text_is_read(text, tmp_path, monkeypatch):
    pretrain(config(text, tmp_path / "run"), progress=False)
    text.unlink()
    with pytest.raises(ValueError, match="holds the checkpoint of an earlier run; pass resume=True to go on with it"):
        pretrain(config(text, tmp_path / "run"), progress=False)


@pytest.mark.parametrize("where", ["main", "earlier"])
def test_rows_beyond_the_positions_are_refused_before_the_text_is_read(text, tmp_path, where):
    long = run.PretrainingConfig.from_dict({"source": "", "folder": "", "training": {"steps": 1}}).phases[0]
    change = {"max_tokens": 33} if where == "main" else {"earlier": [replace(long, max_tokens=33)]}
    with pytest.raises(ValueError, match="max_tokens=33 is above the 32 positions of the model; lower it"):
        pretrain(config("nowhere.txt", tmp_path / "run", **change), progress=False)
    assert not (tmp_path / "run").exists()


def test_to_resume_where_there_is_nothing_is_said(text, tmp_path, caplog):
    result = pretrain(config(text, tmp_path / "run"), resume=True, progress=False)
    assert result.history.finished
    assert "run holds no checkpoint; the run starts from the beginning" in caplog.text


def chinese(characters: int) -> Iterator[str]:
    pick = random.Random(0)
    alphabet = [chr(0x4E00 + i) for i in range(characters)]
    for _ in range(40):
        yield "\n".join("".join(pick.choices(alphabet, k=20)) + "。" for _ in range(4))


def test_a_text_that_the_vocabulary_cannot_spell_is_warned_of_with_the_remedy(tmp_path, caplog):
    path = tmp_path / "chinese.txt"
    path.write_text("\n\n".join(chinese(900)), encoding="utf-8")
    pretrain(config(path, tmp_path / "all", vocab_size=2000, model=SHAPE.replace(vocab_size=2000)), progress=False)
    assert "[UNK]" not in caplog.text, "900 characters are within the default"
    few = config(path, tmp_path / "few", vocab_size=2000, limit_alphabet=100, model=SHAPE.replace(vocab_size=2000))
    pretrain(few, progress=False)
    assert "% of the tokens of the text are [UNK]" in caplog.text and "raise limit_alphabet=100" in caplog.text


@pytest.mark.parametrize(
    ("sentences", "next_sentence", "warned"), [(1, True, True), (1, False, False), (3, True, False)]
)
def test_a_text_without_pairs_is_warned_of(tmp_path, caplog, sentences, next_sentence, warned):
    path = tmp_path / "lines.txt"
    path.write_text("\n\n".join("\n".join(document[:sentences]) for document in animal_documents(60)), encoding="utf-8")
    pretrain(config(path, tmp_path / "run", next_sentence=next_sentence), progress=False)
    assert ("100% of the documents have a single sentence" in caplog.text) == warned


def test_fewer_tokens_than_asked_for_are_said(text, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    found = learned(text, tmp_path / "run", vocab_size=5000)
    assert f"the text is too short for vocab_size=5000; {found.vocab_size} tokens were learned" in caplog.text


def test_a_text_that_is_slow_to_read_is_read_once_and_no_copy_stays(tmp_path, monkeypatch, capfd):
    readings = []

    def documents() -> Iterator[tuple[str, list[str]]]:
        readings.append(1)
        yield from (("module", document) for document in animal_documents(20))

    monkeypatch.setattr(plain, "installed_documents", documents)
    monkeypatch.setattr(plain, "installed_checksum", lambda: "abc")
    result = pretrain(config("python-docs", tmp_path / "run"), progress=True)
    assert len(readings) == 1
    assert "reading" in capfd.readouterr().err
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.name.startswith(".")) == []
    text = tmp_path / "same.txt"
    text.write_text("\n\n".join("\n".join(document) for document in animal_documents(20)), encoding="utf-8")
    same = pretrain(config(text, tmp_path / "same"), progress=False)
    assert same.tokenizer.vocabulary == result.tokenizer.vocabulary
    assert same.history.column("mlm") == result.history.column("mlm")
    assert same.record["corpus"]["tokens"] == result.record["corpus"]["tokens"]


def test_a_failed_reading_leaves_no_copy(tmp_path, monkeypatch):
    def documents() -> Iterator[tuple[str, list[str]]]:
        yield "module", ["The cat sees the dog."]
        raise KeyboardInterrupt

    monkeypatch.setattr(plain, "installed_documents", documents)
    monkeypatch.setattr(plain, "installed_checksum", lambda: "abc")
    with pytest.raises(KeyboardInterrupt):
        pretrain(config("python-docs", tmp_path / "run"), progress=False)
    assert list((tmp_path / "run").iterdir()) == []
