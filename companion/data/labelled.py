"""Labelled data by name: the sets that come with the book, folders of JSON Lines, and the hub."""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


BUNDLED = Path(__file__).parent / "sets"
SPLITS = ("train", "validation", "test")
ENDINGS = (".jsonl", ".jsonl.xz")
FOLDER_VARIABLE = "COMPANION_DATA"
Row = dict[str, Any]


def load_dataset(name: str | Path, subset: str | None = None) -> DatasetDict:
    """Return a data set by name, each split a `datasets.Dataset`.

    Parameters
    ----------
    name : str or Path
        Looked up in this order: a set bundled with the package (`bundled_names()`); a folder of JSON Lines, given by
        its path or by its name under `$COMPANION_DATA` or `$COMPANION_DATA/tasks`; a data set of the hub, such as
        `"stanfordnlp/sst2"`. A folder holds at least one of `train`, `validation`, `test` as `.jsonl` or `.jsonl.xz`:
        UTF-8, one object a line, every line of a file with the same keys.
    subset : str, optional
        Which configuration of a data set of the hub: `load_dataset("nyu-mll/glue", "cola")`.

    Returns
    -------
    datasets.DatasetDict
        The splits there are, in the order train, validation, test, with the rows in the order of the file.

    Raises
    ------
    FileNotFoundError
        If none of the three has it; the message says what was tried and what to do.
    ValueError
        If a file is malformed (names file and line), or both the plain and the compressed form of a split are there.
    """
    if subset is None:
        for folder in _folders(name):
            if files := _split_files(folder):
                return _read_folder(files)
    return _from_hub(name, subset)


def texts_and_labels(split: Dataset, texts: Sequence[str], label: str) -> tuple[list[Any], list[Any]]:
    """Return the texts, or tuples of them where `texts` names several columns, and the labels of a split.

    Raises
    ------
    ValueError
        If a column is missing; names it and those that are there.
    """
    if missing := [name for name in (*texts, label) if name not in split.column_names]:
        raise ValueError(f"column {missing[0]!r} is not in the data, which has: {', '.join(split.column_names)}")
    *columns, labels = (list(split[name]) for name in (*texts, label))
    return (columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))), labels


def bundled_names() -> list[str]:
    """Return the names of the data sets that come with the package; each has a card, `README.md`, beside its files."""
    return sorted(folder.name for folder in BUNDLED.iterdir() if folder.is_dir() and _split_files(folder))


def _folders(name: str | Path) -> list[Path]:
    """Return where a folder of this name may lie, the first to be looked at first."""
    folders = [BUNDLED / name] if str(name) in bundled_names() else []
    folders.append(Path(name))
    if root := os.environ.get(FOLDER_VARIABLE):
        folders += [Path(root) / name, Path(root) / "tasks" / name]
    return folders


def _split_files(folder: Path) -> dict[str, Path]:
    files = {}
    for split in SPLITS:
        found = [path for ending in ENDINGS if (path := folder / f"{split}{ending}").is_file()]
        if len(found) > 1:
            raise ValueError(f"folder {str(folder)!r} holds both {found[0].name} and {found[1].name}; remove one")
        if found:
            files[split] = found[0]
    return files


def _read_folder(files: dict[str, Path]) -> DatasetDict:
    from datasets import DatasetDict

    return DatasetDict({split: _read_split(split, path) for split, path in files.items()})


def _read_split(split: str, path: Path) -> Dataset:
    import pyarrow as pa
    from datasets import Dataset

    rows = list(read_jsonl(path))
    if not rows:
        raise ValueError(f"{path} holds no rows; remove it or write one JSON object a line")
    try:
        return Dataset.from_dict({key: [row[key] for row in rows] for key in rows[0]}, split=split)
    except pa.ArrowException as error:
        raise ValueError(f"{path}: the values of a key differ in type from line to line ({error})") from error


def read_jsonl(path: str | Path) -> Iterator[Row]:
    """Yield the objects of a `.jsonl` or `.jsonl.xz` file, one a line; blank lines are passed over.

    Raises
    ------
    ValueError
        If a line is not a JSON object, or has other keys than the first; names the file and the line.
    """
    path = Path(path)
    opener = lzma.open if path.suffix == ".xz" else open
    first: Row | None = None
    with opener(path, "rb") as file:
        for number, line in enumerate(_lines(file, path), start=1):
            if line.strip():
                row = _parse(line, f"{path}, line {number}")
                first = first or row
                _check_keys(row, first, f"{path}, line {number}")
                yield row


def _lines(file: Any, path: Path) -> Iterator[bytes]:
    try:
        yield from file
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{path} is damaged or is not xz-compressed ({error}); fetch or write it again") from error


def _parse(line: bytes, place: str) -> Row:
    try:
        row = json.loads(line.decode("utf-8"))
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are both of this kind
        raise ValueError(f"{place} is not JSON in UTF-8: {error}") from None
    if not isinstance(row, dict) or not row:
        raise ValueError(f"{place} holds {line.decode('utf-8').strip()[:40]!r}; expected an object of one key or more")
    return row


def _check_keys(row: Row, first: Row, place: str) -> None:
    if row.keys() != first.keys():
        raise ValueError(f"{place} has the keys {sorted(row)}, the first line {sorted(first)}; write null for none")


def _from_hub(name: str | Path, subset: str | None) -> DatasetDict:
    import datasets
    from huggingface_hub.errors import HFValidationError

    try:
        return datasets.load_dataset(str(name), subset)
    except (OSError, HFValidationError) as error:  # not there, not reachable, or not the form of a hub id
        raise FileNotFoundError(_not_found(name, subset, error)) from error


def _not_found(name: str | Path, subset: str | None, error: Exception) -> str:
    folders = _folders(name) if subset is None else []
    looked = " or ".join(repr(str(folder)) for folder in folders) or "none, since subset is given"
    unset = "" if os.environ.get(FOLDER_VARIABLE) else f" (${FOLDER_VARIABLE} is not set)"
    return (
        f"data set {str(name)!r} not found. Tried: bundled sets ({', '.join(bundled_names()) or 'none'}); folders "
        f"with {', '.join(SPLITS)} as .jsonl or .jsonl.xz: {looked}{unset}; the hub, which does not have it or cannot "
        f"be reached ({type(error).__name__}). Check the name, set ${FOLDER_VARIABLE} to the folder that holds it, or "
        "connect to the internet"
    )
