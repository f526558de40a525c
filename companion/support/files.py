"""Writing files so that a crash, a full disk or a second process never leaves a half-written one behind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without an error.

    Parameters
    ----------
    path : str or Path
        The file to be written or replaced. Its parent folders are made.

    Yields
    ------
    Path
        Where the block writes. After an error that file is removed and an old `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    temporary = Path(name)
    temporary.chmod(0o666 & ~_umask())
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: str | Path, content: Any) -> None:
    """Write a record as JSON, whole or not at all."""
    with atomic_file(path) as file:
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


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
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial"))
    temporary.chmod(0o777 & ~_umask())
    try:
        yield temporary
        replace_folder(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def recover_folder(path: str | Path) -> None:
    """Finish a replacement of the folder `path` that was cut off between its two renames, and clear what it left."""
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
    for file in temporary.rglob("*"):
        if file.is_file():
            file.chmod(file.stat().st_mode | (0o444 & ~_umask()))  # some libraries write for the owner's eyes only
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


def _old_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _flush(file: Path) -> None:
    with open(file, "rb") as handle:
        os.fsync(handle.fileno())


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
