"""Checks of what a tokenizer is given."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from tokenizers import AddedToken

from companion.support.containers import as_list, as_texts
from companion.support.require import choice, integer, refuse, require, shortened
from companion.text.vocabulary import SPECIAL_TOKENS
from companion.text.windows import PADDINGS, TRUNCATIONS, round_up

SURROGATE = re.compile("[\ud800-\udfff]")
TENSORS = {True: "pt", "pt": "pt", "np": "np", False: None, None: None}


def as_batches(texts: Any, pairs: Any, split: bool) -> tuple[list[Any], list[Any] | None]:
    """Return texts and pairs as lists of equal length; one text becomes a list of one."""
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
    """Return the texts as a list, and whether it was one text only."""
    if isinstance(texts, str):
        if split:
            raise TypeError(f"{name} is one str with is_split_into_words=True; pass the list of its words")
        return [texts], True
    if not split:
        return as_texts(name, texts), False
    rows = as_list(name, texts)
    if rows and isinstance(rows[0], str):
        return [as_texts(name, rows)], True
    return [as_texts(f"{name}[{row}]", words) for row, words in enumerate(rows)], False


def without_surrogates(texts: Any) -> Any:
    """Return the texts with U+FFFD for lone surrogates: both are removed, and offsets stay right."""
    if isinstance(texts, str):
        return SURROGATE.sub("\ufffd", texts)
    return [without_surrogates(text) for text in texts]


def checked_choices(truncation: Any, padding: Any, stride: Any, return_overflow: bool, has_pairs: bool) -> tuple:
    """Return truncation, padding and stride as they are meant; True stands for the longest, as in Transformers."""
    truncation = "longest_first" if truncation is True else truncation
    padding = "longest" if padding is True else padding
    choice("truncation", truncation, TRUNCATIONS)
    choice("padding", padding, PADDINGS)
    if truncation == "only_second" and not has_pairs:
        raise ValueError("truncation='only_second' needs pairs; pass them, or truncation='only_first'")
    stride = integer("stride", stride, 0)
    if stride and not return_overflow:
        raise ValueError(f"stride={stride} has no effect without windows; pass return_overflow=True, or stride=0")
    return truncation, padding, stride


def checked_tensors(return_tensors: Any) -> str | None:
    """Return "pt", "np" or None (lists); True stands for "pt"."""
    known = isinstance(return_tensors, bool | str | None) and return_tensors in TENSORS
    require("return_tensors", return_tensors, known, "True or 'pt' (tensors), 'np' (arrays), or False (lists)")
    return TENSORS[return_tensors]


def checked_max_length(max_length: Any, positions: int, name: str, has_pairs: bool) -> int:
    """Return `max_length`, or the number of positions, if it leaves room for a token of every text."""
    max_length = positions if max_length is None else integer("max_length", max_length)
    least = 5 if has_pairs else 3
    if max_length < least:
        layout = "[CLS] text [SEP] pair [SEP]" if has_pairs else "[CLS] text [SEP]"
        raise ValueError(f"max_length={max_length} is too small for {layout}; pass at least {least}")
    if max_length > positions:
        raise ValueError(
            f"max_length={max_length} is longer than the {positions} positions of {name}; pass at most {positions}, "
            "and return_overflow=True with a stride to split long texts into windows"
        )
    return max_length


def checked_multiple(multiple: Any, padding: Any, max_length: int, positions: int, name: str) -> int:
    """Return `pad_to_multiple_of`, or 1, if padding cannot pass the positions of the model."""
    if multiple is None:
        return 1
    multiple = integer("pad_to_multiple_of", multiple, 1)
    if padding is False:
        raise ValueError(f"pad_to_multiple_of={multiple} has no effect with padding=False; pass padding='longest'")
    if round_up(max_length, multiple) > positions:
        raise ValueError(
            f"pad_to_multiple_of={multiple} would pad a row of max_length={max_length} to "
            f"{round_up(max_length, multiple)} tokens, beyond the {positions} positions of {name}; "
            f"pass max_length={positions // multiple * multiple} or less"
        )
    return multiple


def as_added(new_tokens: Any, special: bool) -> list[AddedToken]:
    """Return the words as tokens that the library keeps whole; a special one is found as it is written."""
    tokens = [new_tokens] if isinstance(new_tokens, str | AddedToken) else as_list("new_tokens", new_tokens)
    contents = as_texts("new_tokens", [token.content if isinstance(token, AddedToken) else token for token in tokens])
    for index, content in enumerate(contents):
        allowed = bool(content.strip()) and "\n" not in content and "\r" not in content
        require(f"new_tokens[{index}]", content, allowed, "a word without line breaks")
    made = (AddedToken(content, special=special, normalized=not special) for content in contents)
    return [token if isinstance(token, AddedToken) else new for token, new in zip(tokens, made, strict=True)]


def in_id_order(vocabulary: Sequence[str] | Mapping[str, int]) -> list[str]:
    """Return the tokens of a vocabulary in the order of their ids, if it can serve a BERT."""
    if isinstance(vocabulary, str | PathLike):
        raise TypeError(
            f"vocabulary={shortened(vocabulary)} is a name; pass the tokens, or load a tokenizer from its folder: "
            "Tokenizer.from_pretrained(folder)"
        )
    tokens = _sorted(vocabulary) if isinstance(vocabulary, Mapping) else as_texts("vocabulary", vocabulary)
    positions: dict[str, int] = {}
    for number, token in enumerate(tokens):
        if (first := positions.setdefault(token, number)) != number:
            raise ValueError(f"vocabulary holds {token!r} more than once, as id {first} and {number}; remove one")
        if "\n" in token or "\r" in token:
            raise ValueError(f"vocabulary holds {token!r}, whose line break vocab.txt cannot hold; remove it")
    if missing := [token for token in SPECIAL_TOKENS if token not in positions]:
        raise ValueError(
            f"vocabulary lacks {' '.join(missing)}; it must hold {' '.join(SPECIAL_TOKENS)}, in any position"
        )
    return tokens


def _sorted(vocabulary: Mapping[str, int]) -> list[str]:
    for token, number in vocabulary.items():
        if not isinstance(number, int):
            refuse(f"vocabulary[{token!r}]", number, "the id of the token, an integer")
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    for number, token in enumerate(tokens):
        if vocabulary[token] != number:
            raise ValueError(
                f"vocabulary gives {token!r} the id {vocabulary[token]} where {number} is due; the ids of a mapping "
                "must be 0, 1, 2, ... without gaps or repeats"
            )
    return as_texts("vocabulary", tokens)
