"""Figures from arrays, never from models: labelled axes, and colours that hold in grey and for colour-blind readers.

Every function returns a `Plot`, which a cell shows as SVG in the colours of the page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from companion.show.colours import FAINT, INK, METHODS, MUTED, PALETTE, PAPER, PLATE, themed

COLOURS = tuple(PALETTE.values())
FINER = re.compile(r"(-?\d+\.\d\d)\d+")  # a hundredth of a point is less than anyone sees
LINES = ("-", "--", "-.", ":")
STYLE: dict[Any, Any] = {
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "savefig.bbox": "tight",
    "svg.fonttype": "none",
    "svg.hashsalt": "companion",
    "font.size": 11,
    "axes.titlesize": 12,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "image.cmap": "cividis",
    "legend.frameon": False,
}


class Plot:
    """A matplotlib figure that a cell shows as SVG, its colours those of the page that it stands on.

    What it does not know itself, the figure answers: `plot.axes`, `plot.legend(...)`, `plot.savefig(...)`.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    """

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    def __getattr__(self, name: str) -> Any:
        """Return the attribute of the figure."""
        if name == "figure":
            raise AttributeError(name)
        return getattr(self.figure, name)

    def __repr__(self) -> str:
        """Return the size."""
        width, height = self.figure.get_size_inches() * 72
        return f"<Plot of {width:.0f} × {height:.0f} points with {len(self.figure.axes)} axes>"

    def _repr_svg_(self) -> str:
        file = io.StringIO()
        with plt.rc_context(STYLE):
            self.figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        svg = file.getvalue()
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r" *<metadata>.*?</metadata>\n", "", svg, flags=re.DOTALL)
        svg = re.sub(r"<[^>]*>", lambda tag: FINER.sub(r"\1", tag[0]), svg)  # not in the words between tags
        return themed(re.sub(r"'DejaVu Sans'[^;\"]*sans-serif", "var(--show-sans, sans-serif)", svg))


@contextmanager
def figure(width: float = 5.6, height: float = 3.6, **options: Any) -> Iterator[tuple[Plot, Axes]]:
    """Yield a plot of `width` × `height` inches in the style of the book, with its axes, and close it at the end.

    Closed, it is drawn only where it is returned as a cell's value. `options` go to `matplotlib.pyplot.subplots`.
    """
    with plt.rc_context(STYLE):
        drawn, axes = plt.subplots(figsize=(width, height), layout="constrained", **options)
        try:
            yield Plot(drawn), axes
        finally:
            plt.close(drawn)


def colour_of(name: str, place: int) -> str:
    """Return the colour of a series: that of the method that its name begins with, else the one of its place."""
    method = next((known for known in METHODS if name.startswith(known)), None)
    return PALETTE[METHODS[method]] if method else COLOURS[place % len(COLOURS)]


def heat_map(
    values: ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    row_label: str,
    column_label: str,
    value_label: str,
    decimals: int | None = 2,
    limits: tuple[float, float] | None = None,
    texts: Sequence[Sequence[str]] | None = None,
    cell: tuple[float, float] = (0.55, 0.45),
) -> Plot:
    """Draw a matrix as a heat map with its numbers, or with other `texts`, in the cells.

    Parameters
    ----------
    values : array, (rows, columns)
    rows, columns : sequence of str
        Names along the sides.
    row_label, column_label, value_label : str
        What runs down, what runs across, and what the colour means, with units where there are any.
    decimals : int, optional
        Digits after the point in the cells; None writes no numbers.
    limits : (float, float), optional
        Values at the ends of the colour bar.
    texts : sequence of sequences of str, optional
        One a cell, in the shape of `values`, in place of the numbers.
    cell : (float, float)
        Width and height of a cell in inches; long names of rows take their room from the cells.
    """
    values = np.asarray(values, dtype=float)
    low, high = limits or (values.min(), values.max())
    if texts is None:
        texts = [["" if decimals is None else f"{value:.{decimals}f}" for value in row] for row in values]
    with figure(1.8 + cell[0] * len(columns), 1.2 + cell[1] * len(rows)) as (fig, axes):
        image = axes.imshow(values, vmin=low, vmax=high, aspect="auto")
        slanted: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(len(columns)), columns, **(slanted if max(map(len, columns)) > 3 else {}))
        axes.set_yticks(range(len(rows)), rows)
        axes.set(xlabel=column_label, ylabel=row_label)
        fig.colorbar(image, label=value_label)
        for (row, column), value in np.ndenumerate(values):
            if text := texts[row][column]:
                colour = "#FEFEFE" if value < (low + high) / 2 else "black"  # white itself is the page's, see `themed`
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    return fig


def attention_map(weights: ArrayLike, tokens: Sequence[str], keys: Sequence[str] | None = None) -> Plot:
    """Draw attention weights (queries, keys), between 0 and 1: row i is how token i spreads its attention."""
    decimals = 2 if len(tokens) <= 12 else None
    names: dict[str, Any] = {"row_label": "query token", "column_label": "key token", "value_label": "attention weight"}
    return heat_map(weights, tokens, keys or tokens, decimals=decimals, limits=(0.0, 1.0), **names)


def curves(
    series: dict[str, tuple[ArrayLike, ArrayLike]],
    *,
    x_label: str,
    y_label: str,
    levels: dict[str, float] | None = None,
    log_x: bool = False,
    log_y: bool = False,
    legend_outside: bool = False,
) -> Plot:
    """Draw one line a series, each in a colour and a dash of its own, and horizontal lines at named `levels`.

    Parameters
    ----------
    series : dict
        Name to (x, y).
    x_label, y_label : str
        With units.
    levels : dict, optional
        Name to the height of a dotted horizontal line, such as a baseline.
    log_x, log_y : bool
        Logarithmic axes.
    legend_outside : bool
        Put the names above the axes, where they cover no line.
    """
    with figure() as (fig, axes):
        for i, (name, (x, y)) in enumerate(series.items()):
            axes.plot(x, y, LINES[i % len(LINES)], color=colour_of(name, i), label=name, linewidth=2)
        for name, level in (levels or {}).items():
            axes.axhline(level, color=MUTED, linestyle=":", linewidth=1.5)
            place: dict[str, Any] = {"xytext": (4, 0), "textcoords": "offset points", "ha": "left", "va": "center"}
            axes.annotate(name, (1, level), xycoords=("axes fraction", "data"), color=MUTED, fontsize=10, **place)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_xscale("log" if log_x else "linear")
        axes.set_yscale("log" if log_y else "linear")
        if not log_x and all(np.asarray(x).dtype.kind in "iu" for x, _ in series.values()):
            axes.xaxis.set_major_locator(
                MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10])
            )  # there is no layer 1.5
        if legend_outside:
            fig.legend(loc="outside upper center", ncols=2, fontsize=9)
        elif len(series) > 1:
            axes.legend()
    return fig


def bars(
    values: dict[str, float],
    *,
    y_label: str,
    x_label: str = "",
    errors: dict[str, float] | None = None,
    decimals: int = 2,
) -> Plot:
    """Draw one bar a name with its value above it, and error bars (half-widths) where they are given."""
    with figure(1.5 + 1.1 * len(values), 3.4) as (fig, axes):
        heights = list(values.values())
        spread = None if errors is None else [errors[name] for name in values]
        drawn = axes.bar(list(values), heights, yerr=spread, capsize=4, color=COLOURS[0], ecolor=INK)
        axes.bar_label(drawn, fmt=f"%.{decimals}f", padding=3)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.margins(y=0.15)
    return fig


def dot_plot(
    series: dict[str, dict[str, float]],
    *,
    x_label: str,
    levels: dict[str, float] | None = None,
    intervals: dict[str, dict[str, tuple[float, float]]] | None = None,
) -> Plot:
    """Draw one row a name, with one marker a series on it: for comparing values whose names are long.

    Parameters
    ----------
    series : dict
        Name of the series to name of the row to value. Rows run downwards in the order in which they first occur. Rows
        of a single series that are named for methods have the colours of those.
    x_label : str
        With units.
    levels : dict, optional
        Name to the place of a dotted vertical line, such as a baseline.
    intervals : dict, optional
        Name of the series to name of the row to (low, high), drawn as a line through the marker. The series then stand
        a little apart, so that their lines do not cover each other.
    """
    rows = list(dict.fromkeys(row for values in series.values() for row in values))
    apart = 0.5 / len(series) if intervals else 0.0
    crowded = bool(intervals) and len(series) > 4  # then a row is higher, and no marker larger than the others
    with figure(5.8, 1.3 + (0.7 if crowded else 0.45 if intervals else 0.32) * len(rows)) as (fig, axes):
        axes.hlines(range(len(rows)), 0, 1, transform=axes.get_yaxis_transform(), color=FAINT, linewidth=1, zorder=0)
        for i, (name, values) in enumerate(series.items()):
            places = [rows.index(row) + apart * (i - (len(series) - 1) / 2) for row in values]
            colours = [colour_of(row, 0) for row in values] if len(series) == 1 else [colour_of(name, i)] * len(values)
            if intervals:
                low, high = zip(*(intervals[name][row] for row in values), strict=True)
                axes.hlines(places, low, high, color=colours, linewidth=1.5)
            look: dict[str, Any] = {
                "marker": "os^Dv"[i % 5],
                "edgecolors": colours,
                "s": 40 if crowded else 40 + 50 * i,
                "clip_on": False,
            }
            filling = colours if i == 0 else "none"  # open and larger, so that it hides no earlier one
            axes.scatter(list(values.values()), places, label=name, facecolors=filling, linewidths=1.6, **look)
        for name, level in (levels or {}).items():
            axes.axvline(level, color=MUTED, linestyle=":", linewidth=1.5, label=name, zorder=0)
        axes.set_yticks(range(len(rows)), rows)
        axes.invert_yaxis()
        axes.set(xlabel=x_label)
        fig.legend(loc="outside upper right", ncols=len(series) + len(levels or {}), fontsize=9)
    return fig


def stacked_bars(shares: dict[str, dict[str, float]], *, x_label: str) -> Plot:
    """Draw one bar a row, made of its parts: for what adds up to a whole, such as shares in percent.

    Parameters
    ----------
    shares : dict
        Name of the row to name of the part to length. Rows run downwards; a part of at least 8% of the longest bar has
        its number, rounded, written into it.
    x_label : str
        With units.
    """
    parts = list(dict.fromkeys(part for lengths in shares.values() for part in lengths))
    longest = max(sum(lengths.values()) for lengths in shares.values())
    with figure(5.8, 1.3 + 0.36 * len(shares)) as (fig, axes):
        left = np.zeros(len(shares))
        for i, part in enumerate(parts):
            lengths = np.array([row.get(part, 0.0) for row in shares.values()])
            drawn = axes.barh(list(shares), lengths, left=left, color=COLOURS[i % 7], label=part, height=0.7)
            words = [f"{length:.0f}" if length >= 0.08 * longest else "" for length in lengths]
            axes.bar_label(drawn, words, label_type="center", color=PLATE, fontsize=9)
            left += lengths
        axes.invert_yaxis()
        axes.set(xlabel=x_label, xlim=(0, longest))
        fig.legend(loc="outside upper center", ncols=len(parts), fontsize=9)
    return fig


def points(
    groups: dict[str, ArrayLike],
    *,
    x_label: str,
    y_label: str,
    names: dict[str, Sequence[str]] | None = None,
    hull: str | None = None,
    colours: dict[str, str] | None = None,
    legend_outside: bool = False,
) -> Plot:
    """Draw groups of points in the plane, each with a colour and a marker of its own, and names beside them if given.

    Parameters
    ----------
    groups : dict
        Name to an array (points, 2).
    names : dict, optional
        Group to one text a point.
    hull : str, optional
        Group whose convex hull is shaded.
    colours : dict, optional
        Group to a colour of the palette, for groups that share one; their markers differ.
    legend_outside : bool
        Put the names of the groups above the axes, where they cover no point.
    """
    with figure(5.6, 4.2) as (fig, axes):
        if hull is not None:
            corners = convex_hull(groups[hull])
            axes.fill(*corners.T, facecolor=FAINT, edgecolor=MUTED, label=f"convex hull of {hull}", zorder=0)
        for i, (group, values) in enumerate(groups.items()):
            values = np.asarray(values, dtype=float)
            colour = PALETTE[colours[group]] if colours else COLOURS[i % 7]
            axes.scatter(values[:, 0], values[:, 1], marker="os^Dvx"[i % 6], color=colour, label=group, s=45)
            for text, place in zip((names or {}).get(group, ()), values, strict=False):
                axes.annotate(text, place, xytext=(5, 3), textcoords="offset points", fontsize=8)
        axes.set(xlabel=x_label, ylabel=y_label)
        if legend_outside:
            fig.legend(loc="outside upper center", ncols=2, fontsize=9)
        else:
            axes.legend()
    return fig


def convex_hull(positions: ArrayLike) -> np.ndarray:
    """Return the corners (corners, 2) of the convex hull of `positions` (points, 2), counter-clockwise.

    One point is its own hull; that of points on one line is its two ends.
    """
    from scipy.spatial import ConvexHull

    points = np.unique(np.asarray(positions, dtype=float), axis=0)
    if np.linalg.matrix_rank(points - points[0]) < 2:
        return points[[0, -1]] if len(points) > 1 else points
    return points[ConvexHull(points).vertices]


def dot_products(
    query: ArrayLike, keys: ArrayLike, names: Sequence[str], *, query_name: str, x_label: str, y_label: str
) -> Plot:
    """Draw a query as an arrow and keys as points, each on the dashed line of all points that score like it.

    Such a line stands at right angles to the query; the further along the query it lies, the higher the score.

    Parameters
    ----------
    query : array, (2,)
    keys : array, (keys, 2)
    names : sequence of str
        One a key.
    query_name : str
        For the legend.
    x_label, y_label : str
    """
    query, keys = np.asarray(query, dtype=float), np.asarray(keys, dtype=float)
    across = np.array([-query[1], query[0]])
    with figure(5.6, 4.2) as (fig, axes):
        for name, key in zip(names, keys, strict=True):
            axes.axline(key, key + across, color=MUTED, linestyle="--", linewidth=1, zorder=0)
            text: dict[str, Any] = {
                "xytext": (-7, -4),
                "textcoords": "offset points",
                "ha": "right",
                "va": "top",
                "fontsize": 9,
            }
            box = {"facecolor": PLATE, "edgecolor": "none", "pad": 1}
            axes.annotate(f"{name}: {key @ query:g}", key, bbox=box, **text)
        axes.scatter(keys[:, 0], keys[:, 1], marker="s", color=COLOURS[1], label="keys, with their scores", s=45)
        axes.quiver(*query, angles="xy", scale_units="xy", scale=1, color=COLOURS[0], width=0.009, label=query_name)
        axes.update_datalim(np.stack([np.zeros(2), query]))
        axes.margins(0.2)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_aspect("equal", adjustable="datalim")
        axes.legend()
    return fig
