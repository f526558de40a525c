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


def write(folder, name, initial=None):
    record = {"name": name, "config": {"initial": initial}}
    (folder / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")


def names(chain):
    return [record["name"] for record in chain]


def test_a_record_is_found_by_its_name(folder):
    write(folder, "mini")
    assert record.load_record("mini")["name"] == "mini"


def test_an_unknown_name_is_answered_with_those_that_exist(folder):
    write(folder, "first")
    write(folder, "mini")
    with pytest.raises(FileNotFoundError, match="no record 'maxi'; choose one of first, mini"):
        record.load_record("maxi")


def test_the_chain_follows_what_each_run_went_on_from(folder):
    write(folder, "short")
    write(folder, "first", "short/model")
    write(folder, "mini", "first/model")
    assert names(record.load_chain("mini")) == ["short", "first", "mini"]
    assert names(record.load_chain("short")) == ["short"]


def test_a_record_without_the_entry_begins_a_chain(folder):
    (folder / "old.json").write_text('{"name": "old", "config": {}}', encoding="utf-8")
    assert names(record.load_chain("old")) == ["old"]


def test_a_circle_is_refused(folder):
    write(folder, "one", "two/model")
    write(folder, "two", "one/model")
    with pytest.raises(ValueError, match="'two' goes on from 'one'"):
        record.load_chain("one")


def test_without_a_checkout_the_repository_is_asked(tmp_path, monkeypatch):
    asked = []

    def answer(address, timeout):
        asked.append(address)
        return io.BytesIO(b'{"name": "mini"}')

    monkeypatch.setattr(record, "ROOT", tmp_path)
    monkeypatch.setattr(record, "urlopen", answer)
    assert record.load_record("mini") == {"name": "mini"}
    assert asked[0].startswith("https://raw.githubusercontent.com/")
    assert asked[0].endswith("/HEAD/book/results/mini.json")


def test_without_checkout_and_connection_the_error_says_what_to_do(tmp_path, monkeypatch):
    def fail(address, timeout):
        raise URLError("no route")

    monkeypatch.setattr(record, "ROOT", tmp_path)
    monkeypatch.setattr(record, "urlopen", fail)
    with pytest.raises(FileNotFoundError, match="could not be read .*no route.*in a checkout"):
        record.load_record("mini")
