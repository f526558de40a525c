"""How good are predictions? The scores of the classical tasks, on scikit-learn, with one treatment of edge cases.

Every function takes the truth first and the predictions second.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import sklearn.metrics

Labels = Sequence[Hashable] | np.ndarray


class PrecisionRecallF1(NamedTuple):
    """Precision, recall and F1, their harmonic mean; each 0 where it would divide by 0."""

    precision: float
    recall: float
    f1: float


class ConfusionMatrix(NamedTuple):
    """Counts (labels, labels): row i, column j holds how often the truth was label i and the prediction label j."""

    labels: tuple[Hashable, ...]
    counts: np.ndarray


def accuracy(truth: Labels, predicted: Labels) -> float:
    """Return the share of predictions that are right."""
    truth, predicted = _as_ids(truth, predicted)[:2]
    return float(sklearn.metrics.accuracy_score(truth, predicted))


def precision_recall_f1(
    truth: Labels,
    predicted: Labels,
    *,
    average: Literal["binary", "macro", "micro"] = "macro",
    positive: Hashable | None = None,
) -> PrecisionRecallF1:
    """Return precision, recall and F1.

    Parameters
    ----------
    truth, predicted : sequence
        One label an item.
    average : {"binary", "macro", "micro"}
        `"binary"` looks at one label, `positive`; `"macro"` is the mean over all labels, each counting alike;
        `"micro"` counts all decisions together, which is accuracy where every item has one label.
    positive : hashable, optional
        The label to look at, with `average="binary"`.

    Raises
    ------
    ValueError
        If the two differ in length or are empty, or `positive` is missing, unknown or of no use.
    """
    true_ids, predicted_ids, labels = _as_ids(truth, predicted)
    if average not in ("binary", "macro", "micro"):
        raise ValueError(f"average={average!r} is unknown; choose one of binary, macro, micro")
    if (average == "binary") != (positive is not None):
        raise ValueError(f"positive={positive!r} with average={average!r}: pass it with 'binary', and with no other")
    if average == "binary" and positive not in labels:
        raise ValueError(f"positive={positive!r} is in neither truth nor predicted, whose labels are {labels}")
    chosen = [labels.index(positive)] if average == "binary" else list(range(len(labels)))
    scores = sklearn.metrics.precision_recall_fscore_support(
        true_ids, predicted_ids, labels=chosen, average="micro" if average == "micro" else "macro", zero_division=0.0
    )
    return PrecisionRecallF1(*map(float, scores[:3]))


def matthews_correlation(truth: Labels, predicted: Labels) -> float:
    """Return Matthews' correlation, between -1 and 1; 0 for a constant prediction, however lopsided the labels."""
    truth, predicted = _as_ids(truth, predicted)[:2]
    return float(sklearn.metrics.matthews_corrcoef(truth, predicted))


def confusion_matrix(truth: Labels, predicted: Labels, labels: Sequence[Hashable] | None = None) -> ConfusionMatrix:
    """Count every pair of true and predicted label.

    Parameters
    ----------
    truth, predicted : sequence
        One label an item.
    labels : sequence of hashable, optional
        Their order in the matrix; None sorts those that occur.

    Raises
    ------
    ValueError
        If the two differ in length or are empty, or a label that occurs is not among `labels`.
    """
    true_ids, predicted_ids, labels = _as_ids(truth, predicted, labels)
    counts = sklearn.metrics.confusion_matrix(true_ids, predicted_ids, labels=range(len(labels)))
    return ConfusionMatrix(labels, counts)


def pearson(truth: Sequence[float] | np.ndarray, predicted: Sequence[float] | np.ndarray) -> float:
    """Return the linear correlation of two sequences of numbers; NaN where one of them is constant."""
    return _correlation("pearsonr", truth, predicted)


def spearman(truth: Sequence[float] | np.ndarray, predicted: Sequence[float] | np.ndarray) -> float:
    """Return the correlation of the ranks of two sequences of numbers; NaN where one of them is constant."""
    return _correlation("spearmanr", truth, predicted)


def sorted_labels(labels: Labels) -> tuple[Hashable, ...]:
    """Return the different labels in order; those that Python cannot compare are sorted by type and text.

    Raises
    ------
    ValueError
        If a label is not hashable; names its index.
    """
    for index, label in enumerate(labels := as_list(labels)):
        try:
            hash(label)
        except TypeError:
            raise ValueError(
                f"labels[{index}]={label!r} cannot be a label: it is not hashable; each item takes one, such as a str"
            ) from None
    try:
        return tuple(sorted(set(labels)))
    except TypeError:
        return tuple(sorted(set(labels), key=lambda label: (type(label).__name__, repr(label))))


def as_list(values: Sequence | np.ndarray) -> list:
    """Return the items of a list, array, tensor, pandas object or column of a data set, as Python's own values."""
    if hasattr(values, "to_numpy") and not hasattr(values, "tolist"):  # a pandas DataFrame, whose items are its rows
        values = values.to_numpy()
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _as_ids(truth: Labels, predicted: Labels, labels: Sequence[Hashable] | None = None) -> tuple:
    """Number the labels, so that labels of any type can be counted; return both sequences and the labels."""
    truth, predicted = as_list(truth), as_list(predicted)
    _check_lengths(truth, predicted)
    found = sorted_labels([*truth, *predicted])
    labels = found if labels is None else tuple(labels)
    if unknown := [label for label in found if label not in labels]:
        raise ValueError(f"labels={labels} leaves out {unknown}, which occur; add them")
    ids = {label: number for number, label in enumerate(labels)}
    return np.array([ids[label] for label in truth]), np.array([ids[label] for label in predicted]), labels


def _check_lengths(truth: list, predicted: list) -> None:
    if len(truth) != len(predicted):
        raise ValueError(f"truth has {len(truth)} items, predicted has {len(predicted)}; each needs its partner")
    if not truth:
        raise ValueError("truth is empty; at least one item is needed")


def _correlation(name: str, truth: Sequence[float] | np.ndarray, predicted: Sequence[float] | np.ndarray) -> float:
    import scipy.stats

    truth, predicted = as_list(truth), as_list(predicted)
    _check_lengths(truth, predicted)
    if len(truth) < 2 or len(set(truth)) == 1 or len(set(predicted)) == 1:
        return float("nan")
    return float(getattr(scipy.stats, name)(truth, predicted).statistic)
