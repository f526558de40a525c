"""Saving a model: into a folder that is the user's, whatever else lies in it, and never by halves."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from companion.config import BertConfig
from companion.model import checkpoints
from companion.model.encoder import BertModel
from companion.model.heads import BertForPreTraining
from companion.support import files
from tests.models import assert_same_outputs, make


@pytest.fixture
def saved(tmp_path: Path, small_config: BertConfig) -> Path:
    make(BertForPreTraining, small_config).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_saving_replaces_the_weights_and_keeps_what_else_lies_there(saved: Path, small_config: BertConfig):
    (saved / "vocab.txt").write_text("[PAD]\n")
    (saved / "checkpoint" / "deep").mkdir(parents=True)
    (saved / "checkpoint" / "config.json").write_text("the checkpoint's own")
    (saved / "checkpoint" / "deep" / "state.bin").write_bytes(b"state")
    (saved / "latest").symlink_to("checkpoint")
    (saved / "pytorch_model.bin").write_bytes(b"of the old model")
    (saved / "model.safetensors.index.json").write_text("{}")
    other = make(BertForPreTraining, small_config, seed=1)
    other.save_pretrained(saved)
    assert_same_outputs(BertForPreTraining.from_pretrained(saved), other)
    assert (saved / "vocab.txt").read_text() == "[PAD]\n"
    assert (saved / "checkpoint" / "config.json").read_text() == "the checkpoint's own"
    assert (saved / "checkpoint" / "deep" / "state.bin").read_bytes() == b"state"
    assert os.readlink(saved / "latest") == "checkpoint"
    found = {entry.name for entry in saved.iterdir()}
    assert found == {"config.json", "model.safetensors", "vocab.txt", "checkpoint", "latest"}
    assert [entry.name for entry in saved.parent.iterdir()] == ["saved"]


def test_a_disk_that_fills_up_while_saving_keeps_the_old_model(saved: Path, small_config, monkeypatch):
    (saved / "vocab.txt").write_text("[PAD]\n")
    before = BertForPreTraining.from_pretrained(saved)

    def half(state: object, path: Path, **options: object) -> None:
        path.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", half)
    with pytest.raises(OSError, match="No space left"):
        make(BertForPreTraining, small_config, seed=1).save_pretrained(saved)
    assert_same_outputs(BertForPreTraining.from_pretrained(saved), before)
    assert (saved / "vocab.txt").read_text() == "[PAD]\n"
    assert [entry.name for entry in saved.parent.iterdir()] == ["saved"]


@pytest.mark.parametrize("given", [".", "{}", "./", "../here", "{}/../here"])
def test_the_working_directory_can_be_saved_into(tmp_path, monkeypatch, small_config, given: str):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    model = make(BertModel, small_config)
    for _ in range(2):
        model.save_pretrained(given.format(here))
        assert Path.cwd() == here and names(here) == {"config.json", "model.safetensors"}
    assert_same_outputs(BertModel.from_pretrained("."), model)


def test_a_link_to_a_folder_stays_a_link_and_its_target_is_filled(tmp_path, small_config):
    (tmp_path / "big disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "big disk")
    model = make(BertModel, small_config)
    for _ in range(2):
        model.save_pretrained(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and names(tmp_path / "big disk") == {"config.json", "model.safetensors"}
    assert names(tmp_path) == {"big disk", "link"}
    assert_same_outputs(BertModel.from_pretrained(tmp_path / "link"), model)


def test_a_mount_point_which_cannot_be_renamed_is_saved_into(tmp_path, small_config, monkeypatch):
    mount, real = tmp_path / "mount", os.replace
    mount.mkdir()

    def replace(source: str | Path, target: str | Path) -> None:
        if Path(source).is_dir() or Path(target).is_dir():
            raise OSError(errno.EBUSY, "Device or resource busy", str(source))
        real(source, target)

    monkeypatch.setattr(files.os, "replace", replace)
    model = make(BertModel, small_config)
    model.save_pretrained(mount)
    assert_same_outputs(BertModel.from_pretrained(mount), model)


def test_a_file_in_the_way_is_refused_and_left_as_it_is(tmp_path, small_config):
    (tmp_path / "good.txt").write_text("mine")
    for _ in range(2):
        with pytest.raises(ValueError, match="good.txt' is a file; pass the path of a folder"):
            make(BertModel, small_config).save_pretrained(tmp_path / "good.txt")
    assert (tmp_path / "good.txt").read_text() == "mine" and names(tmp_path) == {"good.txt"}


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_of_a_folder_is_refused(small_config, name: str):
    with pytest.raises(ValueError, match=r"is empty; pass the path of a folder"):
        make(BertModel, small_config).save_pretrained(name)


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_permissions_of_other_files_stay(saved: Path, small_config):
    (saved / "key.pem").write_text("private")
    (saved / "key.pem").chmod(0o600)
    os.link(saved / "key.pem", saved.parent / "second name")
    (saved / ".DS_Store").write_bytes(b"of the desktop")
    (saved / "config.json").chmod(0o640)
    make(BertForPreTraining, small_config).save_pretrained(saved)
    modes = [stat.S_IMODE((saved / name).stat().st_mode) for name in ("key.pem", "../second name", "config.json")]
    assert modes == [0o600, 0o600, 0o640]
    assert names(saved) == {"config.json", "model.safetensors", "key.pem", ".DS_Store"}


def test_shards_of_an_older_save_are_removed_and_nothing_of_the_same_look(saved: Path, small_config):
    theirs = transformers.BertForPreTraining.from_pretrained(saved)
    (saved / "model.safetensors").unlink()
    theirs.save_pretrained(saved, max_shard_size="10KB")
    assert len(list(saved.glob("model-0*"))) > 1
    (saved / "my model-00001-of-00002.safetensors").touch()
    (saved / "optimizer.bin").touch()
    other = make(BertForPreTraining, small_config, seed=1)
    other.save_pretrained(saved)
    kept = {"my model-00001-of-00002.safetensors", "optimizer.bin", "generation_config.json"}
    assert names(saved) - kept == {"config.json", "model.safetensors"}
    assert_same_outputs(BertForPreTraining.from_pretrained(saved), other)


SAVER = """
import sys, torch
from companion.config import BertConfig
from companion.model.encoder import BertModel
torch.manual_seed(int(sys.argv[2]))
model = BertModel(BertConfig(50, 24, 2, 4, 40, max_position_embeddings=16))
for _ in range(40):
    model.save_pretrained(sys.argv[1])
"""


@pytest.mark.slow
def test_two_processes_that_save_into_one_folder_never_fail(tmp_path: Path):
    commands = [[sys.executable, "-c", SAVER, str(tmp_path / "both"), str(seed)] for seed in (0, 1)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    assert names(tmp_path / "both") == {"config.json", "model.safetensors"}
    found = BertModel.from_pretrained(tmp_path / "both").pooler.dense.weight
    expected = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        expected.append(BertModel(BertConfig(50, 24, 2, 4, 40, max_position_embeddings=16)).pooler.dense.weight)
    assert any(torch.equal(found, weight) for weight in expected)


def test_saving_over_the_files_that_were_loaded_is_safe(saved: Path):
    model = BertForPreTraining.from_pretrained(saved)
    with torch.no_grad():
        model.bert.pooler.dense.bias += 1
    model.save_pretrained(saved)
    assert_same_outputs(BertForPreTraining.from_pretrained(saved), model)
