"""One query looks, in six steps: a table here, and in the built book something to move.

What stands in a notebook, on Colab and in print is the *still*: all six steps in one table. In the built book
`stepper.js` goes through them one by one, and lets the reader drag the keys, hide tokens and turn the temperature.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from companion.show.matrices import Matrix, matrices
from companion.show.shown import Shown, lively
from companion.support.require import choice, require

ELEMENT = "attention-stepper"
STEPS = ("1 score q·k", "2 divided by √2", "3 exponential", "5 divided by the sum")


def stepper(
    queries: ArrayLike,
    keys: ArrayLike,
    values: ArrayLike,
    tokens: Sequence[str],
    *,
    query: str,
    value_names: Sequence[str] = (),
) -> Shown:
    """Show how one token looks at all: scores, scaling, exponentials, their sum, weights, and the mixed values.

    Parameters
    ----------
    queries, keys, values : array, (tokens, 2)
        Two dimensions, so that each can be drawn in a plane.
    tokens : sequence of str
        One name for each row.
    query : str
        The token that looks; the reader of the built book can choose another.
    value_names : sequence of str
        Names of the two dimensions of the values.

    Raises
    ------
    ValueError
        If a shape does not fit, or `query` is none of the tokens.
    """
    arrays = {"queries": queries, "keys": keys, "values": values}
    rows = {name: np.asarray(array, dtype=float) for name, array in arrays.items()}
    for name, array in rows.items():
        require(name, array.shape, array.shape == (len(tokens), 2), f"of shape ({len(tokens)}, 2): a row per token")
    choice("query", query, tokens)
    chosen = list(tokens).index(query)
    data = {name: array.tolist() for name, array in rows.items()}
    data |= {"tokens": list(tokens), "query": chosen, "valueNames": list(value_names)}
    still = _still(rows["queries"][chosen], rows["keys"], rows["values"], tokens, query, value_names)
    return lively(ELEMENT, data, still)


def _still(
    query: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    tokens: Sequence[str],
    name: str,
    value_names: Sequence[str],
) -> Shown:
    scores = keys @ query
    scaled = scores / np.sqrt(2)
    exponentials = np.exp(scaled)
    total = exponentials.sum()
    weights = exponentials / total
    rows = [scores, scaled, exponentials, weights]
    return matrices(
        Matrix(f"4 the sum of row 3 is {total:.4f}", rows, STEPS, tokens, by_row=True),
        "6 values, mixed →",
        Matrix(f"new {name}", [weights @ values], (), value_names, idea="value"),
    )
