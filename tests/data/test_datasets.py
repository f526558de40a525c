"""Data sets by name: where they are looked for, how they are read, and what is said when something is wrong."""

from __future__ import annotations

import json
import lzma
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import huggingface_hub
import pandas as pd
import pytest

import companion.data.labelled
from companion.data.catalogue import CATALOGUE
from companion.data.labelled import bundled_names, load_dataset, texts_and_labels
from companion.data.tables import read_jsonl

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
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception | datasets.DatasetDict], list]:
    """Replace the hub: return a function that sets its answer, and gives the list of what it is asked."""
    asked = []
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)

    def answer(found: Exception | datasets.DatasetDict) -> list:
        def load(name, subset, **options):
            asked.append((name, subset, options))
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(datasets, "load_dataset", load)
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
    with pytest.raises(FileNotFoundError, match=r"the folder 'films', which has no file train, .* \(it is empty\)"):
        load_dataset("films")
    assert asked == [("films", None, {})]


def test_a_subset_asks_the_hub_at_once(hub, monkeypatch, tmp_path: Path):
    asked = hub(ConnectionError("no network"))
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "glue" / "train.jsonl", ROWS)
    with pytest.raises(FileNotFoundError, match="subset, which only the hub has"):
        load_dataset("glue", "cola")
    assert asked == [("glue", "cola", {})]


def test_what_the_hub_has_is_returned(hub):
    on_hub = datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})
    hub(on_hub)
    assert load_dataset("owner/films") is on_hub


def test_a_set_of_the_catalogue_is_the_same_from_the_hub_as_from_a_folder(hub, monkeypatch, tmp_path: Path):
    features = datasets.Features(
        {"idx": datasets.Value("int32"), "label": datasets.ClassLabel(names=["entailment", "not_entailment"])}
        | {name: datasets.Value("string") for name in ("sentence1", "sentence2")}
    )
    rows = [{"idx": n, "label": n % 2, "sentence1": f"a{n}", "sentence2": f"b{n}"} for n in range(4)]
    secret = [row | {"label": -1} for row in rows]
    parts = {"train": rows, "validation": rows[:2], "test": secret}
    parts = {name: datasets.Dataset.from_list(part, features=features) for name, part in parts.items()}
    asked = hub(datasets.DatasetDict(parts))
    found = load_dataset("rte")
    assert asked == [("nyu-mll/glue", "rte", {})]
    assert list(found) == ["train", "validation"]  # the labels of the test part are secret
    named = [row | {"label": ["entailment", "not_entailment"][row["label"]]} for row in rows]
    write(tmp_path / "tasks" / "rte" / "train.jsonl", named)
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path))
    assert found["train"].to_list() == load_dataset("rte")["train"].to_list() == named
    with pytest.raises(ValueError, match="holds -1, which stands for a secret label"):
        texts_and_labels(parts["test"], ["sentence1"], "label")


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("stsb", {"sentence1": "a", "sentence2": "b", "label": 2.5}, {"score": 2.5}),
        ("chnsenticorp", {"text": "好", "label": 1}, {"label": "positive"}),
        ("wikineural_en", {"tokens": ["A", "b"], "ner_tags": [3, 0]}, {"ner_tags": ["B-ORG", "O"]}),
    ],
)
def test_columns_splits_and_numbers_of_the_hub_get_the_names_of_the_catalogue(hub, name: str, theirs: dict, ours: dict):
    card = CATALOGUE[name]
    parts = {part: datasets.Dataset.from_list([theirs]) for part in card.hub_splits.values()}
    asked = hub(datasets.DatasetDict(parts))
    (row,) = load_dataset(name)["train"].to_list()
    assert {key: row[key] for key in ours} == ours
    assert asked[0][0] == card.hub


def test_a_copy_of_a_set_that_is_a_script_is_asked_for_by_its_revision(hub):
    asked = hub(ConnectionError("no network"))
    with pytest.raises(FileNotFoundError, match="'financial_phrasebank' was not found"):
        load_dataset("financial_phrasebank")
    expected = ("takala/financial_phrasebank", "sentences_50agree", {"revision": "refs/convert/parquet"})
    assert asked == [expected]


def test_not_found_says_what_was_tried_and_what_to_do(hub, monkeypatch, bundled: Path):
    hub(ConnectionError("no network"))
    write(bundled / "reviews" / "train.jsonl", ROWS)
    monkeypatch.setenv("COMPANION_DATA", "/data")
    with pytest.raises(FileNotFoundError) as caught:
        load_dataset("revews")
    message = str(caught.value)
    assert "'revews' was not found. Tried: bundled ones (reviews)" in message
    for folder in ("revews", "/data/revews", "/data/tasks/revews"):
        assert f"the folder {folder!r}, which does not exist" in message
    assert "the hub, which could not be reached or does not have it (ConnectionError)" in message
    assert "set $COMPANION_DATA" not in message
    monkeypatch.delenv("COMPANION_DATA")
    with pytest.raises(FileNotFoundError, match=r"or set \$COMPANION_DATA to the folder that holds it"):
        load_dataset("revews")


@pytest.mark.parametrize("progress", [True, False])
def test_a_hub_that_cannot_be_reached_is_asked_once_and_quickly(monkeypatch, caplog, progress: bool):
    tries = []

    def refuse(*_, **options):
        tries.append(options)
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)
    before = huggingface_hub.constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    start = time.monotonic()
    with pytest.raises(FileNotFoundError, match="could not be reached"):
        load_dataset("revews", progress=progress)
    assert len(tries) == 1 and tries[0]["timeout"] <= 10
    assert time.monotonic() - start < 5
    assert not [record for record in caplog.records if "Retry" in record.message]
    assert (huggingface_hub.constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE) == before


def test_bars_of_a_download_are_hidden_on_request_and_come_back(hub, monkeypatch):
    shown = []

    def load(*_, **__):
        shown.append(not datasets.utils.are_progress_bars_disabled())
        return datasets.DatasetDict()

    hub(ConnectionError())
    monkeypatch.setattr(datasets, "load_dataset", load)
    before = datasets.utils.are_progress_bars_disabled()
    load_dataset("owner/films", progress=False)
    load_dataset("owner/films")
    assert shown == [False, not before]
    assert datasets.utils.are_progress_bars_disabled() == before


def test_a_name_that_the_hub_cannot_have_is_not_found():
    with pytest.raises(FileNotFoundError, match="no such folder' was not found.*Check the path"):
        load_dataset("./no such folder")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("", ValueError, "data set '' is empty"),
        (None, TypeError, "data set None is of type NoneType; pass a name or a path"),
        (7, TypeError, "data set 7 is of type int"),
        (".", FileNotFoundError, r"the folder '\.', which has no file train"),
    ],
)
def test_a_name_that_is_none_is_named(monkeypatch, tmp_path: Path, name, error, message: str):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        load_dataset(name)


def test_other_errors_of_the_hub_are_its_own(hub):
    hub(ValueError("Config name is missing. Please pick one among the available configs"))
    with pytest.raises(ValueError, match="Config name is missing"):
        load_dataset("nyu-mll/glue")


# Rows of every kind of file: texts with separators, quotes and line breaks in them, a number, a missing value.
TABLE = [{"text": 'a, "b"\nc', "label": 1.5}, {"text": "naïve\t电影", "label": None}, {"text": "NA", "label": 2.0}]


def as_file(path: Path, rows: list[dict]) -> Path:
    """Write rows as the ending of the path says, text with a byte-order mark if its stem ends in `bom`."""
    frame, mark = pd.DataFrame(rows), "\ufeff" if path.stem.endswith("bom") else ""
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix in (".csv", ".tsv"):
        text = frame.to_csv(sep="\t" if path.suffix == ".tsv" else ",", index=False)
        path.write_text(mark + text, encoding="utf-8", newline="")
    else:
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        text = f"[{', '.join(lines)}]" if path.suffix == ".json" else "\r\n".join(lines)
        path.write_text(mark + text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("stem", ["rows", "rows-bom"])
@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_a_file_of_every_kind_gives_the_same_rows(tmp_path: Path, kind: str, stem: str):
    path = as_file(tmp_path / f"{stem}{kind}", TABLE)
    for name in (path, str(path)):
        found = load_dataset(name)
        assert list(found) == ["train"]
        assert found["train"].to_list() == TABLE


@pytest.mark.parametrize("stem", ["validation", "valid", "val", "dev"])
@pytest.mark.parametrize("kind", [".jsonl", ".csv"])
def test_the_validation_split_has_four_names(tmp_path: Path, stem: str, kind: str):
    as_file(tmp_path / f"train{kind}", TABLE)
    as_file(tmp_path / f"{stem}{kind}", TABLE[:1])
    found = load_dataset(tmp_path)
    assert list(found) == ["train", "validation"] and found["validation"].to_list() == TABLE[:1]


def test_two_names_of_one_split_are_refused(tmp_path: Path):
    as_file(tmp_path / "dev.csv", TABLE)
    as_file(tmp_path / "validation.jsonl", TABLE)
    with pytest.raises(ValueError, match=r"holds both validation\.jsonl and dev\.csv; remove one"):
        load_dataset(tmp_path)


def test_what_datasets_wrote_is_read_with_the_names_of_its_labels(tmp_path: Path):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    datasets.DatasetDict({"train": rows}).save_to_disk(tmp_path / "many")
    rows.save_to_disk(tmp_path / "one")
    rows.to_parquet(tmp_path / "rows.parquet")
    for name in ("many", "one", "rows.parquet"):
        split = load_dataset(tmp_path / name)["train"]
        assert texts_and_labels(split, ["text"], "label") == (["a", "b"], ["yes", "no"])


@pytest.mark.parametrize("kind", ["numpy", "torch", "pandas", "arrow", None])
def test_labels_keep_their_names_in_every_format(kind):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    split = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features).with_format(kind)
    texts, labels = texts_and_labels(split, ["text"], "label")
    assert ([str(text) for text in texts], labels) == (["a", "b"], ["yes", "no"])


def test_a_null_is_named_with_its_file_and_row(tmp_path: Path):
    path = as_file(tmp_path / "train.jsonl", [{"text": "a", "label": 1}, {"text": None, "label": 2}])
    with pytest.raises(ValueError, match=r"train\.jsonl, row 2: column 'text' is null; drop the row, or fill it in"):
        texts_and_labels(load_dataset(path)["train"], ["text"], "label")


def test_a_column_that_is_missing_or_named_twice_is_named(tmp_path: Path):
    split = load_dataset(as_file(tmp_path / "train.csv", TABLE))["train"]
    with pytest.raises(ValueError, match=r"column 'review' is not in .*train\.csv, which has: text, label"):
        texts_and_labels(split, ["review"], "label")
    for texts, label in ((["text"], "text"), (["text", "text"], "label")):
        with pytest.raises(ValueError, match="column 'text' is named twice"):
            texts_and_labels(split, texts, label)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"text,label\nx,1\ny\xe9,2\n", r"a\.csv, line 3 is not UTF-8 .*iconv -f latin1"),
        ("a.csv", b"text,text\nx,1\n", r"a\.csv: the column 'text' stands twice"),
        ("a.csv", b"text,label\nx,1\ny,2,3\n", r"a\.csv cannot be read: .*line 3"),
        ("a.csv", b"text,label\nx,1,2\ny,3\n", r"a\.csv cannot be read: .*loss of data"),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\n", r"a\.csv is a Git LFS pointer.*git lfs pull"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n", r"a\.jsonl is a Git LFS pointer"),
        ("a.json", b"<!DOCTYPE html>", r"a\.json is a web page"),
        ("a.csv", b"", r"a\.csv cannot be read: No columns"),
        ("a.csv", b"text,label\n", r"a\.csv holds no rows below its first line"),
        ("a.json", b'{"text": "x"}', r"a\.json is no list of objects"),
        ("a.json", b'[{"text": "x"}, {"txt": "x"}]', r"a\.json, object 2 has the keys \['txt'\]"),
        ("a.json", b"[1", r"a\.json is not JSON"),
        ("a.parquet", b"not parquet", r"a\.parquet is no readable Parquet file"),
        ("a.txt", b"text", r"a\.txt does not end in \.jsonl, \.json, \.csv, \.tsv, \.parquet"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path / name)


@pytest.mark.parametrize(
    ("third", "message"),
    [
        (b'{"text": "x"', r"train\.jsonl, line 3 is not JSON: Expecting"),
        (b'{"text": "\xff"}', r"train\.jsonl, line 3 is not UTF-8 \(invalid start byte\); convert it"),
        (b'{"text": "x", "text": "y"}', r"train\.jsonl, line 3 is not JSON: the key 'text' stands there twice"),
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
