"""Is one method better than another? Their difference on the same texts, and how many texts it takes to see one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from companion.support.require import integer, number, require

CHUNK = 2**20  # numbers drawn at a time


class Comparison(NamedTuple):
    """Two methods on the same texts: the lead of the first, its interval, and what a test of "no lead" says.

    Parameters
    ----------
    difference : float
        The mean score of the first method minus that of the second.
    low, high : float
        Ends of the interval of the difference.
    first_ahead, second_ahead : int
        Texts, or groups of texts, on which one scores higher than the other; on all others they are equal.
    p_value : float
        How likely a difference as large, to either side, is by luck of the texts alone.
    """

    difference: float
    low: float
    high: float
    first_ahead: int
    second_ahead: int
    p_value: float


def compare(
    first: ArrayLike,
    second: ArrayLike,
    *,
    groups: Sequence[Any] | np.ndarray | None = None,
    confidence: float = 0.95,
    draws: int = 4000,
    random_state: int = 0,
) -> Comparison:
    """Compare two methods that answered the same texts, text by text.

    The interval is that of a paired bootstrap: texts are drawn with replacement, both scores of a text together (Koehn
    2004). The p-value is that of McNemar's exact test where every text is right or wrong and stands alone; elsewhere
    the signs of the differences are flipped at random (Dror et al. 2018). Both speak of these two trained networks:
    what another seed or other training texts would change, they cannot know.

    Parameters
    ----------
    first, second : array, (texts,)
        The score of each text, in the same order: whether it was answered rightly, or a number such as the F1 of one
        answer.
    groups : sequence, (texts,), optional
        A name for each text; those of one name are drawn together, because they are alike: a contrast pair, or what one
        customer wrote.
    confidence : float
        Of the interval, in (0, 1).
    draws : int
        Of the bootstrap, and of the random signs.
    random_state : int

    Raises
    ------
    ValueError
        If the scores are not two rows of equally many finite numbers, `groups` has another length, or another argument
        is out of range.

    Examples
    --------
    Of ten texts, the first method alone has six right, and the second alone one.

    >>> first, second = [1] * 6 + [0] + [1] * 3, [0] * 6 + [1] + [1] * 3
    >>> found = compare(first, second)
    >>> found.difference, found.first_ahead, found.second_ahead, found.p_value
    (0.5, 6, 1, 0.125)
    """
    gaps, sizes, right_or_wrong = _gaps(first, second, groups)
    number("confidence", confidence, above=0, below=1)
    rng = np.random.default_rng(integer("random_state", random_state, 0))
    drawn = _bootstrap(gaps, sizes, integer("draws", draws, 1), rng)
    tail = 50 * (1 - confidence)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    ahead, behind = int((gaps > 0).sum()), int((gaps < 0).sum())
    p = mcnemar(ahead, behind) if right_or_wrong else _flip_signs(gaps, draws, rng)
    return Comparison(float(gaps.sum() / sizes.sum()), float(low), float(high), ahead, behind, p)


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the p-value of McNemar's exact test: how likely coins give so uneven a split.

    Parameters
    ----------
    first_only, second_only : int
        Texts that one method alone has right. What both have right, or neither, says nothing about the difference.

    Raises
    ------
    ValueError
        If a count is negative or no integer.

    Examples
    --------
    >>> mcnemar(5, 0), mcnemar(6, 0)
    (0.0625, 0.03125)
    """
    from scipy.stats import binom

    fewer, more = sorted((integer("first_only", first_only, 0), integer("second_only", second_only, 0)))
    return min(1.0, 2 * float(binom.cdf(fewer, fewer + more, 0.5)))


def texts_needed(difference: float, disagreement: float, *, power: float = 0.8, confidence: float = 0.95) -> int:
    """Return how many test texts it takes to show a difference in accuracy between two methods.

    Source: Connor (1987), for McNemar's test. Roughly, it is 7.85 times the disagreement over the squared difference.

    Parameters
    ----------
    difference : float
        The true difference of the two accuracies, as a share: 0.02 is two points.
    disagreement : float
        The share of texts that one of the two alone has right; at least the difference.
    power : float
        How often such a difference is to be found, in (0, 1).
    confidence : float
        One minus how often a difference is "found" where there is none, in (0, 1).

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> texts_needed(0.05, 0.20), texts_needed(0.01, 0.20)
    (626, 15696)
    """
    from scipy.stats import norm

    gap, share = number("difference", difference, above=0, maximum=1), number("disagreement", disagreement, maximum=1)
    require("disagreement", share, share >= gap, f"at least difference={gap:g}: a difference is a disagreement")
    number("power", power, above=0, below=1)
    number("confidence", confidence, above=0, below=1)
    by_luck, missed = norm.ppf((1 + confidence) / 2), norm.ppf(power)
    return math.ceil(((by_luck * math.sqrt(share) + missed * math.sqrt(share - gap**2)) / gap) ** 2)


def _gaps(first: ArrayLike, second: ArrayLike, groups: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return the differences of the groups, their sizes, and whether each is one text that is right or wrong."""
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    for name, scores in (("first", one), ("second", other)):
        numbers = scores.ndim == 1 and scores.size > 0 and bool(np.isfinite(scores).all())
        require(name, scores.shape, numbers, "one finite number for each text, at least one")
    require("second", other.shape, other.shape == one.shape, f"as long as first, which has {len(one)} texts")
    if groups is None:
        return one - other, np.ones(len(one)), bool(np.isin([one, other], (0, 1)).all())
    names = list(groups)
    require("groups", f"{len(names)} names", len(names) == len(one), f"one name for each of the {len(one)} texts")
    known = {name: place for place, name in enumerate(dict.fromkeys(names))}
    places = np.array([known[name] for name in names])
    return np.bincount(places, weights=one - other), np.bincount(places).astype(float), False


def _bootstrap(gaps: np.ndarray, sizes: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return the mean difference of `draws` samples of the groups, drawn with replacement, (draws,)."""
    found, rows = [], max(1, CHUNK // len(gaps))
    for start in range(0, draws, rows):
        places = rng.integers(len(gaps), size=(min(rows, draws - start), len(gaps)))
        found.append(gaps[places].sum(axis=1) / sizes[places].sum(axis=1))
    return np.concatenate(found)


def _flip_signs(gaps: np.ndarray, draws: int, rng: np.random.Generator) -> float:
    """Return the share of random signs that give a sum as large, to either side, as the one met."""
    met, larger, rows = abs(gaps.sum()) - 1e-9, 0, max(1, CHUNK // len(gaps))
    for start in range(0, draws, rows):
        signs = rng.integers(2, size=(min(rows, draws - start), len(gaps))) * 2 - 1
        larger += int((np.abs(signs @ gaps) >= met).sum())
    return (larger + 1) / (draws + 1)
