"""The colours of the book: one for each idea, from a palette that holds in grey and for colour-blind readers.

A colour is a CSS variable with a value to fall back on, so that one picture serves the light and the dark page, and
still shows where the book's style sheet is not: on Colab, on GitHub, in print.
"""

from __future__ import annotations

# Okabe and Ito's palette, ordered so that neighbours also differ in lightness.
PALETTE = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "sky": "#56B4E9",
    "pink": "#CC79A7",
    "black": "#1F2328",
}
# A plate stands behind words that a line would strike through: it has the page's colour where paper has none.
GREYS = {"paper": "#FFFFFF", "plate": "#FFFFFE", "ink": "#1F2329", "muted": "#57606A", "faint": "#D0D7DE"}
PAPER, PLATE, INK, MUTED, FAINT = GREYS.values()

# What a colour means, on every page.
IDEAS = {
    "query": "blue",
    "key": "orange",
    "value": "green",
    "residual": "sky",
    "mask": "pink",
    "segment A": "sky",
    "segment B": "orange",
    "special": "red",
    "pre-trained": "blue",
    "new": "red",
}
# One colour and one marker for each method that recurs.
METHODS = {
    "pre-trained": "blue",
    "mini": "blue",
    "from scratch": "orange",
    "bag of words": "green",
    "released BERT": "pink",
}


def css(name: str) -> str:
    """Return the CSS value of a colour of the palette or of an idea, with what to fall back on.

    >>> css("query")
    'var(--show-blue, #0072B2)'
    """
    name = IDEAS.get(name, name)
    if name not in PALETTE | GREYS:
        allowed = ", ".join(sorted({*PALETTE, *GREYS, *IDEAS}))
        raise ValueError(f"colour {name!r} is unknown; one of {allowed}")
    return f"var(--show-{name}, {(PALETTE | GREYS)[name]})"


def themed(svg: str) -> str:
    """Return `svg` with every colour of the book turned into its CSS variable."""
    for name, value in (PALETTE | GREYS).items():
        for written in (value, value.lower()):
            svg = svg.replace(f": {written}", f": var(--show-{name}, {value})")
    return svg
