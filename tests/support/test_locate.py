"""One look-up for everything that has a name: bundled, a folder, the hub; and what it says where there is nothing."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import companion
from companion import BertConfig, BertModel, Tokenizer
from companion.support import locate as module
from companion.support.locate import BUNDLED, CHECKPOINT, Kind, bundled_names, holds_any, locate
from companion.text.tokenizer_files import TOKENIZER

CONFIG = BertConfig(50, 24, 2, 4, 40, max_position_embeddings=16)


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    """Work in an empty folder, without a hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_download", lambda name, kind: pytest.fail(f"asked the hub for {name}"))
    return tmp_path


def folder_with(path: Path, *files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for file in files:
        (path / file).write_text("{}")
    return path


@pytest.mark.parametrize(
    "name", ["./mini", "mini/", "../here/mini", Path("mini"), Path("./mini"), "{}/mini"], ids=lambda name: repr(name)
)
def test_only_a_bare_bundled_name_is_the_bundled_one(tmp_path: Path, monkeypatch, name):
    mine = folder_with(tmp_path / "here" / "mini", "config.json")
    monkeypatch.chdir(tmp_path / "here")
    name = name.format(tmp_path / "here") if isinstance(name, str) else name
    for kind in (CHECKPOINT, TOKENIZER):
        assert locate("mini", kind) == BUNDLED / "mini"
        assert locate(name, kind).resolve() == mine.resolve()


def test_a_bundled_name_goes_before_a_folder_and_a_folder_before_the_hub(here: Path):
    kind = dataclasses.replace(CHECKPOINT, bundled=here / "package")
    mine, bundled = folder_with(here / "saved", "config.json"), folder_with(here / "package" / "saved")
    assert locate("saved", kind) == Path("saved"), "a bundled folder without a config is no checkpoint"
    folder_with(bundled, "config.json")
    assert locate("saved", kind) == bundled
    assert locate(str(mine), kind) == mine
    assert bundled_names(kind) == ["saved"] and "mini" in bundled_names()


def test_the_folder_of_a_pretraining_run_stands_for_the_model_in_it(here: Path):
    model = BertModel(CONFIG)
    model.save_pretrained("runs/docs/model")
    Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"], max_length=16).save_pretrained("runs/docs/model")
    folder_with(here / "runs" / "docs" / "checkpoint", "state.json")
    assert locate("runs/docs") == Path("runs/docs/model") == locate(Path("runs/docs"))
    assert torch.equal(BertModel.from_pretrained("runs/docs").pooler.dense.weight, model.pooler.dense.weight)
    assert Tokenizer.from_pretrained("runs/docs").tokenize("A") == ["a"]


def test_a_home_folder_is_understood(here: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    assert locate("~/saved" if folder_with(here / "saved", "config.json") else "") == here / "saved"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            ".",
            r"checkpoint '\.' was not found.* the folder '\.', which has no config.json \(it holds notes.txt, runs\)",
        ),
        ("runs/empty", r"the folder 'runs/empty', which has no config.json \(it is empty\)\. Check the path"),
        (Path("runs"), r"the folder 'runs', which has no config.json \(it holds empty\)"),
        ("./notes.txt", r"the folder 'notes.txt', which is a file; pass the folder that holds it"),
        ("notes.txt", r"the folder 'notes.txt', which is a file; pass the folder that holds it"),
        ("no/such/folder", r"bundled ones \(.*mini.*\); the folder 'no/such/folder', which does not exist\. Check"),
        (Path("mini"), r"the folder 'mini', which does not exist"),
        ("x\\y", r"does not exist"),
        ("~/never/was", r"never/was', which does not exist"),
        ("a/" * 3000, r"checkpoint 'a/a/a/.* \.\.\. was not found"),
    ],
)
def test_what_is_no_checkpoint_is_named_without_asking_the_hub(here: Path, name, message: str):
    folder_with(here / "runs" / "empty")
    (here / "notes.txt").write_text("mine")
    with pytest.raises(FileNotFoundError, match=message):
        locate(name)


@pytest.mark.parametrize("name", ["", "  ", "\n"])
def test_an_empty_name_is_refused(here: Path, name: str):
    with pytest.raises(ValueError, match=r"is empty; pass a bundled name \(.*mini.*\), a folder or a hub id"):
        BertModel.from_pretrained(name)


@pytest.mark.parametrize("name", [None, 3, ["mini"], b"mini", BertModel])
def test_what_is_no_name_is_refused(name: object):
    with pytest.raises(TypeError, match="pass a name or a path"):
        Tokenizer.from_pretrained(name)


def test_a_folder_whose_name_means_something_else_is_passed_over_and_named(here: Path):
    folder_with(here / "rte", "classifier.bin")
    kind = Kind("data set", here / "sets", holds_any("train.jsonl"), "train.jsonl")
    assert locate("rte", kind, fetch=lambda name: f"the hub's {name}") == "the hub's rte"

    def nothing(name: str) -> None:
        raise ConnectionError("no network")

    message = r"data set 'rte' was not found\. Tried: bundled ones \(none\); .*has no train.jsonl \(it holds classifier"
    with pytest.raises(FileNotFoundError, match=message + r".*could not be reached .*\(ConnectionError\)"):
        locate("rte", kind, fetch=nothing)


def test_a_name_is_looked_up_in_further_folders(here: Path):
    kind = Kind("data set", here / "sets", holds_any("train.jsonl"), "train.jsonl", roots=lambda: [here / "a", here])
    mine = folder_with(here / "tasks", "train.jsonl")
    assert locate("tasks", kind) == Path("tasks"), "a path goes first"
    under = folder_with(here / "a" / "rte", "train.jsonl")
    assert locate("rte", kind) == under and locate(mine, kind) == mine


def test_an_error_that_says_what_the_hub_needs_and_a_full_disk_go_through(here: Path):
    def choose(name: str) -> None:
        raise ValueError("Config name is missing")

    def full(name: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ValueError, match="Config name is missing"):
        locate("glue", fetch=choose)
    with pytest.raises(OSError, match="No space left"):
        locate("glue", fetch=full)


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory) -> Path:
    """Build the cache that the hub's client would have made of one repository with safetensors and one without."""
    cache = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    model = BertModel(CONFIG)
    for owner_and_name in ("books--small-bert", "books--old-bert"):
        repository = cache / f"models--{owner_and_name}"
        snapshot = repository / "snapshots" / ("a" * 40)
        model.save_pretrained(snapshot)
        if "old" in owner_and_name:
            torch.save(load_file(snapshot / "model.safetensors"), snapshot / "pytorch_model.bin")
            (snapshot / "model.safetensors").unlink()
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("a" * 40)
    return cache


def run_with_hub(cache: Path, code: str, **environment: str) -> str:
    """Run Python with this cache; the hub's client reads its settings when it is imported."""
    settings = {"HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1"} | environment
    command = [sys.executable, "-c", code]
    root = Path(companion.__file__).parents[1]
    result = subprocess.run(command, env=os.environ | settings, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_hub_id_in_the_local_cache_loads_offline_and_another_says_what_to_do(hub_cache: Path):
    code = """
from companion import BertModel
from companion.support.locate import locate
for name in ("books/small-bert", "books/old-bert"):
    print(locate(name).name, float(BertModel.from_pretrained(name).pooler.dense.weight.detach().sum()))
try:
    locate("books/never-seen")
except FileNotFoundError as error:
    print(error)
"""
    small, old, error = run_with_hub(hub_cache, code, HF_HUB_OFFLINE="1").splitlines()
    torch.manual_seed(0)
    expected = float(BertModel(CONFIG).pooler.dense.weight.detach().sum())
    for line in (small, old):
        assert line.split()[0] == "a" * 40
        assert float(line.split()[1]) == pytest.approx(expected, abs=1e-5)
    assert error.startswith("checkpoint 'books/never-seen' was not found. Tried: bundled ones (")
    assert "the hub, which could not be reached or does not have it" in error
    assert error.endswith("connect to the internet, or pass the path of a downloaded folder")


def test_a_hub_that_cannot_be_reached_is_an_error_that_says_so(tmp_path: Path):
    code = """
from companion.support.locate import locate
try:
    locate("books/never-seen")
except FileNotFoundError as error:
    print(error)
"""
    nowhere = "http://127.0.0.1:9"  # the discard port: nothing answers
    error = run_with_hub(tmp_path, code, HF_ENDPOINT=nowhere, HF_HUB_OFFLINE="0", NO_PROXY="127.0.0.1")
    assert "hub, which could not be reached or does not have it" in error


def test_a_name_that_no_hub_id_can_have_says_so(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="it does not have the form of a hub id. Check the spelling"):
        locate("a name with blanks")


def test_pickles_are_fetched_only_where_there_are_no_safetensors(tmp_path: Path, monkeypatch):
    asked = []

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert locate("books/old-bert") == tmp_path
    assert ["pytorch_model*.bin*" in patterns for patterns in asked] == [False, True]
    asked.clear()
    (tmp_path / "model-00001-of-00002.safetensors").touch()
    assert locate("books/old-bert") == tmp_path
    assert ["pytorch_model*.bin*" in patterns for patterns in asked] == [False]
    asked.clear()
    locate("books/old-bert", TOKENIZER)
    assert asked == [["vocab.txt", "*.json"]]
