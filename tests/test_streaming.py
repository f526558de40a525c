"""Streaming: windows are the source, one after another; batches and whole runs are those of the number alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from companion.cli import app
from companion.pretraining import streaming
from companion.pretraining.corpus import read_documents
from companion.pretraining.run import Phase, PretrainingConfig, pretrain, training_batches
from companion.pretraining.streaming import StreamedBatches, endless_paragraphs, stream_checksum
from companion.tokenizer import Tokenizer
from companion.training import TrainingSettings

WORDS = "red blue green good bad cat dog fish sees hears".split()
SIZE = 0.001  # megabytes: a window of a thousand bytes


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    """Sixty documents of five sentences, which differ: about 6,600 bytes."""
    rng = np.random.default_rng(0)
    sentence = lambda: " ".join(rng.choice(WORDS, 5)).capitalize() + "."  # noqa: E731
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text("\n\n".join("\n".join(sentence() for _ in range(5)) for _ in range(60)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([" ".join(WORDS)] * 5 + ["."], vocab_size=80)


class Documents:
    """In the place of batches: the documents of a window as text, one a batch."""

    def __init__(self, corpus, number, tokenizer):
        self.number, self.corpus, self.tokenizer = number, corpus, tokenizer
        self.steps_per_epoch = corpus.num_documents

    def __getitem__(self, place):
        first, last = self.corpus.document_starts[place : place + 2]
        begin, end = self.corpus.sentence_starts[[first, last]]
        return " ".join(self.tokenizer.id_to_token(int(i)) for i in self.corpus.tokens[begin:end])


def streamed(text, tokenizer, folder, megabytes=SIZE, **options) -> StreamedBatches:
    make = lambda corpus, number: Documents(corpus, number, tokenizer)  # noqa: E731
    return StreamedBatches(text, tokenizer, folder, megabytes, make, **options)


def as_documents(text, tokenizer) -> list[str]:
    documents = (" ".join(sentence for part in document for sentence in part) for document in read_documents(text))
    return [" ".join(tokenizer.id_to_token(i) for i in tokenizer.encode_batch([words])[0]) for words in documents]


def test_windows_are_the_documents_of_the_source_in_their_order_again_and_again(text, tokenizer, tmp_path):
    batches, documents = streamed(text, tokenizer, tmp_path), as_documents(text, tokenizer)
    assert [batches[number] for number in range(150)] == (documents * 3)[:150]
    assert len(batches.windows) > 10
    assert [window.rounds for window in batches.seen(60)][-1] >= 1 > batches.seen(40)[-1].rounds


def test_a_batch_is_that_of_its_number_whoever_asks_and_when(text, tokenizer, tmp_path):
    documents = as_documents(text, tokenizer)
    batches = streamed(text, tokenizer, tmp_path)
    for number in (70, 3, 71, 59, 0, 12):
        assert batches[number] == documents[number % 60]
    reopened = streamed(text, tokenizer, tmp_path)
    assert reopened.windows == batches.windows
    assert reopened[71] == documents[11] and reopened[72] == documents[12]
    (tmp_path / "windows.json").unlink()
    assert streamed(text, tokenizer, tmp_path)[71] == documents[11]


def test_going_on_does_not_tokenise_what_came_before(text, tokenizer, tmp_path, monkeypatch):
    streamed(text, tokenizer, tmp_path)[40]
    written = []
    write = streaming.write_corpus
    monkeypatch.setattr(streaming, "write_corpus", lambda *a, **k: written.append(a[3]["window"]) or write(*a, **k))
    again = streamed(text, tokenizer, tmp_path)
    last = len(again.windows)
    again[40]
    assert written == []  # the window in use is still on the disk
    again[again.windows[-1].first_batch + again.windows[-1].batches]
    assert written == [last]


def test_the_disk_holds_one_window(text, tokenizer, tmp_path):
    batches, sizes = streamed(text, tokenizer, tmp_path), []
    for number in range(60):
        batches[number]
        sizes.append(sum(file.stat().st_size for file in (tmp_path / "window").iterdir() if file.suffix == ".bin"))
    whole = streamed(text, tokenizer, tmp_path / "whole", megabytes=1.0)
    whole[0]
    entire = sum(file.stat().st_size for file in (tmp_path / "whole" / "window").iterdir() if file.suffix == ".bin")
    assert max(sizes) < entire / 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whole", "window", "windows.json"]


def test_a_source_smaller_than_a_window_is_one_window_a_round(text, tokenizer, tmp_path):
    batches = streamed(text, tokenizer, tmp_path, megabytes=1.0)
    batches[130]
    assert [(window.documents, window.start, window.end) for window in batches.windows] == [(60, 0, 0)] * 3
    assert [window.rounds for window in batches.windows] == [1, 2, 3]


def test_paragraphs_without_end_and_their_places(tmp_path):
    path = tmp_path / "two.txt"
    path.write_text("a\nb\n\nc\n", encoding="utf-8")
    reader = endless_paragraphs(path, skip=3)
    assert [next(reader) for _ in range(4)] == [("c", 4, 0), ("", 0, 1), ("a", 1, 1), ("b", 2, 1)]
    path.write_text("\n\n", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no text"):
        next(endless_paragraphs(path))


def test_other_text_is_noticed_by_its_size(text, tokenizer, tmp_path):
    copy = tmp_path / "copy.txt"
    shutil.copy(text, copy)
    before = stream_checksum(copy)
    streamed(copy, tokenizer, tmp_path / "run")[5]
    with copy.open("a") as file:
        file.write("\nmore")
    assert stream_checksum(copy) != before
    assert streamed(copy, tokenizer, tmp_path / "run").windows == []


def test_a_saved_data_set_is_streamed_too(tokenizer, tmp_path):
    rows = [f"{' '.join(np.roll(WORDS, n))}.\nRed." for n in range(40)]
    Dataset.from_dict({"text": rows}).save_to_disk(str(tmp_path / "set"))
    batches = streamed(tmp_path / "set", tokenizer, tmp_path / "run")
    assert batches[41] == batches[1] != batches[0]
    assert len(batches.windows) > 2


@pytest.mark.parametrize("rank", ["0", "1"])
def test_each_of_several_processes_has_a_folder_of_its_own(text, tokenizer, tmp_path, monkeypatch, rank):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    streamed(text, tokenizer, tmp_path)[0]
    assert [path.name for path in tmp_path.iterdir()] == [f"rank-{rank}"]


# --- whole runs -----------------------------------------------------------------------------------------------------


def config(text, folder, steps=48, stream=SIZE, training=None, **changes) -> PretrainingConfig:
    settings = TrainingSettings(**{"steps": steps, "learning_rate": 1e-3, "precision": "fp32"} | (training or {}))
    options = {"model": "tiny", "vocab_size": 60, "batch_size": 4, "max_tokens": 24} | changes
    return PretrainingConfig(source=text, folder=folder, training=settings, stream=stream, **options)


@pytest.fixture(scope="module")
def whole(text, tmp_path_factory):
    return pretrain(config(text, tmp_path_factory.mktemp("runs") / "whole"), progress=False)


@pytest.mark.parametrize("lost", [False, True], ids=["ledger kept", "ledger lost"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(text, whole, tmp_path, lost):
    folder = tmp_path / "run"
    pretrain(config(text, folder, training={"minutes": 1e-6}), progress=False)
    if lost:
        (folder / "corpus-train" / "windows.json").unlink()
    resumed = pretrain(config(text, folder), resume=True, progress=False)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
    assert resumed.record["corpus"] == whole.record["corpus"]


def test_the_record_tells_what_was_read(whole):
    record = whole.record
    assert record["config"]["stream"] == SIZE
    assert record["passes_over_the_corpus"] >= 1  # 48 steps of 4 rows read it more than once
    assert record["corpus"]["documents"] > 60
    assert record["positions_seen"] == 48 * 4 * 24


def test_a_window_is_not_read_twice_in_the_same_order(text, tmp_path):
    """A source of one window: the second round has the same documents, in other rows with other masks."""
    run = config(text, tmp_path / "run", stream=1.0)
    batches = training_batches(run, Tokenizer.train([" ".join(WORDS)] * 5, vocab_size=60), progress=False)
    batches[0]
    second = batches[batches.windows[0].batches]
    assert not torch.equal(batches[0]["input_ids"], second["input_ids"])


def test_another_size_of_window_is_another_run(text, tmp_path):
    folder = tmp_path / "run"
    pretrain(config(text, folder, training={"minutes": 1e-6}), progress=False)
    with pytest.raises(ValueError, match=r"stream=0.002 was 0.001"):
        pretrain(config(text, folder, stream=0.002), resume=True, progress=False)
    with pytest.raises(ValueError, match="corpus-train holds no prepared corpus"):
        pretrain(config(text, tmp_path / "run", stream=None), resume=True, progress=False)


def test_wrong_settings_are_named(text, tmp_path):
    with pytest.raises(ValueError, match="stream=0 is not allowed; it must be a number of megabytes above 0"):
        config(text, tmp_path, stream=0)
    with pytest.raises(ValueError, match="stream and earlier do not go together"):
        config(text, tmp_path, earlier=[Phase(2)])
    with pytest.raises(ValueError, match="workers=1 and stream do not go together"):
        config(text, tmp_path, training={"workers": 1})
    with pytest.raises(ValueError, match="a window of stream=1e-06 megabytes is too small: next_sentence=True needs"):
        pretrain(config(text, tmp_path / "run", stream=1e-6, tokenizer="mini"), progress=False)


def test_the_command_line_streams(text, tmp_path):
    from typer.testing import CliRunner

    options = "--model tiny --steps 2 --batch-size 4 --max-tokens 24 --vocab-size 60 --no-progress --stream 0.001"
    result = CliRunner().invoke(app, ["pretrain", str(text), "--output", str(tmp_path / "run"), *options.split()])
    assert result.exit_code == 0, result.output
    ledger = json.loads((tmp_path / "run" / "corpus-train" / "windows.json").read_text(encoding="utf-8"))
    assert len(ledger["windows"]) == 1
