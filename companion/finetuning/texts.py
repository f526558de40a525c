"""Texts as they are given to an estimator, and as rows of token ids."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from companion.support.containers import as_list, is_missing
from companion.support.require import shortened
from companion.text.tokenizer import Tokenizer
from companion.text.windows import shorten_longest
from companion.training.batching import Rows

Texts = Iterable[str] | Iterable[tuple[str, str]]
Item = str | tuple[str, str]
TRUNCATIONS = ("head", "tail", "head+tail", "windows")
HEAD_SHARE = 4  # "head+tail" keeps a quarter from the start: 128 of 510 tokens (Sun et al. 2019, section 5.3)


def encode_texts(
    tokenizer: Tokenizer, texts: Texts, max_length: int = 128, truncation: str = "head", stride: int | None = None
) -> Rows:
    """Return `input_ids` and `token_type_ids` of every text or pair, at most `max_length`, for `GroupedBatches`.

    Parameters
    ----------
    tokenizer : Tokenizer
    texts : iterable of str, or of (str, str)
    max_length : int
        Tokens of a row, special tokens included. Of a pair, the longer text is shortened first.
    truncation : {"head", "tail", "head+tail", "windows"}
        What is kept of a longer text: its first tokens, its last, a quarter from the start and the rest from the end,
        or all of it, in several rows that overlap.
    stride : int, optional
        Tokens that two windows share; None means a quarter of `max_length`, or an eighth for pairs.

    Returns
    -------
    dict
        With "windows" also `sample`, (rows,): the index of the text of each row.
    """
    items = read_texts("texts", texts)
    first, second = _parts(items)
    if truncation in ("tail", "head+tail"):
        return _without_middle(tokenizer, first, second, max_length, tail_only=truncation == "tail")
    options: dict[str, Any] = {"max_length": max_length, "padding": False, "return_tensors": False}
    if truncation == "windows":
        options["stride"] = max_length // (4 if second is None else 8) if stride is None else stride
    rows = tokenizer(first, second, return_overflow=truncation == "windows", **options)
    columns = {name: rows[name] for name in ("input_ids", "token_type_ids")}
    return columns | ({"sample": rows["overflow_to_sample"]} if truncation == "windows" else {})


def _parts(items: list[Any]) -> tuple[list[str], list[str] | None]:
    """Return the texts or, of pairs, the first and the second ones."""
    return (items, None) if isinstance(items[0], str) else ([a for a, _ in items], [b for _, b in items])


def _without_middle(
    tokenizer: Tokenizer, first: list[str], second: list[str] | None, max_length: int, tail_only: bool
) -> Rows:
    """Return the rows of texts of which the last tokens are kept, and unless `tail_only` some of the first."""
    texts = tokenizer.encode_batch(first)
    pairs = [None] * len(texts) if second is None else tokenizer.encode_batch(second)
    rows: dict[str, list[list[int]]] = {"input_ids": [], "token_type_ids": []}
    for parts in ([one] if other is None else [one, other] for one, other in zip(texts, pairs, strict=True)):
        ids, segments = [tokenizer.cls_id], [0]
        for segment, (part, room) in enumerate(zip(parts, _rooms(parts, max_length - 1 - len(parts)), strict=True)):
            head = 0 if tail_only or len(part) <= room else room // HEAD_SHARE
            kept = [*part[:head], *part[len(part) - (room - head) :], tokenizer.sep_id]
            ids, segments = ids + kept, segments + [segment] * len(kept)
        rows["input_ids"].append(ids)
        rows["token_type_ids"].append(segments)
    return rows


def _rooms(parts: list[list[int]], room: int) -> tuple[int, ...]:
    """Return how many tokens of each text are kept."""
    lengths = tuple(map(len, parts))
    if sum(lengths) <= room:
        return lengths
    return shorten_longest(*lengths, room) if len(lengths) == 2 else (room,)


def read_texts(name: str, texts: Any) -> list[Item]:
    """Return the texts as a list of str or, if they are pairs, of (str, str).

    Parameters
    ----------
    name : str
        The argument, as the caller wrote it.
    texts : iterable
        As in `companion.support.containers.as_list`; pairs also as an array or DataFrame of two columns, and single
        texts as one of one column.

    Raises
    ------
    TypeError
        If an item is neither a str nor a pair of str, or the two are mixed; names its index.
    ValueError
        If there are none.
    """
    items = as_list(name, one_column(texts))
    if not items:
        raise ValueError(f"{name} is empty; at least one text is needed")
    paired = not isinstance(items[0], str)
    for index, item in enumerate(items):
        if is_missing(item):
            raise TypeError(f"{name}[{index}]={item!r} is missing; drop it, or put a text (such as '') in its place")
        if not (_is_pair(item) if paired else isinstance(item, str)):
            wanted = "a str or a pair of str" if index == 0 else "a pair of str" if paired else "a str, as the first is"
            kind = type(item).__name__
            raise TypeError(f"{name}[{index}]={shortened(item)} is of type {kind}; it must be {wanted}")
    return [tuple(item) for item in items] if paired else items


def one_column(values: Any) -> Any:
    """Return an array or DataFrame of one column as that column, and anything else unchanged."""
    if len(getattr(values, "shape", ())) == 2 and values.shape[1] == 1:
        return values.iloc[:, 0] if hasattr(values, "iloc") else values[:, 0]
    return values


def warn_of_truncation(
    tokenizer: Tokenizer, items: Sequence[Item], rows: Rows, max_length: int, cure: str = ""
) -> None:
    """Warn once if texts are longer than `max_length`, with their number and, at the end, what reads all of them.

    Only rows of exactly that length are looked at again.
    """
    full = [index for index, ids in enumerate(rows["input_ids"]) if len(ids) == max_length]
    if count := sum(_length(tokenizer, items[index]) > max_length for index in full):
        what = "texts are" if count > 1 else "text is"
        warnings.warn(
            f"{count:,} of {len(items):,} {what} longer than max_length={max_length} tokens; "
            f"the rest is not read{cure}",
            stacklevel=4,
        )


def _length(tokenizer: Tokenizer, item: Item) -> int:
    parts = [item] if isinstance(item, str) else item
    return 1 + sum(len(ids) + 1 for ids in tokenizer.encode_batch(parts))  # [CLS], and [SEP] after each


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2 and all(isinstance(part, str) for part in item)
