"""What a cell can show: HTML for those who see a page, text for all others (terminal, tests, readers of the file)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html import escape
from typing import Any

# What the pieces need wherever the book's own style sheet is missing, as on Colab.
STYLE = """\
.show{--edge:var(--show-faint,#d0d7de);color:inherit;margin:.75rem 0;max-width:100%;overflow-x:auto;line-height:1.35}
.show table{border-collapse:collapse;margin:0}
.show td,.show th{border:0;text-align:center}
.show .strip{display:flex;flex-wrap:wrap;align-items:flex-start;gap:.35rem .2rem;margin:.4rem 0}
.show .name{flex:0 0 100%;font-size:.85em;opacity:.8}
.show .tok{border:1px solid var(--edge);border-radius:.3rem;padding:.1rem .35rem;\
font-family:var(--show-mono,monospace);\
font-size:.9em;white-space:pre;background:color-mix(in srgb,var(--c,transparent) 18%,transparent);\
border-bottom:3px solid var(--c,var(--edge))}
.show .tok.pad{border-style:dashed}
.show .tok.piece{margin-left:-.2rem;border-left-style:dashed}
.show .tok small{display:block;font-size:.75em;text-align:center;font-family:var(--show-sans,sans-serif)}
.show .blocks{display:flex;flex-wrap:wrap;align-items:center;gap:.5rem .8rem}
.show .op{text-align:center;font-size:.85em;max-width:7rem}
.show figure{margin:0}
.show figcaption{font-size:.85em;text-align:center;margin:0 0 .2rem}
.show td.cell{padding:.25rem .5rem;font-variant-numeric:tabular-nums;border:1px solid var(--edge)}
.show th{font-weight:400;padding:.15rem .5rem;font-size:.9em}
.show details{border:1px solid var(--edge);border-radius:.4rem;padding:.35rem .7rem;margin:.3rem 0}
.show summary{cursor:pointer}
"""


@dataclass(frozen=True)
class Shown:
    """Something to see: the value of a cell.

    Parameters
    ----------
    text : str
        What a terminal shows, and what the tests of the notebooks compare; it says all that the HTML says.
    html : str
        What a page shows.
    """

    text: str
    html: str = field(repr=False)

    def __repr__(self) -> str:
        """Return the text."""
        return self.text

    def _repr_html_(self) -> str:
        return f'<div class="show">\n<style>{STYLE}</style>\n{self.html}\n</div>'


def lively(element: str, data: Any, still: Shown) -> Shown:
    """Show what a script of the built book brings to life, and `still` wherever that script is missing.

    Parameters
    ----------
    element : str
        Name of the custom element that the script defines.
    data : object
        What the script is given, in the attribute `data-given`; as JSON holds it.
    still : Shown
    """
    return Shown(still.text, f"<{element} data-given='{escape(json.dumps(data))}'>{still.html}</{element}>")


@dataclass(frozen=True)
class Picture:
    """A drawn picture, as SVG in the colours of the page that it stands on.

    Parameters
    ----------
    text : str
        What a terminal shows.
    svg : str
    """

    text: str
    svg: str = field(repr=False)

    def __repr__(self) -> str:
        """Return the text."""
        return self.text

    def _repr_svg_(self) -> str:
        return self.svg
