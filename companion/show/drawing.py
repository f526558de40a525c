"""Drawn pictures that explain: boxes, arrows and words as SVG, in the colours of the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from companion.show.colours import css
from companion.show.shown import Picture

FONT = "var(--show-sans, system-ui, sans-serif)"
MONO = "var(--show-mono, ui-monospace, monospace)"
# One head for every arrow of a picture; its id says what it is, so that equal ones on a page do no harm.
HEAD = (
    '<defs><marker id="show-arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
    'orient="auto-start-reverse"><path d="M0 1 L9 5 L0 9 z" fill="context-stroke"/></marker></defs>'
)


def rounded(x: float, y: float, width: float, height: float) -> str:
    """Return the attributes of a rectangle with round corners, which stay corners where it is small."""
    radius = min(6, width / 4, height / 4)
    return f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}"'


class Drawing:
    """A picture in the making; lengths are pixels at full size, y runs downwards.

    Parameters
    ----------
    width, height : float
        A picture up to 360 wide is as large on a telephone as on a screen.

    Examples
    --------
    >>> drawing = Drawing(200, 60)
    >>> drawing.box(10, 10, 80, 40, "encoder", colour="pre-trained")
    >>> drawing.arrow(90, 30, 150, 30)
    >>> drawing.picture("an arrow leaves the encoder")
    <Drawing of 200 × 60: an arrow leaves the encoder>
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.parts: list[str] = []

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        words: str = "",
        *,
        colour: str = "muted",
        dashed: bool = False,
        size: float = 13,
        strength: int = 18,
    ) -> None:
        """Draw a box with its upper left corner at (x, y), and `words`, whose lines end at a newline, in its middle."""
        paint = f"color-mix(in srgb, {css(colour)} {strength}%, transparent)"
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        place = rounded(x, y, width, height)
        self.parts.append(f'<rect {place} style="fill:{paint};stroke:{css(colour)}" stroke-width="1.5"{dash}/>')
        if words:
            self.text(x + width / 2, y + height / 2, words, size=size)

    def plate(self, x: float, y: float, width: float, height: float) -> None:
        """Lay an area of the page's colour, so that lines behind it end at its edge."""
        self.parts.append(f'<rect {rounded(x, y, width, height)} style="fill:{css("plate")}"/>')

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = 13,
        colour: str = "ink",
        anchor: str = "middle",
        bold: bool = False,
        mono: bool = False,
    ) -> None:
        """Write `words`, one line for each newline, their middle at height y."""
        lines = words.split("\n")
        top = y - (len(lines) - 1) * size * 0.62
        spans = "".join(
            f'<tspan x="{x:g}" y="{top + i * size * 1.24:.1f}">{escape(line)}</tspan>' for i, line in enumerate(lines)
        )
        weight = ";font-weight:600" if bold else ""
        look = f"font-family:{MONO if mono else FONT};font-size:{size:g}px;fill:{css(colour)}{weight}"
        self.parts.append(f'<text text-anchor="{anchor}" dominant-baseline="central" style="{look}">{spans}</text>')

    def label(self, x: float, y: float, words: str, *, size: float = 13) -> None:
        """Write `words` on a plate of the page's colour, so that a line behind them does not strike them through."""
        width = 0.62 * size * len(words) + 6
        self.plate(x - width / 2, y - size * 0.75, width, size * 1.5)
        self.text(x, y, words, size=size, bold=True)

    def arrow(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        *,
        colour: str = "muted",
        width: float = 1.5,
        bend: float = 0.0,
        head: bool = True,
        dashed: bool = False,
    ) -> None:
        """Draw an arrow from (x1, y1) to (x2, y2), bent to its left by `bend` pixels in the middle."""
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5 or 1.0
        middle = ((x1 + x2) / 2 + 2 * bend * (y2 - y1) / length, (y1 + y2) / 2 - 2 * bend * (x2 - x1) / length)
        path = (
            f"M{x1:g} {y1:g} Q{middle[0]:.1f} {middle[1]:.1f} {x2:g} {y2:g}"
            if bend
            else f"M{x1:g} {y1:g} L{x2:g} {y2:g}"
        )
        end = ' marker-end="url(#show-arrow)"' if head else ""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        style = f"fill:none;stroke:{css(colour)};stroke-width:{width:g}"
        self.parts.append(f'<path d="{path}" style="{style}"{dash}{end}/>')

    def cells(
        self,
        x: float,
        y: float,
        values: Sequence[Sequence[str]],
        *,
        width: float = 40,
        height: float = 26,
        colour: str = "muted",
        strengths: Sequence[Sequence[float]] | None = None,
        size: float = 12,
    ) -> None:
        """Draw a matrix of texts, its upper left corner at (x, y); `strengths`, from 0 to 1, shade the cells."""
        for i, row in enumerate(values):
            for j, words in enumerate(row):
                strength = round(100 * strengths[i][j]) if strengths else 14
                self.box(
                    x + j * width,
                    y + i * height,
                    width - 2,
                    height - 2,
                    words,
                    colour=colour,
                    size=size,
                    strength=strength,
                )

    def link(self, x: float, y: float, width: float, height: float, address: str, title: str) -> None:
        """Make the area a link; `title` is what a screen reader says."""
        area = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="transparent"/>'
        self.parts.append(
            f'<a href="{escape(address)}" aria-label="{escape(title)}"><title>{escape(title)}</title>{area}</a>'
        )

    def picture(self, says: str) -> Picture:
        """Return the picture; `says` is what it shows, in words."""
        size = f'width="{self.width:g}" height="{self.height:g}" viewBox="0 0 {self.width:g} {self.height:g}"'
        role = "group" if any(part.startswith("<a ") for part in self.parts) else "img"  # an image has no links in it
        opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="{role}" aria-label="{escape(says)}">'
        heads = [HEAD] if any("#show-arrow" in part for part in self.parts) else []  # a hidden twin would hide them all
        svg = "\n".join([opening, *heads, *self.parts, "</svg>"])
        return Picture(f"<Drawing of {self.width:g} × {self.height:g}: {says}>", svg)
