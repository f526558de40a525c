"""Texts as they are given to an estimator, and as rows of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from companion.finetuning.metrics import as_list
from companion.text.tokenizer import Tokenizer
from companion.training.batching import Rows

Texts = Sequence[str] | Sequence[tuple[str, str]] | np.ndarray


def encode_texts(tokenizer: Tokenizer, texts: Texts, max_length: int = 128) -> Rows:
    """Return `input_ids` and `token_type_ids` of every text or pair, cut to `max_length`, for `GroupedBatches`."""
    first, second = read_texts(texts)
    rows = tokenizer(first, second, max_length=max_length, padding=False, return_tensors=False)
    return {name: rows[name] for name in ("input_ids", "token_type_ids")}


def read_texts(texts: Texts) -> tuple[list[str], list[str] | None]:
    """Return the texts, and their partners if they are pairs.

    Raises
    ------
    TypeError
        If an item is neither a str nor a pair of str, or the two are mixed; names its index.
    ValueError
        If there are none.
    """
    if isinstance(texts, str):
        raise TypeError(f"texts={texts[:40]!r} is one str; pass a list, also of one: [text]")
    items = as_list(texts)
    if not items:
        raise ValueError("texts is empty; at least one is needed")
    paired = not isinstance(items[0], str)
    for index, item in enumerate(items):
        if not (_is_pair(item) if paired else isinstance(item, str)):
            wanted = "a str or a pair of str" if index == 0 else "a pair of str" if paired else "a str, as the first is"
            raise TypeError(f"texts[{index}]={item!r} is of type {type(item).__name__}; it must be {wanted}")
    if not paired:
        return items, None
    first, second = zip(*items, strict=True)
    return list(first), list(second)


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2 and all(isinstance(part, str) for part in item)
