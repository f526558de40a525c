"""What the tests of the bundled sets share: the card, and texts that resemble each other."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer

from companion.data.labelled import BUNDLED

SPLITS = ("train", "validation", "test")


def card_text(name: str) -> str:
    """Return the card of a bundled set."""
    return (BUNDLED / name / "README.md").read_text(encoding="utf-8")


def row_of_table(card: str, first: str) -> list[int]:
    """Return the counts in the row of the card's table that begins with `first`."""
    cells = re.search(rf"^\| {first} \|(.*)\|$", card, re.MULTILINE).group(1)
    return [int(cell.replace(",", "")) for cell in cells.split("|")]


def figures(card: str, pattern: str) -> list[float]:
    """Return the numbers of a sentence of the card; `#` in the pattern stands for one."""
    wanted = re.escape(pattern).replace(r"\#", "#").replace("#", r"(-?\d+(?:\.\d+)?)").replace(r"\ ", r"\s+")
    return [float(number) for number in re.search(wanted, card).groups()]


def members_of_pairs(rows: Iterable[Mapping[str, Any]], *columns: str) -> list[list[tuple[Any, ...]]]:
    """Return, for each contrast pair, the values of some columns of its members."""
    members = defaultdict(list)
    for row in rows:
        if row["pair"] is not None:
            members[row["pair"]].append(tuple(row[column] for column in columns))
    return list(members.values())


def similar_texts(texts: Sequence[str], least: float = 0.6, **terms: Any) -> Iterator[tuple[int, int]]:
    """Yield the places of two texts whose TF-IDF vectors have a cosine above `least`; `terms` says of what."""
    vectors = TfidfVectorizer(**terms).fit_transform(texts)
    found = (vectors @ vectors.T).tocoo()
    for i, j, cosine in zip(found.row, found.col, found.data, strict=True):
        if i < j and cosine > least:
            yield int(i), int(j)


def shared_runs(
    some: Sequence[str], others: Sequence[str], length: int = 6, unit: str = r"\w+"
) -> set[tuple[str, ...]]:
    r"""Return the runs of `length` words that occur in both; `unit=r"\w"` takes characters for words."""
    return _runs(some, length, unit) & _runs(others, length, unit)


def _runs(texts: Sequence[str], length: int, unit: str) -> set[tuple[str, ...]]:
    words = [re.findall(unit, text.lower()) for text in texts]
    return {tuple(one[k : k + length]) for one in words for k in range(len(one) - length + 1)}
