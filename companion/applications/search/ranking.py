"""How good a search is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from companion.support.require import integer

Right = Sequence[int | Sequence[int]]  # for every question the number of its right text, or the numbers of several


def ranks(scores: np.ndarray, right: Right) -> np.ndarray:
    """Return the rank of the right text of every question, 1 for the best; of the first one, where several are right.

    Where w wrong texts score the same as m right ones, the rank is the one expected if chance broke the tie: the first
    of the right ones stands w / (m + 1) places behind those above it. Counting only what scores higher would call a
    search that gives every text the same score a perfect one.

    Parameters
    ----------
    scores : array, (questions, texts)
    right : sequence of int, or of sequences of int
        Number of the right text for every question, or numbers of the right texts.

    Returns
    -------
    array, float, (questions,)
    """
    return np.array([_rank(row, np.atleast_1d(numbers)) for row, numbers in zip(scores, right, strict=True)])


def reciprocal_rank(scores: np.ndarray, right: Right) -> float:
    """Return the mean over questions of 1 / rank of the right text (Voorhees 1999); arguments as in `ranks`."""
    return float((1.0 / ranks(scores, right)).mean())


def recall(scores: np.ndarray, right: Right, count: int = 5) -> float:
    """Return the share of questions with a right text among the first `count`; arguments as in `ranks`."""
    return float((ranks(scores, right) <= count).mean())


def fuse(*scores: np.ndarray, constant: float = 60.0) -> np.ndarray:
    """Combine searches by their ranks alone: the sum of 1 / (constant + rank) (Cormack et al. 2009).

    Parameters
    ----------
    *scores : array, (questions, texts)
        One array a search; their scales do not matter. Equal scores share the mean of their ranks.
    constant : float
        The larger, the less the first places count beyond the next.

    Returns
    -------
    array, (questions, texts)
    """
    from scipy.stats import rankdata

    return sum(1.0 / (constant + rankdata(-search, axis=1)) for search in scores)


def rerank(
    scores: np.ndarray,
    questions: Sequence[str],
    texts: Sequence[str],
    judge: Any,
    count: int = 20,
) -> np.ndarray:
    """Put the best texts of a first search in order again, by a judge that reads question and text together.

    Parameters
    ----------
    scores : array, (questions, texts)
        Of the first search.
    questions, texts : sequence of str
    judge : object
        With ``predict(pairs)``, the higher the better, such as a `TextRegressor`.
    count : int
        How many of the best texts are judged for each question; more than there are is all.

    Returns
    -------
    array, float, (questions, texts)
        Scores with the same first `count` texts, in the order of the judge, and all others behind them as they were.

    Raises
    ------
    ValueError
        If `count` is below 1.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> longest = SimpleNamespace(predict=lambda pairs: [len(text) for _, text in pairs])
    >>> scores = rerank(np.array([[0.9, 0.8, 0.1]]), ["q"], ["a", "bb", "cccc"], longest, count=2)
    >>> scores.argsort()[:, ::-1]
    array([[1, 0, 2]])
    """
    integer("count", count, 1)
    first = np.argsort(-scores, axis=1, kind="stable")[:, :count]  # (questions, count)
    pairs = [(questions[n], texts[i]) for n, row in enumerate(first) for i in row]
    judged = np.asarray(judge.predict(pairs)).reshape(first.shape)
    again = scores.astype(np.float64)
    above = again.max(axis=1, keepdims=True) + 1.0
    np.put_along_axis(again, first, above + judged - judged.min(), axis=1)
    return again


def _rank(row: np.ndarray, right: np.ndarray) -> float:
    best = row[right].max()
    higher, ties = (row > best).sum(), (row[right] == best).sum()
    return 1.0 + higher + ((row == best).sum() - ties) / (ties + 1)
