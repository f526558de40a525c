"""The parameters that all estimators share: stored as they are given, checked when they are used."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from companion.finetuning.adapters import check_adapter
from companion.finetuning.groups import check_freeze
from companion.support.devices import best_device, precision_for
from companion.support.require import boolean, integer, number, refuse


class Parameters(BaseEstimator):
    """What can be set of every estimator; `companion.finetuning.classifier.TextClassifier` describes it."""

    def __init__(
        self,
        model: str | Path = "mini",
        *,
        epochs: int = 3,
        learning_rate: float | None = None,
        head_learning_rate: float | None = None,
        layer_decay: float = 1.0,
        freeze: str | int | None = None,
        adapter: Any = None,
        batch_size: int = 32,
        max_length: int = 128,
        warmup_share: float = 0.1,
        weight_decay: float = 0.01,
        dropout: float | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 2,
        random_state: int | np.random.RandomState | None = 0,
        device: str | None = None,
        precision: str | None = None,
        from_scratch: bool = False,
        progress: bool = False,
    ) -> None:
        self.model, self.from_scratch, self.adapter, self.freeze = model, from_scratch, adapter, freeze
        self.epochs, self.batch_size, self.max_length = epochs, batch_size, max_length
        self.learning_rate, self.head_learning_rate = learning_rate, head_learning_rate
        self.layer_decay, self.warmup_share, self.weight_decay = layer_decay, warmup_share, weight_decay
        self.dropout = dropout
        self.early_stopping, self.n_iter_no_change = early_stopping, n_iter_no_change
        self.validation_fraction = validation_fraction
        self.random_state, self.device, self.precision = random_state, device, precision
        self.progress = progress

    def _check_parameters(self) -> int:
        """Raise a ValueError that names a parameter that is not allowed; return the seed."""
        integer("epochs", self.epochs, 1)
        integer("batch_size", self.batch_size, 1)
        integer("max_length", self.max_length, 3)
        integer("n_iter_no_change", self.n_iter_no_change, 1)
        number("warmup_share", self.warmup_share, "a share in [0, 1]", minimum=0, maximum=1)
        number("weight_decay", self.weight_decay, minimum=0)
        number("validation_fraction", self.validation_fraction, "a share in (0, 1)", above=0, below=1)
        number("layer_decay", self.layer_decay, "a number in (0, 1]", above=0, maximum=1)
        for name in ("learning_rate", "head_learning_rate"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), "None or a number above 0", above=0)
        check_freeze(self.freeze)
        check_adapter(self.adapter, {"from_scratch": self.from_scratch, "freeze": self.freeze is not None})
        if self.dropout is not None:
            number("dropout", self.dropout, "None or a probability in [0, 1)", minimum=0, below=1)
        for name in ("early_stopping", "from_scratch", "progress"):
            boolean(name, getattr(self, name))
        precision_for(best_device(self.device), self.precision)
        return seed_from(self.random_state)


def shared(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the arguments of an estimator that are parameters of all, for `Parameters.__init__`."""
    return {name: given[name] for name in signature(Parameters).parameters}


def seed_from(random_state: Any) -> int:
    """Return an int as it is, and else a number drawn from a RandomState, or for None from NumPy's global one.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if random_state is None or isinstance(random_state, np.random.RandomState):
        return int(check_random_state(random_state).randint(2**31 - 1))
    try:
        return integer("random_state", random_state, 0)
    except ValueError:
        refuse("random_state", random_state, "None, an integer of 0 or more, or a numpy.random.RandomState")
