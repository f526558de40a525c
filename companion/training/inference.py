"""Prediction and evaluation: in evaluation mode, without gradients, in the precision of the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from companion.support.devices import autocast, best_device, precision_for
from companion.support.require import integer
from companion.training.batching import Rows, as_arrays, pad_rows, row_lengths, sorted_batches, take_rows
from companion.training.objective import Batch, Objective, accuracy_name, check_same_names, counts_of, sums_of

Take = Callable[[Any, Batch], Tensor | Sequence[Any]]


def predict_rows(
    model: nn.Module,
    rows: Rows,
    *,
    batch_size: int = 32,
    pad_id: int = 0,
    device: str | torch.device | None = None,
    precision: str | None = None,
    take: str | Take = "logits",
    per_token: bool = False,
    progress: bool = False,
) -> Any:
    """Return what a model gives for every row, in the order of the rows: fp32, on the CPU.

    Rows go through the model sorted by length, so that little is padded. Afterwards every part of the model is in the
    mode (training or evaluation) that it was in before.

    Parameters
    ----------
    model : nn.Module
    rows : mapping of str to sequence
        The columns that `model` takes, as in `companion.training.batching.GroupedBatches`.
    batch_size : int
        Rows that go through the model together, at most.
    pad_id : int
        As in `GroupedBatches`.
    device : str or torch.device, optional
        The model is moved there, and stays. None computes where it is.
    precision : str, optional
        As in `companion.support.devices.precision_for`.
    take : str or callable
        What to return of the model's output: the name of an attribute, or a function of the output and the padded
        batch (on the device; without `attention_mask` where nothing is padded). The function returns a tensor with one
        entry per row, or a list with one item per row.
    per_token : bool
        Whether `take` gives one entry per token, (rows, tokens, ...); those of padding are left out.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Tensor, (rows, ...), or list
        One entry per row; a list, with a tensor of (tokens of the row, ...) per row, if `per_token`; a list, too,
        where `take` gives one.

    Raises
    ------
    ValueError
        If there are no rows, or `take` gives another number of entries than there are rows.
    """
    from tqdm.auto import tqdm

    integer("batch_size", batch_size, 1)
    columns = as_arrays(rows)
    lengths = row_lengths(columns)
    device = _placed(model, device)
    found: list[Any] = [None] * len(lengths)
    with evaluating(model), tqdm(total=len(lengths), disable=not progress, unit="row") as bar:
        for indices in sorted_batches(lengths, batch_size):
            batch = pad_rows(take_rows(columns, indices), pad_id=pad_id)
            with torch.inference_mode(), autocast(device, precision_for(device, precision)):
                batch = {name: value.to(device) for name, value in batch.items()}
                taken = _taken(model(**batch), batch, take)
            for index, entry in zip(indices, _entries(taken, len(indices)), strict=True):
                found[index] = entry[: lengths[index]] if per_token else entry
            bar.update(len(indices))
    return torch.stack(found) if isinstance(taken, Tensor) and not per_token else found


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    objective: Objective,
    *,
    device: str | torch.device | None = None,
    precision: str | None = None,
    prefix: str = "",
) -> dict[str, float]:
    """Return the losses of an objective over batches, means over all labels, and the accuracies.

    Parameters
    ----------
    model : nn.Module
        Is in the mode afterwards (training or evaluation) that it was in before.
    batches : iterable of dict of Tensor
        Are gone through once.
    objective : Objective
    device, precision
        As in `predict_rows`.
    prefix : str
        Stands before every name.

    Returns
    -------
    dict
        Every loss by its name, then every accuracy as `<name>_accuracy`. A loss without any label is 0.

    Raises
    ------
    TypeError, ValueError
        If the objective does not return what it should, or there is no batch.
    """
    device = _placed(model, device)
    losses: dict[str, float] = {}
    correct: dict[str, float] = {}
    counts: dict[str, float] = {}
    with evaluating(model), torch.no_grad(), autocast(device, precision_for(device, precision)):
        for batch in batches:
            batch = {name: value.to(device) for name, value in batch.items()}
            here = counts_of(objective, batch, device)
            sums = sums_of(objective, model, batch)
            check_same_names(here, sums)
            for name, one in sums.items():
                counts[name] = counts.get(name, 0.0) + float(here[name])
                losses[name] = losses.get(name, 0.0) + float(one.loss)
                if one.correct is not None:
                    correct[name] = correct.get(name, 0.0) + float(one.correct)
    if not counts:
        raise ValueError("batches are empty; at least one is needed")
    values = losses | {accuracy_name(name): value for name, value in correct.items()}
    per = counts | {accuracy_name(name): count for name, count in counts.items()}
    return {prefix + name: value / max(per[name], 1.0) for name, value in values.items()}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and each of its parts back into its own mode at the end."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _placed(model: nn.Module, device: str | torch.device | None) -> torch.device:
    """Return where the model is, after moving it to `device` if one is given."""
    if device is not None:
        model.to(best_device(device))
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))


def _taken(output: Any, batch: Batch, take: str | Take) -> Tensor | Sequence[Any]:
    return take(output, batch) if callable(take) else getattr(output, take)


def _entries(taken: Tensor | Sequence[Any], count: int) -> Sequence[Any]:
    """Return one entry per row, tensors on the CPU; outside of inference mode a clone is an ordinary tensor."""
    entries = _on_cpu(taken) if isinstance(taken, Tensor) else [_on_cpu(entry) for entry in taken]
    if len(entries) != count:
        raise ValueError(f"take gives {len(entries)} entries for {count} rows; it must give one per row")
    return entries


def _on_cpu(entry: Any) -> Any:
    if not isinstance(entry, Tensor):
        return entry
    return (entry.float() if entry.is_floating_point() else entry).cpu().clone()
