"""Text larger than the disk: which documents a window holds, which batches come of it, and runs that go on exactly."""

import json
import random
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import companion.pretraining.run
from companion.cli import app
from companion.data.plain import DOCUMENT_END, read_paragraphs
from companion.pretraining.batches import training_batches
from companion.pretraining.config import Phase, PretrainingConfig
from companion.pretraining.corpus import Corpus
from companion.pretraining.run import pretrain
from companion.pretraining.streaming import Place, WindowReader
from companion.pretraining.vocabulary import learn_or_load_tokenizer
from companion.text.tokenizer import Tokenizer
from companion.training.settings import TrainingSettings
from tests.toys import animal_documents, same_batch, write_documents

STREAM = 0.002  # megabytes: about ten of forty documents


def write_text(path, count=40):
    return write_documents(path, animal_documents(count, (6, 12)), between="\n\n\n")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Forty documents with two empty lines between them, so that there are empty documents, too."""
    return write_text(tmp_path_factory.mktemp("text") / "animals.txt")


def settings(**changes):
    return TrainingSettings(**({"steps": 24, "learning_rate": 1e-3, "log_every": 1, "precision": "fp32"} | changes))


def config(text, folder, training=None, **changes):
    options = {"model": "tiny", "vocab_size": 60, "batch_size": 4, "max_tokens": 24, "stream": STREAM} | changes
    return PretrainingConfig(source=text, folder=folder, training=training or settings(), **options)


def batches_in(text, folder, **changes):
    chosen = config(text, folder, **changes)
    return training_batches(chosen, learn_or_load_tokenizer(chosen, progress=False), progress=False)


def windows_of(reader, count):
    return [list(reader.read_window()) for _ in range(count)]


def test_windows_hold_the_documents_of_the_source_in_order(text):
    reader, windows = WindowReader(text, STREAM), []
    while reader.place.passes == 0:
        windows.append(list(reader.read_window()))
    assert len(windows) > 3
    assert [paragraph for window in windows for paragraph in window] == list(read_paragraphs(text))
    for window in windows[:-1]:
        sizes = [len(paragraph.encode()) for paragraph in window]
        last = len(sizes) - 1 - window[-2::-1].index(DOCUMENT_END)  # where the last document begins
        assert sum(sizes[:last]) <= STREAM * 1e6 < sum(sizes)
    assert list(reader.read_window()) == windows[0]


@pytest.mark.parametrize("limit", [None, 5000])
def test_a_reader_goes_on_from_any_place(text, limit):
    reader = WindowReader(text, STREAM, limit)
    places, windows = [], []
    for _ in range(9):
        places.append(reader.place)
        windows.append(list(reader.read_window()))
    assert places[-1].passes >= 1
    for place, window in zip(places, windows, strict=True):
        assert list(WindowReader(text, STREAM, limit, place).read_window()) == window
    first = [
        paragraph for place, window in zip(places, windows, strict=True) if not place.passes for paragraph in window
    ]
    assert first == list(read_paragraphs(text, limit))


def test_one_document_is_not_left_for_a_window_of_its_own(tmp_path):
    path = tmp_path / "three.txt"
    path.write_text("One cat.\n\nOne dog.\n\nOne owl.\n", encoding="utf-8")
    assert windows_of(WindowReader(path, 1e-5), 1) == [["One cat.", "", "One dog.", "", "One owl.", ""]]
    path.write_text("One cat.\n\nOne dog.\n\nOne owl.\n\nOne fox.", encoding="utf-8")
    assert [len(window) for window in windows_of(WindowReader(path, 1e-5), 2)] == [4, 4]


def test_rows_of_a_data_set_are_skipped_not_read(tmp_path, text):
    datasets = pytest.importorskip("datasets")
    documents = " ".join(paragraph or "\n" for paragraph in read_paragraphs(text)).split("\n")
    rows = [{"text": row} for document in documents for row in (document, "")]  # every other row is empty
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "rows"))
    reader = WindowReader(tmp_path / "rows", STREAM)
    windows_of(reader, 2)
    assert reader.place.passes == 0 and 0 < reader.place.documents < len(rows)
    assert reader.place.documents % 2 == 1  # the row after the last full one is empty and belongs to the next window
    again = WindowReader(tmp_path / "rows", STREAM, place=reader.place)
    assert windows_of(again, 3) == windows_of(reader, 3)
    found = [batches_in(tmp_path / "rows", tmp_path / name)[20]["input_ids"] for name in ("one", "other")]
    assert torch.equal(*found)


def test_a_set_of_the_hub_is_skipped_by_its_own_skip(monkeypatch):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([{"text": f"Row {i}."} for i in range(6)]).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, **options: rows)
    reader = WindowReader("hub:owner/name", 1e-5, place=Place(0, 2, 12))
    assert windows_of(reader, 2) == [["Row 2.", "", "Row 3.", ""], ["Row 4.", "", "Row 5.", ""]]


@pytest.fixture(scope="module")
def in_order(text, tmp_path_factory):
    """The batches of more than two passes, looked up one after the other, and what was looked up."""
    batches = batches_in(text, tmp_path_factory.mktemp("in-order"))
    found = []
    while not batches.windows or batches.windows[-1].start.passes < 2:
        found.append(batches[len(found)])
    return batches, found


def test_a_batch_is_the_same_in_any_order_and_after_reopening(in_order, text, tmp_path):
    _, expected = in_order
    numbers = list(range(0, len(expected), 3))
    random.Random(1).shuffle(numbers)
    batches = batches_in(text, tmp_path)
    for number in [*numbers[:8], numbers[0]]:
        assert same_batch(batches[number], expected[number])
    reopened = batches_in(text, tmp_path)
    for number in numbers[8:16]:
        assert same_batch(reopened[number], expected[number])
    with pytest.raises(IndexError, match="number=-1 is negative"):
        batches[-1]


def test_the_ledger_tells_where_every_window_begins(in_order, text):
    batches, found = in_order
    ledger = json.loads(batches.ledger.read_text(encoding="utf-8"))["windows"]
    reader, first_batch = WindowReader(text, STREAM), 0
    for row in ledger:
        assert row["start"] == list(reader.place) and row["first_batch"] == first_batch
        assert row["documents"] == sum(paragraph == DOCUMENT_END for paragraph in reader.read_window())
        assert row["end"] == list(reader.place)
        first_batch += row["batches"]
    assert first_batch >= len(found)
    assert ledger[1]["start"][1] == 2 * ledger[0]["documents"] - 1  # of two empty lines, one ends an empty document


def test_two_passes_over_the_text_differ(in_order):
    batches, found = in_order
    again = next(window for window in batches.windows if window.start.passes == 1)
    first = batches.windows[0]
    assert (first.documents, first.tokens) == (again.documents, again.tokens)
    rows = [{tuple(row.tolist()) for row in found[start]["input_ids"]} for start in (0, again.first_batch)]
    assert not rows[0] & rows[1]


def test_what_was_tokenised_is_not_tokenised_again(in_order, text, tmp_path, monkeypatch):
    _, expected = in_order
    batches = batches_in(text, tmp_path)
    batches[20]
    held = batches.windows[batches.opened]
    encoded = []
    encode = Tokenizer.encode_batch
    monkeypatch.setattr(Tokenizer, "encode_batch", lambda self, texts: encoded.extend(texts) or encode(self, texts))
    reopened = batches_in(text, tmp_path)
    encoded.clear()  # those of the vocabulary's checksum
    assert same_batch(reopened[20], expected[20])
    assert encoded == []  # the window lies there
    following = held.first_batch + held.batches
    assert same_batch(reopened[following], expected[following])
    assert len(encoded) == reopened.windows[-1].sentences


def test_one_window_lies_on_the_disk_at_any_time(text, tmp_path, monkeypatch):
    whole = batches_in(text, tmp_path / "whole", stream=None).corpus.folder
    in_all = sum(file.stat().st_size for file in whole.glob("*.bin"))
    batches, sizes, beside = batches_in(text, tmp_path / "run"), [], []
    encode = Tokenizer.encode_batch

    def watched(self, texts):
        beside.append((tmp_path / "run" / "corpus-train").exists())
        return encode(self, texts)

    monkeypatch.setattr(Tokenizer, "encode_batch", watched)
    for number in range(60):
        batches[number]
        sizes.append(sum(file.stat().st_size for file in (tmp_path / "run").rglob("*.bin")))
    assert len(batches.windows) > 5
    assert 0 < max(sizes) < in_all / 3
    assert beside == [False] * len(batches.windows)  # while one is tokenised, the one before it is gone
    assert [path.name for path in (tmp_path / "run").iterdir() if path.name.startswith(".")] == []


def test_what_a_killed_process_left_is_removed(text, tmp_path):
    (tmp_path / ".corpus-train.abc.partial").mkdir()
    batches_in(text, tmp_path)[0]
    assert {path.name for path in tmp_path.iterdir()} == {"corpus-train", "tokenizer", "windows.json"}


def test_another_folder_is_left_alone(text, tmp_path):
    (tmp_path / "corpus-train").mkdir()
    (tmp_path / "corpus-train" / "letter.txt").write_text("keep me")
    with pytest.raises(ValueError, match="holds no prepared corpus"):
        batches_in(text, tmp_path)[0]
    assert (tmp_path / "corpus-train" / "letter.txt").read_text() == "keep me"


def test_several_processes_have_windows_of_their_own(in_order, text, tmp_path, monkeypatch):
    _, expected = in_order
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        batches = batches_in(text, tmp_path)
        for number in range(int(rank), 24, 2):
            assert same_batch(batches[number], expected[number])
        assert Corpus.open(tmp_path / "corpus-train" / f"rank-{rank}").num_documents > 1
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setenv("RANK", "0")
    assert same_batch(batches_in(text, tmp_path)[23], expected[23])
    assert not list((tmp_path / "corpus-train").glob("rank-*"))


@pytest.fixture(scope="module")
def finished(text, tmp_path_factory):
    return pretrain(config(text, tmp_path_factory.mktemp("runs") / "whole"), progress=False)


@pytest.mark.parametrize("lost", ["nothing", "windows.json", "corpus-train", "damaged"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(finished, text, tmp_path, lost):
    stop_at = {"steps": 24, "save_every": 17}
    stopped = config(text, tmp_path, settings(**stop_at))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("companion.training.run.Run.must_stop", lambda run, *_: run.history.step == 17)
        assert pretrain(stopped, progress=False).history.step == 17
    assert len(json.loads((tmp_path / "windows.json").read_text())["windows"]) > 1
    if lost == "corpus-train":
        shutil.rmtree(tmp_path / lost)
    elif lost == "windows.json":
        (tmp_path / lost).unlink()
    elif lost == "damaged":
        (tmp_path / "windows.json").write_text('{"settings": ')
    resumed = pretrain(config(text, tmp_path), resume=True, progress=False)
    assert resumed.history.column("mlm") == finished.history.column("mlm")
    for name, weight in finished.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name])


def test_the_record_counts_the_windows_seen(finished, text, tmp_path):
    record, whole = finished.record, batches_in(text, tmp_path, stream=None)
    assert record["config"]["stream"] == STREAM
    assert record["passes_over_the_corpus"] is None
    assert 0 < record["corpus"]["documents"] < whole.corpus.num_documents
    longer = pretrain(config(text, tmp_path / "longer", settings(steps=90)), progress=False).record
    assert longer["corpus"]["documents"] == whole.corpus.num_documents == 40
    assert longer["corpus"]["sentences"] == whole.corpus.num_sentences
    windows = json.loads((tmp_path / "longer" / "windows.json").read_text(encoding="utf-8"))["windows"]
    in_a_pass = sum(window["batches"] for window in windows if window["start"][0] == 0)
    assert longer["passes_over_the_corpus"] == round(90 / in_a_pass, 3) > 1


def test_a_vocabulary_is_learned_from_the_first_window(tmp_path):
    path = write_text(tmp_path / "text.txt")
    path.write_text(path.read_text(encoding="utf-8") + "\n\n" + "zebra " * 300, encoding="utf-8")
    learned = learn_or_load_tokenizer(config(path, tmp_path / "run", vocab_size=120), progress=False)
    assert "owl" in learned.vocabulary and "zebra" not in learned.vocabulary


def test_a_run_on_a_text_of_another_size_does_not_go_on(text, tmp_path):
    path = tmp_path / "text.txt"
    shutil.copy(text, path)
    pretrain(config(path, tmp_path / "run", settings(minutes=1e-6)), progress=False)
    with pytest.raises(ValueError, match=r"stream=0\.003 was 0\.002"):
        pretrain(config(path, tmp_path / "run", stream=0.003), resume=True, progress=False)
    path.write_text(path.read_text(encoding="utf-8") + "\n\nThe end.", encoding="utf-8")
    with pytest.raises(ValueError, match="source_checksum"):
        pretrain(config(path, tmp_path / "run"), resume=True, progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stream": 0}, "stream=0 is not allowed; it must be a number of megabytes above 0, or None"),
        ({"earlier": [Phase(2)]}, "stream=0.002 has one shape of rows; leave out earlier"),
        (
            {"training": settings(workers=2)},
            "workers=2 would each read the whole text with stream=0.002; set workers=0",
        ),
    ],
)
def test_settings_that_do_not_go_with_a_stream_are_named(text, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        config(text, tmp_path, **changes)


def test_a_window_too_small_names_stream(tmp_path):
    path = tmp_path / "one.txt"
    path.write_text("The cat sees the owl. The owl sees the cat.\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"stream=1e-05 megabytes are too few: document 1 of the text is longer"):
        list(WindowReader(path, 1e-5).read_window())
    batches = batches_in(path, tmp_path / "run")
    with pytest.raises(ValueError, match=r"window 0 of stream=0\.002: next_sentence=True needs at least two documents"):
        batches[0]
    assert len(batches_in(path, tmp_path / "run", next_sentence=False)[0]["input_ids"]) == 4


def test_the_option_reaches_the_configuration(monkeypatch, tmp_path, text):
    seen = []
    monkeypatch.setattr(companion.pretraining.run, "pretrain", lambda config, **_: seen.append(config) or 1 / 0)
    CliRunner().invoke(app, ["pretrain", str(text), "--output", str(tmp_path), "--stream", "256"])
    CliRunner().invoke(app, ["pretrain", str(text), "--output", str(tmp_path)])
    assert [config.stream for config in seen] == [256, None]


TWO = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.pretraining.test_streaming import config, pretrain, settings
pretrain(config(Path(sys.argv[2]), Path(sys.argv[3]), settings(device="cpu", steps=12)), progress=False)
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this build of PyTorch has no torch.distributed")
def test_two_processes_take_the_steps_of_one(text, tmp_path):
    root = Path(__file__).resolve().parents[2]
    (tmp_path / "two.py").write_text(TWO)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    arguments = [str(tmp_path / "two.py"), str(root), str(text), str(tmp_path / "two")]
    ran = subprocess.run([*launch, *arguments], cwd=root, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads((tmp_path / "two" / "record.json").read_text(encoding="utf-8"))
    alone = pretrain(config(text, tmp_path / "one", settings(steps=12, accumulation=2)), progress=False).record
    assert found["corpus"] == alone["corpus"]
    (entry,) = found["entries"]
    assert entry["provenance"]["hardware"]["processes"] == 2 and entry["last_step"] == 12
    for mine, other in zip(found["curve"], alone["curve"], strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert len(list(islice((tmp_path / "two" / "corpus-train").glob("rank-*"), 3))) == 2
