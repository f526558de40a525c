"""The batches of a training in their order, from whatever holds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from companion.training.objective import Batch


class Batches(Protocol):
    """Batches that are looked up by their number, always the same for the same number."""

    def __getitem__(self, number: int, /) -> Batch:
        """Return batch `number`, counted from 0."""


def by_number(batches: Any) -> bool:
    """Return whether batches can be looked up by number; others only come one after another."""
    return hasattr(type(batches), "__getitem__") and not isinstance(batches, IterableDataset)


def check_batches(batches: Any, needed: int, *, workers: int = 0, resume: bool = False) -> None:
    """Check what is passed as batches, before the work.

    Parameters
    ----------
    batches : Batches or iterable of Batch
    needed : int
        How many the training takes, on all processes together.
    workers, resume
        As in `companion.training.loop.train`.

    Raises
    ------
    TypeError
        If it is neither a sequence nor an iterable of batches.
    ValueError
        If it has too few, or `resume` or `workers` need batches that are looked up by number.
    """
    if isinstance(batches, str | Mapping) or not (by_number(batches) or isinstance(batches, Iterable)):
        raise TypeError(
            f"batches is of type {type(batches).__name__}; pass a sequence of batches (such as GroupedBatches), or "
            "an iterable of them; each batch is a dict of tensors"
        )
    if not by_number(batches):
        for name, value in (("resume", resume), ("workers", workers)):
            if value:
                raise ValueError(
                    f"{name}={value} needs batches that are looked up by number (batches[i]), such as a list or "
                    f"GroupedBatches; a {type(batches).__name__} only gives one after another"
                )
    length = _length(batches)
    if length is not None and length < needed:
        raise ValueError(f"batches has {length} batches, the training takes {needed}; pass more, or lower steps")


def read_batches(
    batches: Batches | Iterable[Batch], numbers: Sequence[int], *, workers: int = 0, pin_memory: bool = False
) -> Iterator[Batch]:
    """Yield the batches with these numbers, which rise.

    Raises
    ------
    TypeError
        If one is not a dict of tensors.
    ValueError
        If they end before.
    """
    found: Iterator[Batch]
    if by_number(batches):
        # A generator of its own: DataLoader draws a seed for its workers, else from the caller's.
        data, own = cast(Dataset, batches), torch.Generator()
        options: dict[str, Any] = {"num_workers": workers, "pin_memory": pin_memory, "generator": own}
        found = iter(DataLoader(data, batch_size=None, sampler=numbers, **options))
    else:
        found = _picked(cast(Iterable[Batch], batches), numbers)
    for number in numbers:
        try:
            batch = next(found)
        except (StopIteration, IndexError) as error:
            raise ValueError(
                f"batches end before batch number {number} (counted from 0); pass {numbers[-1] + 1}, or lower steps"
            ) from error
        _check_batch(number, batch)
        yield batch


def _picked(batches: Iterable[Batch], numbers: Sequence[int]) -> Iterator[Batch]:
    wanted = set(numbers)
    return (batch for number, batch in enumerate(batches) if number in wanted)


def _check_batch(number: int, batch: Any) -> None:
    if not isinstance(batch, Mapping):
        raise TypeError(f"batches[{number}] is of type {type(batch).__name__}; a batch is a dict of tensors")
    for name, value in batch.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"batches[{number}][{name!r}] is of type {type(value).__name__}; it must be a tensor")


def _length(batches: Any) -> int | None:
    try:
        return len(batches)
    except (TypeError, NotImplementedError):
        return None
