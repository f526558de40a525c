"""Labels as an estimator trains on them: columns of rows, weights, and what is learned from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from companion.support.containers import as_list
from companion.support.require import number, require


@dataclass(frozen=True)
class Targets:
    """Labels as an estimator trains on them.

    Parameters
    ----------
    columns : mapping of str to sequence
        One entry per text, for `_encode`.
    config : mapping
        Entries of `BertConfig` that describe the head.
    learned : mapping
        What `fit` learns from the labels: attributes of the estimator, which `save` stores and `load` brings back.
    weights : array, (texts,), optional
        Of the texts in the loss.
    strata : array, (texts,), optional
        Classes whose shares a split for validation keeps.
    """

    columns: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    learned: Mapping[str, Any] = field(default_factory=dict)
    weights: np.ndarray | None = None
    strata: np.ndarray | None = None

    def take(self, indices: np.ndarray) -> Targets:
        """Return those of some texts."""
        columns = {
            name: column[indices] if isinstance(column, np.ndarray) else [column[i] for i in indices]
            for name, column in self.columns.items()
        }
        return replace(self, columns=columns, weights=None if self.weights is None else self.weights[indices])

    def weighted(self, sample_weight: Any, count: int) -> Targets:
        """Return them with the weights of the texts, times those of their classes, brought to a mean of 1.

        Raises
        ------
        ValueError
            If there are not `count` weights, or one is no number of 0 or more, or all are 0.
        """
        if sample_weight is None and self.weights is None:
            return self
        weights = np.ones(count) if sample_weight is None else _read_weights(sample_weight, count)
        weights = weights if self.weights is None else weights * self.weights
        require("sample_weight", sample_weight, weights.sum() > 0, "above zero for at least one text")
        return replace(self, weights=(weights / weights.mean()).astype(np.float32))


def split_indices(targets: Targets, count: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the texts to train on and of those held out, about `fraction` of `count`.

    Either part has the same share of every class, where there are enough texts of each.

    Raises
    ------
    ValueError
        If no text would be left to train on.
    """
    held = max(1, round(fraction * count))
    require("validation_fraction", fraction, held < count, f"small enough to leave some of the {count} texts")
    strata = _splittable(targets.strata, held, count - held)
    return tuple(train_test_split(np.arange(count), test_size=held, random_state=seed % 2**32, stratify=strata))


def _read_weights(sample_weight: Any, count: int) -> np.ndarray:
    weights = as_list("sample_weight", sample_weight)
    if len(weights) != count:
        raise ValueError(f"sample_weight has {len(weights)} numbers, X has {count} texts; every text needs one")
    return np.array([number(f"sample_weight[{index}]", one, minimum=0) for index, one in enumerate(weights)])


def _splittable(strata: np.ndarray | None, held: int, rest: int) -> np.ndarray | None:
    """Return the classes by which a split can be stratified, None where there are too few texts of one."""
    if strata is None:
        return None
    counts = np.unique(strata, return_counts=True)[1]
    return strata if counts.min() >= 2 and min(held, rest) >= len(counts) else None
