"""Run records by name: in a checkout, from the repository, and along the chain of runs."""

import io
import json
from urllib.error import URLError

import pytest

from companion.studies import record


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "ROOT", tmp_path)
    folder = tmp_path / record.PLACE
    folder.mkdir(parents=True)
    return folder


def write(folder, name, earlier=()):
    record = {"name": name, "earlier": [{"name": one} for one in earlier]}
    (folder / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")


def names(chain):
    return [record["name"] for record in chain]


def test_a_record_is_found_by_its_name(folder):
    write(folder, "tasks")
    assert record.load_record("tasks")["name"] == "tasks"


def test_the_record_of_a_bundled_checkpoint_comes_with_it(folder, monkeypatch, tmp_path):
    runs = ["mini-short", "mini-first", "mini-second", "mini-third", "mini-fourth", "mini"]
    assert names(record.load_chain("mini")) == runs
    (tmp_path / "own").mkdir()
    write(tmp_path / "own", "record")
    monkeypatch.setattr(record, "BUNDLED", tmp_path)
    assert record.load_record("own")["name"] == "record"


def test_an_unknown_name_is_answered_with_those_that_exist(folder):
    write(folder, "first")
    with pytest.raises(FileNotFoundError, match="no record 'maxi'; choose one of first, mini"):
        record.load_record("maxi")


def test_the_chain_is_what_the_record_tells(folder):
    write(folder, "last", ("short", "first"))
    write(folder, "alone")
    assert names(record.load_chain("last")) == ["short", "first", "last"]
    assert names(record.load_chain("alone")) == ["alone"]


def test_without_a_checkout_the_repository_is_asked(tmp_path, monkeypatch):
    asked = []

    def answer(address, timeout):
        asked.append(address)
        return io.BytesIO(b'{"name": "tasks"}')

    monkeypatch.setattr(record, "ROOT", tmp_path)
    monkeypatch.setattr(record, "urlopen", answer)
    assert record.load_record("tasks") == {"name": "tasks"}
    assert asked[0].startswith("https://raw.githubusercontent.com/")
    assert asked[0].endswith("/HEAD/book/results/tasks.json")


def test_without_checkout_and_connection_the_error_says_what_to_do(tmp_path, monkeypatch):
    def fail(address, timeout):
        raise URLError("no route")

    monkeypatch.setattr(record, "ROOT", tmp_path)
    monkeypatch.setattr(record, "urlopen", fail)
    with pytest.raises(FileNotFoundError, match="could not be read .*no route.*in a checkout"):
        record.load_record("tasks")
