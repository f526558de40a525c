"""Files: written whole or not at all, whatever crashes, fills up or writes beside; read with errors that name them."""

from __future__ import annotations

import codecs
import hashlib
import json
import math
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LFS_POINTER = b"version https://git-lfs"  # begins what Git leaves in the place of a large file that was not fetched


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without an error.

    Parameters
    ----------
    path : str or Path
        The file to be written or replaced, which keeps its permissions. Its parent folders are made.

    Yields
    ------
    Path
        Where the block writes. After an error that file is removed and an old `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(path)
    temporary.touch(exist_ok=False)  # with the permissions that the system gives to any new file
    if path.is_file():
        temporary.chmod(stat.S_IMODE(path.stat().st_mode))
    permissions = stat.S_IMODE(temporary.stat().st_mode)
    try:
        yield temporary
        temporary.chmod(permissions)  # safetensors puts a file of its own in place, which its owner alone may read
        _flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: str | Path, content: Any) -> None:
    """Write a record as JSON, whole or not at all; numbers that are not finite, which JSON has not, as null."""
    with atomic_file(path) as file:
        file.write_text(json.dumps(finite(content), indent=1) + "\n", encoding="utf-8")


def finite(content: Any) -> Any:
    """Return the content of a record with None in the place of every number that is not finite."""
    if isinstance(content, dict):
        return {name: finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def read_json(path: str | Path) -> Any:
    """Return the content of a JSON file in UTF-8, with or without a byte order mark.

    Raises
    ------
    ValueError
        If it is not; names the file and says what it is.
    """
    try:
        return json.loads(read_utf8(path))
    except json.JSONDecodeError as error:
        what = damage(path) or f"not JSON (line {error.lineno}, column {error.colno}: {error.msg})"
        raise ValueError(f"{path} is {what}; fetch or write it again") from None


def read_utf8(path: str | Path) -> str:
    """Return the text of a file in UTF-8, without a byte order mark, with plain line ends.

    Raises
    ------
    ValueError
        If it is in another encoding; names file and line.
    """
    content = Path(path).read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"{path} is in UTF-16; convert it to UTF-8, for example with iconv -f utf-16 -t utf-8")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}, is not UTF-8 (byte {content[error.start]:#04x}); convert the file to UTF-8, for "
            "example with iconv -f latin1 -t utf-8"
        ) from None


def damage(path: str | Path) -> str | None:
    """Return what a file is that a download left in the place of another; None if nothing of the kind is seen."""
    with open(path, "rb") as file:
        head = file.read(1024)
    if not head:
        return "empty"
    if head.startswith(LFS_POINTER):
        return "a Git LFS pointer, which stands for the file itself; run git lfs pull"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not the file that was asked for"
    return None


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` when the block ends without an error.

    An existing `path` is moved aside first and removed last, so that at every moment one complete folder is on disk:
    under `path`, or (between the two renames) under a name that ends in `.old`, which `recover_folder` puts back.

    Parameters
    ----------
    path : str or Path
        The folder to be written or replaced.

    Yields
    ------
    Path
        An empty folder for the block to fill. After an error it is removed and an old `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(path)
    temporary = _temporary_name(path)
    temporary.mkdir()
    try:
        yield temporary
        replace_folder(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def recover_folder(path: str | Path) -> None:
    """Finish a replacement of the folder `path` that stopped between its two renames, and clear what it left."""
    path = Path(path)
    old = _old_name(path)
    if old.exists() and not path.exists():
        os.replace(old, path)
    elif old.exists():
        shutil.rmtree(old, ignore_errors=True)


def sha256(*paths: str | Path) -> str:
    """Return the SHA-256 of the contents of `paths`, one after another, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def replace_folder(temporary: Path, path: Path) -> None:
    """Put the complete folder `temporary` (on the same disk) in the place of `path`, as `atomic_folder` does."""
    readers = temporary.stat().st_mode & 0o444
    for file in temporary.rglob("*"):
        if file.is_file():
            file.chmod(file.stat().st_mode | readers)  # some libraries write for the owner's eyes only
            _flush(file)
    recover_folder(path)
    old = _old_name(path)
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(temporary, path)
    except OSError:
        recover_folder(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def _old_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _flush(file: Path) -> None:
    with open(file, "rb") as handle:
        os.fsync(handle.fileno())
