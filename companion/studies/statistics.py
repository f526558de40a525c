"""Differences over seeds and their intervals."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from companion.support.require import integer, number


@dataclass(frozen=True)
class Difference:
    """A variant minus what it is compared with, seed by seed, and the interval of its mean."""

    values: tuple[float, ...]
    mean: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def paired_difference(
    record: Mapping[str, Any],
    name: str,
    *,
    against: str | None = None,
    yardstick: str | None = None,
    figure: str | None = None,
    confidence: float = 0.95,
) -> Difference:
    """Compare two variants of a record, seed by seed.

    Parameters
    ----------
    record : mapping
        As `run_ablations` returns it.
    name : str
    against, yardstick, figure : str, optional
        None takes those of the variant. A figure is `mlm`, `mlm_accuracy`, `nats_per_character`, ...
    confidence : float
        Of the t-interval, in (0, 1).

    Raises
    ------
    ValueError
        If the two share fewer than two seeds, or one was not measured so.
    """
    variant = record["config"]["variants"][name]
    against, yardstick = against or variant["against"], yardstick or variant["yardstick"]
    figure = figure or variant["figure"]
    one, other = (by_seed(record, which, yardstick, figure) for which in (name, against))
    values = [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]
    low, high = t_interval(values, confidence)
    return Difference(tuple(values), statistics.fmean(values), low, high)


def t_interval(
    values: Sequence[float],
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return Student's interval of the mean of `values`: mean ± t · s / √n, t of n - 1 degrees of freedom.

    Raises
    ------
    ValueError
        If there are fewer than two values.
    """
    if (count := len(values)) < 2:
        found = f"an interval needs two values or more, and there are {count}"
        raise ValueError(f"{found}; run more seeds")
    from scipy.stats import sem

    half = student_t(count - 1, confidence) * float(sem(values))
    return statistics.fmean(values) - half, statistics.fmean(values) + half


def student_t(degrees: int, confidence: float = 0.95) -> float:
    """Return how far Student's t strays from 0 to either side with probability `confidence`.

    Parameters
    ----------
    degrees : int
        Of freedom: one less than the values whose mean is asked for.
    confidence : float
        In (0, 1).

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    from scipy.stats import t

    integer("degrees", degrees, minimum=1)
    number("confidence", confidence, above=0, below=1)
    return float(t.interval(confidence, degrees)[1])


def by_seed(record: Mapping[str, Any], name: str, yardstick: str, figure: str) -> dict[int, float]:
    """Return a figure of a variant, one value for each seed.

    Raises
    ------
    ValueError
        If it was not measured on that yardstick.
    """
    runs = [run for run in record["entries"] if run["variant"] == name]
    if not all(figure in run["measures"][yardstick] for run in runs):
        raise ValueError(f"figure={figure!r} was not measured on the yardstick {yardstick!r} of {name!r}")
    return {run["seed"]: run["measures"][yardstick][figure] for run in runs}
