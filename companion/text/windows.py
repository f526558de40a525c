"""Rows of token ids: truncation, windows with a stride, padding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Truncation = Literal["longest_first", "only_first", "only_second", False]
Padding = Literal["longest", "max_length", False]
Batch = dict[str, Any]  # name -> (batch, tokens) int64 tensor, or lists of rows where return_tensors=False
POSITIONS = 512  # of BERT
TRUNCATIONS = ("longest_first", "only_first", "only_second", False)
PADDINGS = ("longest", "max_length", False)


class Window(NamedTuple):
    """One row of a batch: which tokens of its text, and of the pair, it holds."""

    row: int
    part: slice
    pair_part: slice | None = None

    def join(self, values: Sequence[Any], pair_values: Sequence[Any], opening: Any, closing: Any) -> list[Any]:
        """Return the values of the tokens, with `opening` at `[CLS]` and `closing` at each `[SEP]`."""
        joined = [opening, *values[self.part], closing]
        if self.pair_part is not None:
            joined += [*pair_values[self.pair_part], closing]
        return joined

    def segments(self) -> list[int]:
        """Return 0 from `[CLS]` to the first `[SEP]`, 1 from there to the second."""
        zeros = self.part.stop - self.part.start + 2
        pair = self.pair_part
        ones = 0 if pair is None else pair.stop - pair.start + 1
        return [0] * zeros + [1] * ones

    def special_tokens(self) -> list[int]:
        """Return 1 at `[CLS]` and each `[SEP]`, 0 at the tokens of the texts."""
        text, pair = ([0] * (part.stop - part.start) for part in (self.part, self.pair_part or slice(0, 0)))
        return [1, *text, 1] + ([*pair, 1] if self.pair_part is not None else [])


@dataclass(frozen=True)
class Cutter:
    """Brings rows to `max_length`; the arguments are those of `Tokenizer.__call__`."""

    truncation: Truncation
    max_length: int
    stride: int
    return_overflow: bool

    def windows(self, lengths: Sequence[int], pair_lengths: Sequence[int] | None) -> list[Window]:
        """Return the windows of all rows, in order, given the numbers of tokens."""
        if pair_lengths is None:
            return [
                Window(row, part)
                for row, length in enumerate(lengths)
                for part in self._parts(length, self._sizes(row, length)[0], row)
            ]
        return [
            Window(row, part, pair_part)
            for row, (text, pair) in enumerate(zip(lengths, pair_lengths, strict=True))
            for part, pair_part in self._pair_parts(row, text, pair)
        ]

    def limits(self, has_pairs: bool) -> tuple[int | None, int | None]:
        """Return how many tokens of a text, and of a pair, decide about every row; None where all are needed."""
        if self.return_overflow or self.truncation is False:
            return None, None
        room = self.max_length + 1
        first = room if not has_pairs or self.truncation == "only_first" else None
        return first, room if self.truncation == "only_second" else None

    def _pair_parts(self, row: int, text: int, pair: int) -> Iterable[tuple[slice, slice]]:
        text_size, pair_size = self._sizes(row, text, pair)
        return product(self._parts(text, text_size, row), self._parts(pair, pair_size, row))

    def _sizes(self, row: int, text: int, pair: int | None = None) -> tuple[int, int]:
        """Return how many tokens of the text and of the pair fit into one row."""
        room = self.max_length - (2 if pair is None else 3)
        pair = pair or 0
        if text + pair <= room:
            return text, pair
        if self.truncation is False:
            raise ValueError(
                f"row {row} has {text + pair + self.max_length - room} tokens, more than max_length={self.max_length}, "
                f"and truncation=False; pass another truncation ({', '.join(map(repr, TRUNCATIONS[:-1]))})"
            )
        if self.truncation == "longest_first":
            return shorten_longest(text, pair, room)
        left = room - (pair if self.truncation == "only_first" else text)
        if left < 1:
            raise ValueError(
                f"truncation={self.truncation!r} cannot bring row {row} to max_length={self.max_length}: the other "
                f"text alone leaves no room; pass truncation='longest_first' or a larger max_length"
            )
        return (left, pair) if self.truncation == "only_first" else (text, left)

    def _parts(self, length: int, size: int, row: int) -> list[slice]:
        """Return windows of `size` tokens on a text of `length`, each sharing `stride` tokens with the one before."""
        if length <= size:
            return [slice(0, length)]
        if not self.return_overflow:
            return [slice(0, size)]
        if self.stride >= size:
            raise ValueError(
                f"stride={self.stride} leaves no step between windows of {size} tokens (row {row}); the stride is "
                f"their overlap: pass at most {size - 1}, or a larger max_length"
            )
        starts = range(0, length - self.stride, size - self.stride)
        return [slice(start, min(start + size, length)) for start in starts]


def shorten_longest(text: int, pair: int, room: int) -> tuple[int, int]:
    """Return the lengths after taking tokens from the longer text until both fit, or are equal, and then from both.

    Where `room` is odd, the longer text keeps one token more; the pair does, where both were of one length.
    """
    short, long = sorted((text, pair))
    short = min(short, room // 2)
    long = room - short
    return (long, short) if text > pair else (short, long)


def padded(columns: Batch, padding: Padding, max_length: int, multiple: int, pad_id: int) -> Batch:
    """Return the columns with every row filled up on the right to one length, if `padding` says so."""
    if padding is False:
        return columns
    longest = max(map(len, columns["input_ids"]), default=0)
    width = round_up(max_length if padding == "max_length" else longest, multiple)
    fill = {"input_ids": pad_id, "offsets": (0, 0), "word_ids": -1, "special_tokens_mask": 1}
    return {name: [row + [fill.get(name, 0)] * (width - len(row)) for row in rows] for name, rows in columns.items()}


def as_asked(batch: Batch, kind: str | None) -> Batch:
    """Return the columns as lists (None), tensors ("pt") or arrays ("np")."""
    if kind is None:
        return batch
    tensors = as_tensors(batch)
    return tensors if kind == "pt" else {name: column.numpy() for name, column in tensors.items()}


def as_tensors(batch: Batch) -> dict[str, Tensor]:
    """Return the columns as int64 tensors, (rows, tokens), which need rows of one length."""
    lengths = {len(row) for row in batch["input_ids"]}
    if len(lengths) > 1:
        raise ValueError(
            f"padding=False leaves rows of {min(lengths)} to {max(lengths)} tokens, which make no tensor; pass "
            "padding='longest', or return_tensors=False for lists"
        )
    if not lengths:
        return {name: torch.zeros(0, 0, dtype=torch.int64) for name in batch}
    return {name: torch.tensor(rows, dtype=torch.int64) for name, rows in batch.items()}


def round_up(number: int, multiple: int) -> int:
    """Return the next multiple that is not below `number`."""
    return -(-number // multiple) * multiple
