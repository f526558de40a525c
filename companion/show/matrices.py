"""Matrices beside each other, with what leads from one to the next: a calculation seen at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import ArrayLike

from companion.show.colours import css
from companion.show.shown import Shown


@dataclass(frozen=True)
class Matrix:
    """A matrix with names.

    Parameters
    ----------
    title : str
        What it holds.
    values : array, (rows, columns) or (columns,)
        NaN leaves a cell empty.
    rows, columns : sequence of str, optional
        Names along the sides.
    idea : str
        Its colour (see `companion.show.colours`); the larger a value, the stronger.
    decimals : int, optional
        Digits after the point; as many as are needed up to 4 when left out.
    by_row : bool
        Shade each row by its own largest value: for rows that measure different things.
    """

    title: str
    values: ArrayLike
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    idea: str = "blue"
    decimals: int | None = None
    by_row: bool = False

    def texts(self) -> list[list[str]]:
        """Return the numbers as they are shown, row by row."""
        values = np.atleast_2d(np.asarray(self.values, dtype=float))
        return [["" if np.isnan(value) else self._number(value) for value in row] for row in values]

    def _number(self, value: float) -> str:
        return f"{round(value, 4) + 0.0:g}" if self.decimals is None else f"{value:.{self.decimals}f}"

    def html(self) -> str:
        """Return the matrix as a table, its cells shaded."""
        values = np.atleast_2d(np.asarray(self.values, dtype=float))
        values = np.where(np.isnan(values), 0.0, values)
        largest = np.abs(values).max(axis=1 if self.by_row else None, keepdims=True)
        shares = values / np.where(largest == 0, 1.0, largest)
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        head = f"<tr>{'<th></th>' if self.rows else ''}{head}</tr>" if self.columns else ""
        body = ""
        for i, (row, texts) in enumerate(zip(shares, self.texts(), strict=True)):
            name = f'<th scope="row">{escape(self.rows[i])}</th>' if self.rows else ""
            body += f"<tr>{name}{''.join(map(self._cell, row, texts))}</tr>"
        return f"<figure><figcaption>{escape(self.title)}</figcaption><table>{head}{body}</table></figure>"

    def _cell(self, share: float, text: str) -> str:
        strength = 5 * round(12 * max(0.0, share))  # in steps, so that it does not hang on a last digit
        shade = f"background:color-mix(in srgb,{css(self.idea)} {strength}%,transparent)"
        return f'<td class="cell" style="{shade}">{text}</td>'

    def text(self) -> str:
        """Return the matrix as aligned lines."""
        rows = [
            [*([name] if name else []), *texts]
            for name, texts in zip(self.rows or [""] * 99, self.texts(), strict=False)
        ]
        if self.columns:
            rows.insert(0, [*([""] if self.rows else []), *self.columns])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(entry.rjust(width) for entry, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([self.title, *lines])


def matrices(*parts: Matrix | str) -> Shown:
    """Show matrices in a row that wraps on a narrow page, with words between them for what is done to the one before.

    Parameters
    ----------
    *parts : Matrix or str
        `matrices(Matrix("scores", S), "÷ √2, softmax →", Matrix("weights", A))`.

    Examples
    --------
    >>> matrices(Matrix("x", [[1, 2]], ["bank"], ["water", "money"]), "doubled →", Matrix("2x", [[2, 4]], ["bank"]))
    x
          water  money
    bank      1      2
    doubled →
    2x
    bank  2  4
    """
    texts = [part if isinstance(part, str) else part.text() for part in parts]
    blocks = [f'<div class="op">{escape(p)}</div>' if isinstance(p, str) else p.html() for p in parts]
    return Shown("\n".join(texts), f'<div class="blocks">{"".join(blocks)}</div>')
