"""Checks of what a tokenizer is given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from companion.text.windows import PADDINGS, TRUNCATIONS

SURROGATE = re.compile("[\ud800-\udfff]")


def as_batches(texts: Any, pairs: Any, split: bool) -> tuple[list[Any], list[Any] | None]:
    """Texts and pairs as lists of equal length; one text becomes a list of one."""
    texts, one = _as_batch("texts", texts, split)
    if pairs is None:
        return texts, None
    pairs, one_pair = _as_batch("pairs", pairs, split)
    if one != one_pair:
        raise ValueError("texts and pairs must be both one text or both lists of texts; put the one text into a list")
    if len(texts) != len(pairs):
        raise ValueError(f"pairs holds {len(pairs)} texts and texts {len(texts)}; pass one pair for each text")
    return texts, pairs


def _as_batch(name: str, texts: Any, split: bool) -> tuple[list[Any], bool]:
    """The texts as a list, and whether it was one text only."""
    if isinstance(texts, str):
        if split:
            raise TypeError(f"{name} is one str with is_split_into_words=True; pass the list of its words")
        return [texts], True
    if not split:
        return as_list(name, texts), False
    rows = list(texts)
    if rows and isinstance(rows[0], str):
        return [as_list(name, rows)], True
    return [as_list(f"{name}[{row}]", words) for row, words in enumerate(rows)], False


def as_list(name: str, texts: Any) -> list[str]:
    if isinstance(texts, str | bytes | Mapping) or not isinstance(texts, Iterable):
        raise TypeError(f"{name} is {type(texts).__name__}; allowed: a list of str")
    texts = list(texts)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(
                f"{name}[{row}] is {type(text).__name__} ({text!r:.40}); every text must be a str: "
                "convert it, or drop rows without text"
            )
    return texts


def without_surrogates(texts: Any) -> Any:
    """The texts (or lists of words) with U+FFFD for lone surrogates: both are removed, and offsets stay right."""
    if isinstance(texts, str):
        return SURROGATE.sub("\ufffd", texts)
    return [without_surrogates(text) for text in texts]


def check_choices(truncation: Any, padding: Any, stride: int, return_overflow: bool, has_pairs: bool) -> None:
    for name, value, allowed in (("truncation", truncation, TRUNCATIONS), ("padding", padding, PADDINGS)):
        if not any(value is choice or value == choice and isinstance(value, str) for choice in allowed):
            raise ValueError(f"{name}={value!r} is unknown; allowed: {listed(allowed)}")
    if truncation == "only_second" and not has_pairs:
        raise ValueError("truncation='only_second' needs pairs; pass them, or truncation='only_first'")
    if stride < 0:
        raise ValueError(f"stride={stride} must be 0 or more: the number of tokens that two windows share")
    if stride and not return_overflow:
        raise ValueError(f"stride={stride} has no effect without windows; pass return_overflow=True, or stride=0")


def listed(choices: Iterable[Any]) -> str:
    return ", ".join(map(repr, choices))


def in_id_order(vocabulary: Sequence[str] | Mapping[str, int]) -> list[str]:
    if not isinstance(vocabulary, Mapping):
        return list(vocabulary)
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    for number, token in enumerate(tokens):
        if vocabulary[token] != number:
            raise ValueError(
                f"vocabulary gives {token!r} the id {vocabulary[token]} where {number} is due; the ids of a mapping "
                "must be 0, 1, 2, ... without gaps or repeats"
            )
    return tokens
