"""Data sets by name: where they are looked for, how they are read, and what is said when something is wrong."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

import companion.data.labelled
from companion.data.labelled import bundled_names, load_dataset, read_jsonl

ROWS = [
    {"text": "naïve 电影\u2028next", "label": "positive", "pair": None},
    {"text": "dull", "label": "negative", "pair": "a-1"},
]


def write(path: Path, rows: list[dict]) -> Path:
    """Write rows as JSON Lines, characters outside ASCII as they are, compressed if the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(lzma.compress(content) if path.suffix == ".xz" else content)
    return path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], list]:
    """Cut the hub off: return a function that sets its error and gives the list of what it is asked."""
    asked = []

    def answer(error: Exception) -> list:
        def refuse(*arguments):
            asked.append(arguments)
            raise error

        monkeypatch.setattr(datasets, "load_dataset", refuse)
        return asked

    return answer


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Put a folder of our own in the place of the bundled sets."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(companion.data.labelled, "BUNDLED", folder)
    return folder


def test_a_folder_gives_its_splits_in_order_and_its_rows_as_they_are(tmp_path: Path):
    write(tmp_path / "test.jsonl", ROWS[:1])
    write(tmp_path / "train.jsonl", ROWS)
    write(tmp_path / "validation.jsonl", ROWS[1:])
    (tmp_path / "extra.jsonl").write_text("not read")
    found = load_dataset(tmp_path)
    assert isinstance(found, datasets.DatasetDict)
    assert list(found) == ["train", "validation", "test"]
    assert found["train"].to_list() == ROWS
    assert found["train"].column_names == ["text", "label", "pair"]
    assert [str(found[name].split) for name in found] == list(found)


def test_compressed_and_plain_files_read_alike(tmp_path: Path):
    plain, compressed = tmp_path / "plain", tmp_path / "compressed"
    write(plain / "train.jsonl", ROWS)
    write(compressed / "train.jsonl.xz", ROWS)
    assert load_dataset(plain)["train"].to_list() == load_dataset(compressed)["train"].to_list() == ROWS


def test_nested_values_keep_their_shape(tmp_path: Path):
    rows = [
        {"tokens": ["A", "b"], "answers": {"text": ["x"], "answer_start": [3]}},
        {"tokens": [], "answers": {"text": [], "answer_start": []}},
    ]
    write(tmp_path / "train.jsonl", rows)
    assert load_dataset(tmp_path)["train"].to_list() == rows


def test_the_folder_named_by_the_environment_is_searched_and_then_its_tasks(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path))
    write(tmp_path / "tasks" / "films" / "train.jsonl", ROWS[:1])
    assert load_dataset("films")["train"].num_rows == 1
    write(tmp_path / "films" / "train.jsonl", ROWS)
    assert load_dataset("films")["train"].num_rows == 2


def test_a_path_goes_before_the_environment_and_a_bundled_name_before_both(monkeypatch, bundled: Path, tmp_path: Path):
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data" / "films" / "train.jsonl", [{"from": "environment"}])
    assert load_dataset("films")["train"]["from"][:] == ["environment"]
    write(tmp_path / "films" / "train.jsonl", [{"from": "path"}])
    assert load_dataset("films")["train"]["from"][:] == ["path"]
    write(bundled / "films" / "train.jsonl", [{"from": "package"}])
    assert load_dataset("films")["train"]["from"][:] == ["package"]


def test_bundled_names_are_the_folders_that_hold_a_split(bundled: Path):
    assert bundled_names() == []
    write(bundled / "reviews" / "train.jsonl", ROWS)
    write(bundled / "answers" / "test.jsonl.xz", ROWS)
    (bundled / "__pycache__").mkdir()
    assert bundled_names() == ["answers", "reviews"]


def test_a_folder_without_splits_is_passed_over(hub, monkeypatch, tmp_path: Path):
    asked = hub(ConnectionError("no network"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "films").mkdir()
    with pytest.raises(FileNotFoundError):
        load_dataset("films")
    assert asked == [("films", None)]


def test_a_subset_asks_the_hub_at_once(hub, monkeypatch, tmp_path: Path):
    asked = hub(ConnectionError("no network"))
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "glue" / "train.jsonl", ROWS)
    with pytest.raises(FileNotFoundError, match="since subset is given"):
        load_dataset("glue", "cola")
    assert asked == [("glue", "cola")]


def test_what_the_hub_has_is_returned(monkeypatch):
    on_hub = datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})
    monkeypatch.setattr(datasets, "load_dataset", lambda name, subset: on_hub)
    assert load_dataset("owner/films") is on_hub


def test_not_found_says_what_was_tried_and_what_to_do(hub, monkeypatch, bundled: Path):
    hub(ConnectionError("no network"))
    write(bundled / "reviews" / "train.jsonl", ROWS)
    monkeypatch.setenv("COMPANION_DATA", "/data")
    with pytest.raises(FileNotFoundError) as caught:
        load_dataset("revews")
    message = str(caught.value)
    assert "'revews' not found. Tried: bundled sets (reviews)" in message
    assert "'revews' or '/data/revews' or '/data/tasks/revews'" in message
    assert "the hub, which does not have it or cannot be reached (ConnectionError)" in message
    assert "Check the name, set $COMPANION_DATA" in message
    monkeypatch.delenv("COMPANION_DATA")
    with pytest.raises(FileNotFoundError, match=r"\$COMPANION_DATA is not set"):
        load_dataset("revews")


def test_a_name_that_the_hub_cannot_have_is_not_found():
    with pytest.raises(FileNotFoundError, match="'./no such folder' not found"):
        load_dataset("./no such folder")


def test_other_errors_of_the_hub_are_its_own(hub):
    hub(ValueError("Config name is missing. Please pick one among the available configs"))
    with pytest.raises(ValueError, match="Config name is missing"):
        load_dataset("nyu-mll/glue")


@pytest.mark.parametrize(
    ("third", "message"),
    [
        (b'{"text": "x"', r"train\.jsonl, line 3 is not JSON in UTF-8: Expecting"),
        (b'{"text": "\xff"}', r"train\.jsonl, line 3 is not JSON in UTF-8: .*invalid start byte"),
        (b'["x"]', r"train\.jsonl, line 3 holds '\[\"x\"\]'; expected an object"),
        (b"{}", r"train\.jsonl, line 3 holds '{}'; expected an object"),
        (b'{"txt": "x"}', r"train\.jsonl, line 3 has the keys \['txt'\], the first line \['text'\]"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, third: bytes, message: str):
    (tmp_path / "train.jsonl").write_bytes(b'{"text": "a"}\n\n' + third + b"\n")
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path)


def test_blank_lines_are_passed_over(tmp_path: Path):
    (tmp_path / "train.jsonl").write_bytes(b'\n{"text": "a"}\r\n  \n{"text": "b"}')
    assert list(read_jsonl(tmp_path / "train.jsonl")) == [{"text": "a"}, {"text": "b"}]


def test_a_truncated_file_is_called_damaged(tmp_path: Path):
    path = write(tmp_path / "train.jsonl.xz", ROWS * 100)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"train\.jsonl\.xz is damaged"):
        load_dataset(tmp_path)


def test_values_of_different_types_are_refused(tmp_path: Path):
    write(tmp_path / "train.jsonl", [{"label": 1}, {"label": "one"}])
    with pytest.raises(ValueError, match=r"train\.jsonl: the values of a key differ in type"):
        load_dataset(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path):
    write(tmp_path / "train.jsonl", [])
    with pytest.raises(ValueError, match=r"train\.jsonl holds no rows"):
        load_dataset(tmp_path)


def test_a_split_in_two_forms_is_refused(tmp_path: Path):
    write(tmp_path / "train.jsonl", ROWS)
    write(tmp_path / "train.jsonl.xz", ROWS[:1])
    with pytest.raises(ValueError, match=r"holds both train\.jsonl and train\.jsonl\.xz"):
        load_dataset(tmp_path)
