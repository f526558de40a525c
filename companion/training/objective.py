"""What a training minimises: sums of losses and the counts to divide them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from companion.model.heads import IGNORED

Batch = Mapping[str, Tensor]
Model = TypeVar("Model", bound=nn.Module, contravariant=True)
TAKEN = ("step", "learning_rate", "grad_norm", "seconds")  # names that a record has already


class Sums(NamedTuple):
    """One loss of one batch, summed over its labels.

    Attributes
    ----------
    loss : Tensor, ()
        The sum over the labels, not their mean.
    correct : Tensor, (), or None
        How many answers were right, where that can be said; logged as `<name>_accuracy`.
    """

    loss: Tensor
    correct: Tensor | None = None


class Objective(Protocol[Model]):
    """What is trained for: one or more losses, each a sum over labels that can be counted before the model runs.

    The names of the losses carry no meaning; both methods use the same. Several losses are added. An attribute
    `leaves_unused = True` says that a batch may leave a part of the model without gradient, which several processes
    (DDP) must know beforehand.
    """

    def counts(self, batch: Batch) -> Mapping[str, Tensor | int]:
        """Return, by the name of the loss, over how many labels it sums in this batch."""

    def sums(self, model: Model, batch: Batch) -> Mapping[str, Sums]:
        """Return the sums of every loss, by its name, on the device of the batch."""


class HeadObjective:
    """The loss of a model's own head: `model(**batch).loss`, a mean, times the number of labels.

    Parameters
    ----------
    name : str
        Of the loss, in the log.
    labels : str
        The column that is counted: integers that are not -100, or else rows.

    Examples
    --------
    >>> import torch
    >>> batch = {"input_ids": torch.tensor([[2, 7, 3]]), "labels": torch.tensor([[-100, 1, -100]])}
    >>> HeadObjective("entities").counts(batch)
    {'entities': tensor(1)}
    """

    def __init__(self, name: str, labels: str = "labels") -> None:
        self.name, self.labels = name, labels

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the number of labels."""
        labels = batch[self.labels]
        if labels.is_floating_point():
            return {self.name: torch.tensor(len(labels), device=labels.device)}
        return {self.name: (labels != IGNORED).sum()}

    def sums(self, model: nn.Module, batch: Batch) -> dict[str, Sums]:
        """Return the head's loss times the number of labels and, where labels are classes, the correct answers."""
        output, labels = model(**batch), batch[self.labels]
        logits = getattr(output, "logits", None)
        correct = None
        if logits is not None and not labels.is_floating_point() and logits.shape[:-1] == labels.shape:
            correct = (logits.detach().argmax(-1) == labels).sum()  # -100 is no class
        return {self.name: Sums(output.loss * self.counts(batch)[self.name], correct)}


def check_objective(objective: Any) -> None:
    """Raise a TypeError unless `objective` has the two methods."""
    for name in ("counts", "sums"):
        if not callable(getattr(objective, name, None)):
            raise TypeError(
                f"objective={objective!r} has no method {name}; pass an object with counts(batch) and "
                "sums(model, batch), such as HeadObjective('classification')"
            )


def counts_of(objective: Objective, batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """Return the counts of a batch as tensors on `device`.

    Raises
    ------
    TypeError
        If the objective does not return a dict of tensors or numbers.
    ValueError
        If two values would be logged under one name.
    """
    counts = _as_dict(objective.counts(batch), "counts(batch)")
    for name, count in counts.items():
        if not isinstance(count, int | float | Tensor) or (isinstance(count, Tensor) and count.numel() != 1):
            raise TypeError(f"counts(batch)[{name!r}] is {count!r}; it must be one number: how many labels there are")
    _check_names(counts)
    return {name: torch.as_tensor(count, device=device).reshape(()) for name, count in counts.items()}


def sums_of(objective: Objective, model: nn.Module, batch: Batch) -> dict[str, Sums]:
    """Return the sums of a batch.

    Raises
    ------
    TypeError
        If the objective does not return a dict of `Sums`.
    """
    sums = _as_dict(objective.sums(model, batch), "sums(model, batch)")
    for name, one in sums.items():
        if not isinstance(one, Sums):
            raise TypeError(
                f"sums(model, batch)[{name!r}] is of type {type(one).__name__}; return Sums(loss), or "
                "Sums(loss, correct) with the number of correct answers"
            )
        if not isinstance(one.loss, Tensor) or one.loss.numel() != 1:
            raise TypeError(f"sums(model, batch)[{name!r}].loss must be a tensor of one number: the loss, summed")
    return sums


def check_same_names(counts: Mapping[str, Any], sums: Mapping[str, Any]) -> None:
    """Raise a ValueError unless both have the same names."""
    if counts.keys() != sums.keys():
        raise ValueError(
            f"sums(model, batch) has the losses {sorted(sums)}, counts(batch) has {sorted(counts)}; both must name the "
            "same"
        )


def accuracy_name(name: str) -> str:
    """Return the name under which the correct answers of the loss `name` are logged."""
    return f"{name}_accuracy"


def _check_names(names: Sequence[str] | Mapping[str, Any]) -> None:
    taken = {*TAKEN, *(["loss"] if len(names) > 1 else []), *map(accuracy_name, names)}
    for name in names:
        if name in taken:
            raise ValueError(f"the loss {name!r} has the name of another entry of the log; call it otherwise")


def _as_dict(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        raise TypeError(
            f"{where} of the objective returned {_described(value)}; it must return a dict with one entry per loss"
        )
    return dict(value)


def _described(value: Any) -> str:
    return "an empty dict" if isinstance(value, Mapping) else f"a {type(value).__name__}"
