"""Rows of a file: JSON Lines, JSON, CSV, TSV or Parquet, also compressed, as a `datasets.Dataset`."""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from companion.support.files import damage

if TYPE_CHECKING:
    from datasets import Dataset

Row = dict[str, Any]
_OPENERS = {".xz": lzma.open, ".gz": gzip.open}
KINDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
ENDINGS = tuple(f"{kind}{packed}" for kind in KINDS for packed in ("", *_OPENERS) if kind != ".parquet" or not packed)


def read_table(path: str | Path, split: str | None = None) -> Dataset:
    """Return the rows of a file, in its order.

    Parameters
    ----------
    path : str or Path
        Ends in one of `ENDINGS`. JSON Lines: one object per line. JSON: a list of objects. CSV, TSV: a head with the
        names of the columns; an empty cell is null. All text is UTF-8, with or without a byte-order mark.
    split : str, optional
        The name that the `Dataset` takes.

    Raises
    ------
    ValueError
        If the file is malformed or empty; names the file and, where there is one, the line.
    """
    path = Path(path)
    kind = next((suffix for suffix in reversed(path.suffixes) if suffix not in _OPENERS), "")
    if not path.name.endswith(ENDINGS):
        raise ValueError(f"{path} does not end in {', '.join(KINDS)} (text also .xz or .gz); rename or convert it")
    if path.stat().st_size and (what := damage(path)):
        raise ValueError(f"{path} is {what}")
    if kind == ".parquet":
        return _from_parquet(path, split)
    if kind in (".csv", ".tsv"):
        return _from_separated(path, "," if kind == ".csv" else "\t", split)
    return _from_rows(list(read_jsonl(path) if kind == ".jsonl" else _read_json(path)), path, split)


def read_jsonl(path: str | Path) -> Iterator[Row]:
    """Yield the objects of a file of JSON Lines; blank lines are passed over.

    Raises
    ------
    ValueError
        If a line is not a JSON object, holds a key twice, or has other keys than the first; names file and line.
    """
    first: Row | None = None
    for number, line in enumerate(_lines(Path(path)), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            row = _parse(line, place)
            if not isinstance(row, dict) or not row:
                raise ValueError(f"{place} holds {line.strip()[:40]!r}; expected an object of one key or more")
            first = first or row
            _check_keys(row, first, place)
            yield row


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines, without the byte-order mark that Windows puts before the first."""
    with _open(path) as file:
        for number, line in enumerate(_unpacked(file, path), start=1):
            yield _decoded(line, path, number)


def _open(path: Path) -> IO[bytes]:
    opener: Any = _OPENERS.get(path.suffix, open)
    return opener(path, "rb")


def _unpacked(file: IO[bytes], path: Path) -> Iterator[bytes]:
    try:
        yield from file
    except (lzma.LZMAError, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path} is damaged or not compressed ({error}); fetch or write it again") from error


def _decoded(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number} is not UTF-8 ({error.reason}); convert it, for example: iconv -f latin1 -t utf-8"
        ) from None


def _parse(text: str, place: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except ValueError as error:
        raise ValueError(f"{place} is not JSON: {error}") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return row


def _check_keys(row: Row, first: Row, place: str) -> None:
    if row.keys() != first.keys():
        raise ValueError(f"{place} has the keys {sorted(row)}, the first line {sorted(first)}; write null for none")


def _read_json(path: Path) -> list[Row]:
    rows = _parse("".join(_lines(path)), str(path))
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row for row in rows):
        raise ValueError(f"{path} is no list of objects; expected [{{...}}, {{...}}], or one object per line (.jsonl)")
    for number, row in enumerate(rows, start=1):
        _check_keys(row, rows[0], f"{path}, object {number}")
    return rows


def _from_rows(rows: list[Row], path: Path, split: str | None) -> Dataset:
    import pyarrow as pa
    from datasets import Dataset

    if not rows:
        raise ValueError(f"{path} holds no rows; remove it, or write at least one")
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    try:
        return Dataset.from_dict(columns, split=split, info=_info(path))
    except pa.ArrowException as error:
        raise ValueError(f"{path}: the values of a key differ in type from line to line ({error})") from error


def _from_separated(path: Path, separator: str, split: str | None) -> Dataset:
    import pandas as pd
    from datasets import Dataset

    text = "".join(_lines(path))
    head = next(csv.reader(io.StringIO(text), delimiter=separator), [])
    if twice := [name for name in head if head.count(name) > 1]:
        raise ValueError(f"{path}: the column {twice[0]!r} stands twice in its first line; rename one")
    options = {"sep": separator, "index_col": False, "keep_default_na": False, "na_values": [""]}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # the first row has a cell too many
            table = pd.read_csv(io.StringIO(text), on_bad_lines="error", **options)
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if table.empty:
        raise ValueError(f"{path} holds no rows below its first line; remove it, or write at least one")
    return Dataset.from_pandas(table, preserve_index=False, split=split, info=_info(path))


def _from_parquet(path: Path, split: str | None) -> Dataset:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Dataset
    from datasets.table import InMemoryTable

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise ValueError(f"{path} is no readable Parquet file ({error}); write it again") from None
    if not len(table):
        raise ValueError(f"{path} holds no rows; remove it, or write at least one")
    return Dataset(InMemoryTable(table), split=split, info=_info(path))


def _info(path: Path) -> Any:
    """Remember the file, so that an error about a row can name it."""
    from datasets import DatasetInfo

    return DatasetInfo(description=str(path))
