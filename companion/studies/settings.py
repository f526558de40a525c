"""A small search over settings on held-out training texts, so that what is scored decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import train_test_split

from companion.config import BertConfig
from companion.finetuning.base import FineTuned
from companion.finetuning.new_head import default_learning_rate
from companion.support.locate import locate
from companion.support.require import integer

FACTORS = (1, 3)  # of the learning rate that goes with the width of the network
HELD_OUT = 0.2


def search_learning_rate(
    estimator: FineTuned,
    texts: Sequence[Any],
    labels: Sequence[Any],
    score: Callable[[Sequence[Any], Sequence[Any]], float],
    *,
    rows: int,
    seed: int = 0,
) -> list[dict[str, float]]:
    """Train with each learning rate on four fifths of some texts, and score it on the rest.

    Parameters
    ----------
    estimator : FineTuned
        Stays as it is. The rates are `FACTORS` times the default of its network.
    texts, labels : sequence
        Of the training part.
    score : callable
        ``score(truth, predicted)``; higher is better.
    rows : int
        How many texts are used at most, drawn at random.
    seed : int
        Of the draw, the split and the training.

    Returns
    -------
    list of dict
        `learning_rate` and `score`, the best one first; of equal ones, the lower.

    Raises
    ------
    ValueError
        If `rows` is below 10.
    """
    integer("rows", rows, minimum=10)
    drawn = np.random.default_rng(seed).permutation(len(texts))[:rows]
    columns = [texts[i] for i in drawn], [labels[i] for i in drawn]
    train, held_out, known, truth = train_test_split(*columns, test_size=HELD_OUT, random_state=seed)
    default = default_learning_rate(BertConfig.from_file(locate(estimator.model)).hidden_size)
    found = []
    for rate in (factor * default for factor in FACTORS):
        trained = clone(estimator).set_params(learning_rate=rate, random_state=seed).fit(train, known)
        found.append({"learning_rate": rate, "score": float(score(truth, list(trained.predict(held_out))))})
    return sorted(found, key=lambda one: -one["score"])
