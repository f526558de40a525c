"""Who may look at whom: weights in a square here, and in the built book a square to click.

What stands in a notebook, on Colab and in print is the *still*: the scores and the weights without a mask. In the
built book `mask_grid.js` lets the reader hide any cell, and choose the number that hides it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from companion.show.matrices import Matrix, matrices
from companion.show.shown import Shown, lively
from companion.support.require import require

ELEMENT = "mask-grid"


def mask_grid(scores: ArrayLike, tokens: Sequence[str]) -> Shown:
    """Show scaled scores and their softmax; in the built book the reader hides cells and sees the rows change.

    Parameters
    ----------
    scores : array, (tokens, tokens)
        A row per query, a column per key, after the division by the root.
    tokens : sequence of str
        One name for each row; a token `[PAD]` is padding.

    Raises
    ------
    ValueError
        If there is not one row and one column for each token.

    Examples
    --------
    >>> mask_grid([[0.0, 0.0], [0.0, 0.0]], ["river", "bank"])
    scores
           river  bank
    river      0     0
     bank      0     0
    softmax →
    weights
    river  0.500  0.500
     bank  0.500  0.500
    """
    rows = np.asarray(scores, dtype=float)
    n = len(tokens)
    require("scores", rows.shape, rows.shape == (n, n), f"of shape ({n}, {n}): a row and a column per token")
    exponentials = np.exp(rows - rows.max(axis=1, keepdims=True))
    weights = exponentials / exponentials.sum(axis=1, keepdims=True)
    still = matrices(
        Matrix("scores", rows.round(2), tokens, tokens, idea="query"),
        "softmax →",
        Matrix("weights", weights, tokens, idea="query", decimals=3),
    )
    return lively(ELEMENT, {"tokens": list(tokens), "scores": rows.tolist()}, still)
