"""Files and folders are replaced whole: an error, a full disk or a kill leaves the old or the new, never a half."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from companion.support import files
from companion.support.files import (
    atomic_file,
    atomic_folder,
    read_json,
    read_utf8,
    recover_folder,
    replace_folder,
    sha256,
    write_json,
)

FULL = OSError(errno.ENOSPC, "No space left on device")


def write_folder(path: Path, text: str) -> None:
    with atomic_folder(path) as temporary:
        (temporary / "a.txt").write_text(text)
        (temporary / "deep").mkdir()
        (temporary / "deep" / "b.txt").write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def whole(text: str) -> dict[str, str]:
    return {"a.txt": text, "deep/b.txt": text}


@pytest.fixture
def umask() -> Iterator[None]:
    old = os.umask(0o027)
    yield
    os.umask(old)


def test_a_file_appears_with_its_parents_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("text")
        assert not path.exists()
        assert temporary.parent == path.parent, "only within one disk is a rename at once"
    assert path.read_text() == "text"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("wrong"), FULL, KeyboardInterrupt()])
def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path, error: BaseException):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_is_full_at_the_very_end_keeps_the_old_file(tmp_path, monkeypatch, call: str):
    path = tmp_path / "file.txt"
    path.write_text("old")
    monkeypatch.setattr(files.os, call, lambda *_: (_ for _ in ()).throw(FULL))
    with pytest.raises(OSError, match="No space left"), atomic_file(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_contents_are_on_the_disk_before_the_name_changes(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(files.os, "fsync", lambda handle: calls.append("fsync"))
    real = os.replace
    monkeypatch.setattr(files.os, "replace", lambda *names: (calls.append("replace"), real(*names)))
    with atomic_file(tmp_path / "file.txt") as temporary:
        temporary.write_text("new")
    assert calls == ["fsync", "replace"]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_permissions_follow_the_umask(tmp_path, umask):
    with atomic_file(tmp_path / "file.txt") as temporary:
        temporary.write_text("")
    write_folder(tmp_path / "folder", "")
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750
    assert os.umask(0o027) == 0o027, "reading the umask must not change it"


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_weights_can_be_read_by_whom_the_umask_allows(tmp_path, umask):
    """Safetensors puts a file in place that its owner alone may read."""
    with atomic_file(tmp_path / "model.safetensors") as file:
        save_file({"weight": torch.zeros(2)}, file)
    assert stat.S_IMODE((tmp_path / "model.safetensors").stat().st_mode) == 0o640


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o640])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, mode: int):
    path = tmp_path / "file.txt"
    path.write_text("old")
    path.chmod(mode)
    with atomic_file(path) as temporary:
        temporary.write_text("new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", mode)


def test_a_link_to_a_file_is_replaced_and_what_it_points_at_kept(tmp_path):
    (tmp_path / "shared").write_text("of many")
    (tmp_path / "file.txt").symlink_to(tmp_path / "shared")
    with atomic_file(tmp_path / "file.txt") as temporary:
        temporary.write_text("mine")
    assert (tmp_path / "shared").read_text() == "of many" and (tmp_path / "file.txt").read_text() == "mine"


def test_of_two_writers_at_once_one_wins_whole(tmp_path):
    path, inside = tmp_path / "file.txt", threading.Barrier(2)

    def write(letter: str) -> None:
        with atomic_file(path) as temporary:
            temporary.write_text(letter * 1000)
            inside.wait(timeout=10)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in ("a" * 1000, "b" * 1000)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "some" / "folder"
    write_folder(path, "old")
    (path / "left.txt").write_text("of the old one")
    write_folder(path, "new")
    assert content(path) == whole("new")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("wrong"), FULL, KeyboardInterrupt()])
def test_after_an_error_the_old_folder_is_there_and_nothing_else(tmp_path, error: BaseException):
    path = tmp_path / "folder"
    write_folder(path, "old")
    with pytest.raises(type(error)), atomic_folder(path) as temporary:
        (temporary / "a.txt").write_text("half")
        raise error
    assert content(path) == whole("old")
    assert list(tmp_path.iterdir()) == [path]


def test_every_file_of_a_folder_is_on_the_disk_before_the_name_changes(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(files.os, "fsync", lambda handle: calls.append("fsync"))
    real = os.replace
    monkeypatch.setattr(files.os, "replace", lambda *names: (calls.append("replace"), real(*names)))
    write_folder(tmp_path / "folder", "new")
    assert calls == ["fsync", "fsync", "replace"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path, monkeypatch, failing: int):
    path, real, calls = tmp_path / "folder", os.replace, []

    def replace(*names: object) -> None:
        calls.append(names)
        if len(calls) == failing:
            raise OSError(errno.EIO, "Input/output error")
        real(*names)

    write_folder(path, "old")
    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises(OSError, match="Input/output"):
        write_folder(path, "new")
    assert content(path) == whole("old")
    assert list(tmp_path.iterdir()) == [path]


# Kill the process at the n-th rename or removal of a replacement, before or after it.
KILLED = """
import os, shutil, sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from companion.support import files
from test_files import write_folder
at, calls = int(sys.argv[2]), []
def deadly(function):
    def call(*args, **options):
        calls.append(function)
        if len(calls) == at and sys.argv[3] == "before":
            os._exit(9)
        result = function(*args, **options)
        if len(calls) == at:
            os._exit(9)
        return result
    return call
files.os.replace = deadly(os.replace)
files.shutil.rmtree = deadly(shutil.rmtree)
write_folder(Path(sys.argv[1]), "new")
"""


@pytest.mark.parametrize(
    ("at", "when", "left"),
    [(1, "before", "old"), (1, "after", "old"), (2, "before", "old"), (2, "after", "new"), (3, "before", "new")],
)
def test_killed_at_any_moment_a_whole_folder_comes_back(tmp_path, at: int, when: str, left: str):
    path = tmp_path / "folder"
    write_folder(path, "old")
    command = [sys.executable, "-c", KILLED, str(path), str(at), when, str(Path(__file__).parent)]
    assert subprocess.run(command, check=False).returncode == 9
    recover_folder(path)
    assert content(path) == whole(left)
    write_folder(path, "newest")
    assert content(path) == whole("newest")
    assert not list(tmp_path.glob("*.old")) and not (tmp_path / ".folder.old").exists()


def test_recovering_clears_an_old_folder_that_has_been_replaced_and_leaves_others_alone(tmp_path):
    write_folder(tmp_path / "folder", "new")
    (tmp_path / ".folder.old").mkdir()
    (tmp_path / ".other.old").mkdir()
    recover_folder(tmp_path / "folder")
    recover_folder(tmp_path / "never written")
    assert {entry.name for entry in tmp_path.iterdir()} == {"folder", ".other.old"}


def test_a_replacement_is_not_stopped_by_what_a_killed_one_left(tmp_path):
    write_folder(tmp_path / "folder", "old")
    write_folder(tmp_path / ".folder.old", "older")
    write_folder(tmp_path / "temporary", "new")
    replace_folder(tmp_path / "temporary", tmp_path / "folder")
    assert content(tmp_path / "folder") == whole("new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_the_checksum_is_sha256_of_all_contents_in_order(tmp_path):
    (tmp_path / "1").write_bytes(b"a")
    (tmp_path / "2").write_bytes(b"bc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "1", tmp_path / "2") == abc
    assert sha256(tmp_path / "2", tmp_path / "1") != abc
    assert sha256() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_file_longer_than_one_block_is_read_to_its_end(tmp_path):
    long = tmp_path / "long"
    long.write_bytes(b"x" * (1 << 20) + b"end")
    first = sha256(long)
    long.write_bytes(b"x" * (1 << 20) + b"END")
    assert sha256(long) != first


def test_json_that_cannot_be_written_leaves_the_old_record(tmp_path):
    write_json(tmp_path / "new" / "record.json", {"steps": 8})
    with pytest.raises(TypeError):
        write_json(tmp_path / "new" / "record.json", {"steps": object()})
    assert json.loads((tmp_path / "new" / "record.json").read_text(encoding="utf-8")) == {"steps": 8}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["record.json"]


def test_json_and_text_are_read_whatever_their_line_ends_and_byte_order_mark(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a":\r\n"\xc3\xa9"}\r\n')
    assert read_json(tmp_path / "a.json") == {"a": "é"}
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\xe2\x80\xa8d\n")
    assert read_utf8(tmp_path / "a.txt") == "a\nb\nc\u2028d\n"


def test_text_in_another_encoding_is_named_with_file_and_line(tmp_path):
    (tmp_path / "a.txt").write_bytes("one\ntwo\ncafé\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a.txt, line 3, is not UTF-8 \(byte 0xe9\).*iconv -f latin1"):
        read_utf8(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_bytes("one".encode("utf-16"))
    with pytest.raises(ValueError, match="a.txt is in UTF-16"):
        read_utf8(tmp_path / "a.txt")
