"""Where one token looks: attention weights as arrows between tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from companion.show.drawing import Drawing
from companion.show.shown import Picture
from companion.support.require import require

SMALLEST = 0.02  # a weight below it is drawn as none


def arcs(tokens: Sequence[str], weights: ArrayLike, query: int, *, output: str = "") -> Picture:
    """Draw how one token mixes the others: an arrow from each, as wide as its attention weight.

    Parameters
    ----------
    tokens : sequence of str
        The keys, in their order.
    weights : array, (keys,)
        Attention weights of one query; positive, with a sum of 1.
    query : int
        Which token looks.
    output : str
        What is written into its new vector.

    Returns
    -------
    Picture
        Every arrow is labelled with its share, half way up.
    """
    weights = np.asarray(weights, dtype=float)
    require("weights", weights.shape, weights.shape == (len(tokens),), f"one for each of the {len(tokens)} tokens")
    widths = [max(64.0, 9.5 * len(token) + 18) for token in tokens]
    lefts = np.concatenate([[0.0], np.cumsum(widths)[:-1] + 10 * np.arange(1, len(tokens))]) + 10
    middles = lefts + np.array(widths) / 2
    drawing = Drawing(lefts[-1] + widths[-1] + 10, 210)
    top = min(max(middles[query], 80), drawing.width - 80)
    for token, left, width, i in zip(tokens, lefts, widths, range(len(tokens)), strict=True):
        drawing.box(left, 160, width, 36, token, colour="query" if i == query else "value", size=15)
    for middle, weight in zip(middles, weights, strict=True):
        if weight >= SMALLEST:
            end = top + (middle - top) * 0.12
            drawing.arrow(middle, 158, end, 52, colour="value", width=1 + 11 * weight, head=False)
    for middle, weight in zip(middles, weights, strict=True):
        if weight >= SMALLEST:
            drawing.label(middle + (top - middle) * 0.35, 121, f"{weight:.0%}")
    drawing.box(top - 75, 12, 150, 40, output or f"new {tokens[query]}", colour="query", size=15)
    shares = ", ".join(f"{weight:.0%} from {token}" for token, weight in zip(tokens, weights, strict=True))
    return drawing.picture(f"{tokens[query]} becomes a mixture: {shares}")
