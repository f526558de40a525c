"""How good are predictions? The scores of the classical tasks, on scikit-learn, with one treatment of edge cases.

Every function takes the truth first and the predictions second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import sklearn.metrics
from sklearn.preprocessing import LabelEncoder

from companion.finetuning.labels import Label, Labels, as_labels, checked_labels
from companion.finetuning.tags import entities_of
from companion.support.containers import as_list


class PrecisionRecallF1(NamedTuple):
    """Precision, recall and F1, their harmonic mean; each 0 where it would divide by 0."""

    precision: float
    recall: float
    f1: float


class ConfusionMatrix(NamedTuple):
    """Counts (labels, labels): row i, column j holds how often the truth was label i and the prediction label j."""

    labels: tuple[Label, ...]
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
    positive: Label | None = None,
) -> PrecisionRecallF1:
    """Return precision, recall and F1.

    Parameters
    ----------
    truth, predicted : sequence
        One label per item.
    average : {"binary", "macro", "micro"}
        `"binary"` looks at one label, `positive`; `"macro"` is the mean over all labels, each counting alike;
        `"micro"` counts all decisions together, which is accuracy where every item has one label.
    positive : label, optional
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


def entity_scores(
    truth: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
) -> PrecisionRecallF1:
    """Return precision, recall and F1 of entities, counted over all texts: right are those whose ends and type agree.

    Parameters
    ----------
    truth, predicted : sequence of sequence of str
        The tags of the words of every text, as in `companion.finetuning.tags.entities_of`.

    Raises
    ------
    ValueError
        If the numbers of texts, or of tags of a text, differ.

    Examples
    --------
    >>> entity_scores([["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "O", "O", "B-LOC"]]).f1
    0.5
    """
    _check_lengths(list(truth), list(predicted))
    wanted = found = right = 0
    for index, (one, other) in enumerate(zip(truth, predicted, strict=True)):
        _check_tags(index, one, other)
        true, guessed = set(entities_of(one)), set(entities_of(other))
        wanted += len(true)
        found += len(guessed)
        right += len(true & guessed)
    precision, recall = (right / n if n else 0.0 for n in (found, wanted))
    f1 = 2 * right / (wanted + found) if wanted + found else 0.0
    return PrecisionRecallF1(precision, recall, f1)


def matthews_correlation(truth: Labels, predicted: Labels) -> float:
    """Return Matthews' correlation, between -1 and 1; 0 for a constant prediction, however lopsided the labels."""
    truth, predicted = _as_ids(truth, predicted)[:2]
    return float(sklearn.metrics.matthews_corrcoef(truth, predicted))


def confusion_matrix(truth: Labels, predicted: Labels, labels: Sequence[Label] | None = None) -> ConfusionMatrix:
    """Count every pair of true and predicted label.

    Parameters
    ----------
    truth, predicted : sequence
        One label per item.
    labels : sequence, optional
        Their order in the matrix; None sorts those that occur.

    Raises
    ------
    ValueError
        If the two differ in length or are empty, or a label that occurs is not among `labels`.
    """
    true_ids, predicted_ids, labels = _as_ids(truth, predicted, labels)
    counts = sklearn.metrics.confusion_matrix(true_ids, predicted_ids, labels=range(len(labels)))
    return ConfusionMatrix(tuple(labels), counts)


def pearson(truth: Sequence[float] | np.ndarray, predicted: Sequence[float] | np.ndarray) -> float:
    """Return the linear correlation of two sequences of numbers; NaN where one of them is constant."""
    return _correlation("pearsonr", truth, predicted)


def spearman(truth: Sequence[float] | np.ndarray, predicted: Sequence[float] | np.ndarray) -> float:
    """Return the correlation of the ranks of two sequences of numbers; NaN where one of them is constant."""
    return _correlation("spearmanr", truth, predicted)


def _as_ids(truth: Labels, predicted: Labels, labels: Sequence[Label] | None = None) -> tuple:
    """Return the numbers of both sequences among the labels, and the labels."""
    truth, predicted = as_labels(truth, None, "truth"), as_labels(predicted, None, "predicted")
    _check_lengths(truth, predicted)
    found = LabelEncoder().fit(checked_labels([*truth, *predicted], "truth and predicted")).classes_.tolist()
    labels = tuple(found if labels is None else labels)
    if unknown := [label for label in found if label not in labels]:
        raise ValueError(f"labels={labels} leaves out {unknown}, which occur; add them")
    ids = {label: number for number, label in enumerate(labels)}
    return np.array([ids[label] for label in truth]), np.array([ids[label] for label in predicted]), labels


def _check_lengths(truth: list, predicted: list) -> None:
    if len(truth) != len(predicted):
        raise ValueError(f"truth has {len(truth)} items, predicted has {len(predicted)}; each needs its partner")
    if not truth:
        raise ValueError("truth is empty; at least one item is needed")


def _check_tags(index: int, one: Sequence[str], other: Sequence[str]) -> None:
    if len(one) != len(other):
        raise ValueError(f"truth[{index}] has {len(one)} tags, predicted[{index}] has {len(other)}")


def _correlation(name: str, truth: Sequence[float] | np.ndarray, predicted: Sequence[float] | np.ndarray) -> float:
    import scipy.stats

    truth, predicted = as_list("truth", truth), as_list("predicted", predicted)
    _check_lengths(truth, predicted)
    if len(truth) < 2 or len(set(truth)) == 1 or len(set(predicted)) == 1:
        return float("nan")
    return float(getattr(scipy.stats, name)(truth, predicted).statistic)
