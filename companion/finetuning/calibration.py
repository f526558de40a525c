"""What probabilities are worth: how often they come true, one temperature that mends them, and where to cut."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.nn import functional as F

from companion.support.require import integer, require


class Reliability(NamedTuple):
    """Answers sorted by their probability into bins: mean probability, share that came true, answers, (bins,) each."""

    stated: np.ndarray
    observed: np.ndarray
    counts: np.ndarray


def reliability(probabilities: ArrayLike, correct: ArrayLike, bins: int = 10) -> Reliability:
    """Compare stated probabilities with what came true, in equally wide bins; empty ones are left out.

    Parameters
    ----------
    probabilities : array, (answers,)
        Of the answers given, in [0, 1].
    correct : array, bool, (answers,)
        Which of them were right.
    bins : int

    Raises
    ------
    ValueError
        If a number is no probability, the two differ in length or are empty, or `bins` is below 1.
    """
    stated, right = np.asarray(probabilities, dtype=float), np.asarray(correct, dtype=float)
    integer("bins", bins, 1)
    numbers = stated.ndim == 1 and stated.size > 0 and bool(((stated >= 0) & (stated <= 1)).all())
    require("probabilities", probabilities, numbers, "a sequence of numbers in [0, 1], at least one")
    require("correct", correct, right.shape == stated.shape, f"one entry for each of the {len(stated)} answers")
    places = np.minimum((bins * stated).astype(int), bins - 1)
    counts = np.bincount(places, minlength=bins)
    filled = counts > 0
    sums = [np.bincount(places, weights=values, minlength=bins)[filled] for values in (stated, right)]
    return Reliability(sums[0] / counts[filled], sums[1] / counts[filled], counts[filled])


def calibration_error(
    probabilities: ArrayLike,
    correct: ArrayLike,
    bins: int = 10,
) -> float:
    """Return the expected calibration error, ECE: the mean distance of stated and observed over the bins, by answers.

    Source: Guo et al. (2017), equation 3. The arguments are those of `reliability`.

    Examples
    --------
    >>> round(calibration_error([0.72] * 10 + [0.25] * 20, [1] * 7 + [0] * 3 + [1] * 7 + [0] * 13), 4)
    0.0733
    """
    stated, observed, counts = reliability(probabilities, correct, bins)
    return float((np.abs(stated - observed) * counts).sum() / counts.sum())


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the number T > 0 by which to divide logits so that the cross-entropy on held-out texts is lowest.

    The order of the classes, and so every answer, stays as it is. Above 1, the network was too sure of itself.

    Source: Guo et al. (2017), section 4.2.

    Parameters
    ----------
    logits : array, (texts, classes)
        Of texts that were not trained on; logarithms of probabilities serve as well.
    labels : array, int, (texts,)
        The number of the right class.

    Returns
    -------
    float
        In [0.01, 100].

    Raises
    ------
    ValueError
        If the shapes do not fit, or there are no texts.
    """
    from scipy.optimize import minimize_scalar

    scores, truth = torch.as_tensor(np.asarray(logits, dtype=float)), torch.as_tensor(np.asarray(labels))
    fits = scores.ndim == 2 and truth.shape == scores.shape[:1] and len(truth) > 0
    allowed = f"an array (texts, classes) with one label for each text; labels is of shape {tuple(truth.shape)}"
    require("logits", tuple(scores.shape), fits, allowed)

    def loss(log_temperature: float) -> float:
        return F.cross_entropy(scores / np.exp(log_temperature), truth.long()).item()

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.01), np.log(100)), method="bounded").x))


def best_thresholds(truth: Any, probabilities: ArrayLike) -> np.ndarray:
    """Return for every label the threshold with the highest F1, (labels,): half-way between two probabilities.

    Of several that are equally good it is the one nearest to 0.5; for a label that never occurs, 0.5.

    Parameters
    ----------
    truth : array, 0 or 1, (texts, labels)
        Of texts that were not trained on.
    probabilities : array, (texts, labels)

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    wanted, stated = np.asarray(truth, dtype=bool), np.asarray(probabilities, dtype=float)
    fits = wanted.shape == stated.shape and wanted.ndim == 2
    require("truth", wanted.shape, fits, f"an array (texts, labels) like probabilities, of shape {stated.shape}")
    return np.array([_best_threshold(*column) for column in zip(wanted.T, stated.T, strict=True)])


def _best_threshold(wanted: np.ndarray, stated: np.ndarray) -> float:
    order = np.argsort(-stated, kind="stable")
    levels = stated[order]
    f1 = 2 * np.cumsum(wanted[order]) / (np.arange(1, len(order) + 1) + wanted.sum())  # if answered down to here
    below = np.append(levels[1:], 0.0)
    possible = levels > below  # no cut runs between equal probabilities
    if not wanted.any() or not possible.any():
        return 0.5
    cuts, f1 = ((levels + below) / 2)[possible], f1[possible]
    best = cuts[f1 >= f1.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])
