"""Texts as they are given to an estimator, and as rows of token ids."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from companion.support.containers import as_list, is_missing
from companion.support.require import shortened
from companion.text.tokenizer import Tokenizer
from companion.training.batching import Rows

Texts = Iterable[str] | Iterable[tuple[str, str]]
Item = str | tuple[str, str]


def encode_texts(tokenizer: Tokenizer, texts: Texts, max_length: int = 128) -> Rows:
    """Return `input_ids` and `token_type_ids` of every text or pair, at most `max_length`, for `GroupedBatches`."""
    items = read_texts("texts", texts)
    first, second = (items, None) if isinstance(items[0], str) else map(list, zip(*items, strict=True))
    rows = tokenizer(first, second, max_length=max_length, padding=False, return_tensors=False)
    return {name: rows[name] for name in ("input_ids", "token_type_ids")}


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


def warn_of_truncation(tokenizer: Tokenizer, items: Sequence[Item], rows: Rows, max_length: int) -> None:
    """Warn once if texts are longer than `max_length`, with their number.

    Only rows of exactly that length are looked at again.
    """
    full = [index for index, ids in enumerate(rows["input_ids"]) if len(ids) == max_length]
    if count := sum(_length(tokenizer, items[index]) > max_length for index in full):
        what = "texts are" if count > 1 else "text is"
        warnings.warn(
            f"{count:,} of {len(items):,} {what} longer than max_length={max_length} tokens; the rest is not read",
            stacklevel=4,
        )


def _length(tokenizer: Tokenizer, item: Item) -> int:
    parts = [item] if isinstance(item, str) else item
    return 1 + sum(len(ids) + 1 for ids in tokenizer.encode_batch(parts))  # [CLS], and [SEP] after each


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2 and all(isinstance(part, str) for part in item)
