"""Batches of examples of different lengths: grouped by length, padded no further than the longest of the batch.

A batch that is padded to a fixed 128 tokens spends most of its time on padding where sentences have 25. Here an epoch
is shuffled, cut into pools of a few batches each, and sorted by length within each pool, so that batches stay random
and little is padded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from companion.model.heads import IGNORED
from companion.support.require import integer

Rows = Mapping[str, Any]  # name of a column -> a sequence with one entry per row
POOL = 16  # batches sorted together; on SST-2 padding adds 15% to the tokens, against 210% when nothing is sorted


class GroupedBatches(Dataset):
    """Shuffled batches of similar length, each looked up by its number, as `companion.training.loop.train` wants them.

    Every epoch holds every row once, in an order of its own. The batches of an epoch differ by few rows in size (33
    rows in batches of 32 become 17 and 16, not 32 and 1).

    Parameters
    ----------
    rows : mapping of str to sequence
        `input_ids` and any other columns; entry i of each belongs to row i. A list of sequences runs over tokens; an
        array, or a list of numbers, has one entry (a number or a vector) a row. `attention_mask` is made again.
    batch_size : int
        Rows per batch, at most.
    seed : int
        Seeds the order: batch i depends on it and on i alone.
    pad_id : int
        Fills up `input_ids`.
    multiple : int
        Widths are rounded up to a multiple of it. On a CPU in fp32 a rounding to 8 costs a fifth of the time on short
        sentences; hardware that wants aligned shapes may repay it.
    world_size : int
        Every batch is dealt out over this many numbers: batch b is what the numbers from `b * world_size` to
        `(b + 1) * world_size - 1` hold together. For several processes, or several passes per step where memory is
        short.
    group : bool
        False leaves the batches as shuffled.

    Raises
    ------
    ValueError
        If there are no rows, columns differ in length, or a batch cannot be dealt out.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int = 32,
        *,
        seed: int = 0,
        pad_id: int = 0,
        multiple: int = 1,
        world_size: int = 1,
        group: bool = True,
    ) -> None:
        self.columns = as_arrays(rows)
        self.lengths = row_lengths(self.columns)
        self.batch_size, self.multiple = integer("batch_size", batch_size, 1), integer("multiple", multiple, 1)
        self.seed, self.pad_id, self.group = integer("seed", seed, 0), pad_id, group
        self.world_size = integer("world_size", world_size, 1)
        if (smallest := len(self.lengths) // self.steps_per_epoch) < world_size:
            raise ValueError(
                f"world_size={world_size} is more than the {smallest} rows of the smallest batch; raise "
                f"batch_size={batch_size} or lower world_size"
            )
        self._epoch: tuple[int, list[np.ndarray]] = (-1, [])

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in which every row comes once."""
        return -(-len(self.lengths) // self.batch_size)

    def rows_of(self, number: int) -> np.ndarray:
        """Return the indices of the rows that make up batch `number`, counted over all epochs."""
        batch, share = divmod(number, self.world_size)
        epoch, place = divmod(batch, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._arrange(epoch))
        return self._epoch[1][place][share :: self.world_size]

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rows = take_rows(self.columns, self.rows_of(number))
        return pad_rows(rows, pad_id=self.pad_id, multiple=self.multiple)

    def _arrange(self, epoch: int) -> list[np.ndarray]:
        generator = np.random.default_rng([self.seed, epoch])
        batches = np.array_split(generator.permutation(len(self.lengths)), self.steps_per_epoch)
        if not self.group:
            return batches
        size = min(POOL, max(1, len(batches) // 2))  # half an epoch at most: else every epoch has the same batches
        pools = [batches[start : start + size] for start in range(0, len(batches), size)]
        grouped = [batch for pool in pools for batch in self._by_length(pool)]
        return [grouped[place] for place in generator.permutation(len(grouped))]

    def _by_length(self, pool: Sequence[np.ndarray]) -> list[np.ndarray]:
        rows = np.concatenate(pool)
        return np.array_split(rows[np.argsort(self.lengths[rows], kind="stable")], len(pool))


def sorted_batches(lengths: Sequence[int] | np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut rows, sorted by length, the longest first, into batches of indices: the least padding, for prediction."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def take_rows(rows: Rows, indices: Sequence[int] | np.ndarray) -> dict[str, Sequence | np.ndarray]:
    """Return the rows with these indices, in this order."""
    return {
        name: column[indices] if isinstance(column, np.ndarray) else [column[i] for i in indices]
        for name, column in rows.items()
    }


def pad_rows(rows: Rows, *, pad_id: int = 0, multiple: int = 1) -> dict[str, Tensor]:
    """Return rows as one batch of tensors, padded to the longest of them.

    Parameters
    ----------
    rows, pad_id, multiple
        As in `GroupedBatches`.

    Returns
    -------
    dict
        Columns over tokens as (rows, tokens), padded on the right with `pad_id` in `input_ids`, -100 in `labels` and 0
        elsewhere; arrays as (rows, ...); and `attention_mask` (rows, tokens), unless nothing is padded.
    """
    columns = as_arrays(rows)
    lengths = row_lengths(columns)
    width = -(-int(lengths.max()) // multiple) * multiple
    inside = np.arange(width) < lengths[:, None]  # (rows, tokens)
    fills = {"input_ids": pad_id, "labels": IGNORED}
    batch = {name: _padded(column, inside, fills.get(name, 0)) for name, column in columns.items()}
    if not inside.all():
        batch["attention_mask"] = torch.from_numpy(inside.astype(np.int64))
    return batch


def _padded(column: np.ndarray | list[np.ndarray], inside: np.ndarray, fill: int) -> Tensor:
    if isinstance(column, np.ndarray):
        return torch.from_numpy(column)
    values = np.concatenate(column)
    padded = np.full(inside.shape, fill, dtype=values.dtype)
    padded[inside] = values
    return torch.from_numpy(padded)


def row_lengths(rows: Rows) -> np.ndarray:
    """Return the number of tokens of every row.

    Raises
    ------
    ValueError
        If there are none, or a column has another number of rows than `input_ids`.
    """
    lengths = np.array([len(ids) for ids in rows["input_ids"]], dtype=np.int64)
    if not len(lengths):
        raise ValueError("rows are empty; at least one is needed")
    for name, column in rows.items():
        if len(column) != len(lengths):
            raise ValueError(f"column {name!r} has {len(column)} rows, input_ids has {len(lengths)}")
    return lengths


def as_arrays(rows: Rows) -> dict[str, np.ndarray | list[np.ndarray]]:
    """Return columns over tokens as lists of arrays and the others as arrays, without `attention_mask`."""
    return {name: _as_array(column) for name, column in rows.items() if name != "attention_mask"}


def _as_array(column: Sequence | np.ndarray) -> np.ndarray | list[np.ndarray]:
    if isinstance(column, np.ndarray):
        return column
    if len(column) and np.ndim(column[0]):
        return [np.asarray(values) for values in column]
    return np.asarray(column)
