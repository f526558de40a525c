"""Plain text by documents and paragraphs: files, folders, saved data sets, the hub, the reader's Python packages."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any

from companion.data.docstrings import installed_checksum, installed_documents
from companion.support.files import damage, sha256
from companion.support.require import integer
from companion.text.sentences import split_sentences

DOCUMENT_END = ""
Source = str | Path | Sequence[str | Path]
_OPENERS: dict[str, Callable[..., IO[Any]]] = {".txt": open, ".gz": gzip.open, ".xz": lzma.open}
_SUFFIXES = (".txt", ".txt.gz", ".txt.xz")
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"  # a line of these alone looks empty, and is


class CorpusError(ValueError):
    """A folder that is no complete corpus of this format."""


def read_documents(source: Source, limit: int | None = None) -> Iterator[list[list[str]]]:
    """Yield each document as a list of paragraphs, each a list of sentences.

    Holds one document at a time. Arguments and errors are those of `read_paragraphs`.
    """
    document: list[list[str]] = []
    for paragraph in read_paragraphs(source, limit):
        if paragraph != DOCUMENT_END:
            document.append(split_sentences(paragraph))
        elif document:
            yield document
            document = []


def read_paragraphs(source: Source, limit: int | None = None) -> Iterator[str]:
    """Yield the paragraphs of a source, and an empty string after each document.

    Parameters
    ----------
    source : str, Path or sequence of them
        - A text file (``.txt``, ``.txt.gz``, ``.txt.xz``; UTF-8): one paragraph per line, an empty line between
          documents. A folder stands for all such files in it, in the order of their paths, hidden files and folders
          left out, and a pattern with ``*`` for the files that match. A file's end ends a document.
        - ``"python-docs"``: the docstrings of the Python packages installed here, one document per module.
        - A folder written by ``datasets.save_to_disk``, or ``"hub:owner/name"`` or ``"hub:owner/name/config"``
          (streamed, split "train"): one document per row of the column ``text``, one paragraph per line.
    limit : int, optional
        Stop before the paragraph with which the text would pass this many bytes (UTF-8, line ends not counted).

    Raises
    ------
    FileNotFoundError
        If a path does not exist or a pattern matches nothing.
    ValueError
        If a file has another ending, is not UTF-8 or is damaged, or `limit` ends before the first paragraph.
    """
    if limit is not None:
        integer("limit", limit, 1)
    return _closed(_limited(_open_source(source), limit, refuses=True))


def raw_paragraphs(source: Source, limit: int | None = None, skip: int = 0) -> Iterator[str]:
    """Yield what `read_paragraphs` does, before empty documents are left out and one that `limit` ends is closed.

    Parameters
    ----------
    source, limit
        As in `read_paragraphs`; `limit` counts from where the reading begins.
    skip : int
        Begin after so many ends of documents, those of empty ones counted: rows of a data set, by its own
        ``skip`` (which downloads those of the hub), or empty lines and ends of text files, which are read and dropped.
    """
    return _limited(_open_source(source, skip), limit)


def source_checksum(source: Source, *, contents: bool = True) -> str:
    """Return a SHA-256 that changes when the source does.

    Text files and saved data sets: names and contents; names and sizes without `contents`, which reads none of them
    and so does not notice an edit that keeps the size. ``"python-docs"``: names and sizes of the modules, so an edit
    inside an installed file that keeps its size is not noticed. ``"hub:..."``: the name alone, since the rows
    cannot be hashed without downloading them; remove the folder to fetch a changed set again.
    """
    if source == "python-docs":
        return installed_checksum()
    if isinstance(source, str) and source.startswith("hub:"):
        return hashlib.sha256(source.encode()).hexdigest()
    files = _saved_dataset_files(source) or _text_files(source)
    lines = "\n".join(f"{sha256(file) if contents else file.stat().st_size}  {file.name}" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _limited(paragraphs: Iterator[str], limit: int | None, refuses: bool = False) -> Iterator[str]:
    """Pass paragraphs on up to `limit` bytes; a limit below the first of them is passed over or refused."""
    total = before = 0
    for paragraph in paragraphs:
        total += len(paragraph.encode())
        if limit is not None and total > limit:
            if refuses and not before:
                raise ValueError(f"limit={limit} ends before the first paragraph, which has {total} bytes; raise it")
            return
        before = total
        yield paragraph


def _closed(paragraphs: Iterator[str]) -> Iterator[str]:
    """Close the last document, and leave out empty ones."""
    inside = False
    for paragraph in paragraphs:
        if paragraph != DOCUMENT_END or inside:
            yield paragraph
        inside = paragraph != DOCUMENT_END
    if inside:
        yield DOCUMENT_END


def _open_source(source: Source, skip: int = 0) -> Iterator[str]:
    if isinstance(source, str) and source.startswith("hub:"):
        return _dataset_paragraphs(_hub_rows(source.removeprefix("hub:")), skip)
    if isinstance(source, str | Path) and _saved_dataset_files(source):
        return _dataset_paragraphs(_saved_rows(Path(source)), skip)
    if source == "python-docs":
        paragraphs = chain.from_iterable((*texts, DOCUMENT_END) for _, texts in installed_documents())
    else:
        paragraphs = chain.from_iterable(map(_file_paragraphs, _text_files(source)))
    return _after_documents(paragraphs, skip)


def _after_documents(paragraphs: Iterator[str], count: int) -> Iterator[str]:
    """Drop paragraphs up to the end of document number `count`."""
    while count:
        count -= next(paragraphs, DOCUMENT_END) == DOCUMENT_END
    return paragraphs


def _file_paragraphs(path: Path) -> Iterator[str]:
    try:
        with _open_text(path) as file:
            for line in file:
                yield _paragraph(line)  # an empty line is DOCUMENT_END
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {_undecodable_line(path)} is not UTF-8 ({error.reason}); convert the file, if it is Latin-1 "
            f"with: iconv -f latin1 -t utf8 {path.name}"
        ) from error
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"{path} is cut short or damaged ({error}); fetch or write it again") from error
    yield DOCUMENT_END


def _paragraph(line: str) -> str:
    """Return a line with single spaces; empty if nothing of it can be seen."""
    text = " ".join(line.split())
    return text if text.strip(_INVISIBLE + " ") else ""


def _open_text(path: Path) -> IO[str]:
    return _OPENERS[path.suffix.lower()](path, "rt", encoding="utf-8-sig")


def _undecodable_line(path: Path) -> int:
    """Return the number of the first line, counted from 1, that is not UTF-8."""
    with _OPENERS[path.suffix.lower()](path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 0


def _text_files(source: Source) -> list[Path]:
    """Return the text files that a source names, sorted within each folder or pattern."""
    if not isinstance(source, str | Path):
        return [file for part in source for file in _text_files(part)]
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if _is_text(file) and not _is_hidden(file, path))
    elif "*" in str(source):
        anchor = Path(path.anchor)
        files = sorted(anchor.glob(str(path.relative_to(anchor))))
    else:
        files = [path] if path.is_file() else []
    if not files:
        raise FileNotFoundError(
            f"source={str(source)!r} is no text file, no folder with {', '.join(_SUFFIXES)} files and no pattern that "
            "matches any; other sources are 'python-docs' and 'hub:owner/name'"
        )
    for file in files:
        if not _is_text(file):
            raise ValueError(f"source={str(file)!r} does not end in {', '.join(_SUFFIXES)}; rename or convert the file")
        if (what := damage(file)) and what != "empty":
            raise ValueError(f"source={str(file)!r} is {what}")
    return files


def _is_text(file: Path) -> bool:
    return file.name.lower().endswith(_SUFFIXES) and file.is_file()


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _saved_dataset_files(source: Source) -> list[Path]:
    """Return the files of a folder written by ``datasets.save_to_disk``, [] for any other source."""
    if not isinstance(source, str | Path):
        return []
    path = Path(source)
    marks = ("dataset_dict.json", "state.json")
    if not any((path / mark).is_file() for mark in marks):
        return []
    return sorted(file for file in path.rglob("*") if file.suffix in (".arrow", ".json"))


def _saved_rows(folder: Path) -> Iterable[dict]:
    from datasets import DatasetDict, load_from_disk

    loaded = load_from_disk(str(folder))
    return loaded["train"] if isinstance(loaded, DatasetDict) else loaded


def _hub_rows(name: str) -> Iterable[dict]:
    from datasets import load_dataset

    parts = name.split("/")
    if len(parts) not in (2, 3):
        raise ValueError(f"source='hub:{name}' is not of the form 'hub:owner/name' or 'hub:owner/name/config'")
    return load_dataset("/".join(parts[:2]), *parts[2:], split="train", streaming=True)


def _dataset_paragraphs(rows: Any, skip: int) -> Iterator[str]:
    for row in rows.skip(skip) if skip else rows:
        if "text" not in row:
            raise ValueError(f"the data set has the columns {sorted(row)}; rename the one with the text to 'text'")
        for line in row["text"].splitlines():
            if paragraph := _paragraph(line):
                yield paragraph
        yield DOCUMENT_END
