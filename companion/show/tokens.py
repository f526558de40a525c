"""Sentences as strips of tokens: special tokens, pieces, segments and masks told apart by colour and by mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from companion.show.colours import css
from companion.show.shown import Shown
from companion.support.require import require

SPECIAL = {"[CLS]": "special", "[SEP]": "special", "[MASK]": "mask", "[PAD]": "faint", "[UNK]": "red"}


def strip(
    tokens: Sequence[str],
    *,
    below: Mapping[str, Sequence[object]] | None = None,
    segments: Sequence[int] | None = None,
    marked: Mapping[int, str] | None = None,
    name: str = "",
) -> Shown:
    """Show `tokens` in a row, in colour, each with what is known of it.

    Parameters
    ----------
    tokens : sequence of str
        As the tokenizer writes them: `[CLS]`, `mud`, `##dy`.
    below : dict of str to sequence, optional
        Rows beneath the tokens, one entry per token, such as `{"id": ids}`; an empty text leaves a token without.
    segments : sequence of int, optional
        0 for a token of segment A, 1 for one of B: its colour where the token is not a special one.
    marked : dict of int to str, optional
        Index of a token to the idea or colour that it is shown in (see `companion.show.colours`).
    name : str
        What stands above the strip.

    Returns
    -------
    Shown
        As text: one line of tokens, and one line for each row of `below`.

    Examples
    --------
    >>> strip(["[CLS]", "mud", "##dy", "[SEP]"], below={"id": [2, 915, 77, 3]})
    [CLS] mud ##dy [SEP]
    id: 2 915 77 3
    """
    below = dict(below or {})
    for label, entries in {**below, **({"segments": segments} if segments is not None else {})}.items():
        require(label, list(entries), len(entries) == len(tokens), f"one entry for each of the {len(tokens)} tokens")
    chips = [
        _chip(token, {label: entries[i] for label, entries in below.items()}, _idea(i, token, segments, marked))
        for i, token in enumerate(tokens)
    ]
    lines = [f"{label}: {' '.join(str(entry) or '·' for entry in row)}" for label, row in below.items()]
    heading = f'<span class="name">{escape(name)}</span>' if name else ""
    text = "\n".join([f"{name}: " * bool(name) + " ".join(tokens), *lines])
    return Shown(text, f'<div class="strip">{heading}{"".join(chips)}</div>')


def _idea(i: int, token: str, segments: Sequence[int] | None, marked: Mapping[int, str] | None) -> str | None:
    if marked and i in marked:
        return marked[i]
    if token in SPECIAL:
        return SPECIAL[token]
    return None if segments is None else ("segment A", "segment B")[int(segments[i])]


def _chip(token: str, below: Mapping[str, object], idea: str | None) -> str:
    notes = {label: str(entry) for label, entry in below.items() if str(entry)}
    kinds = ["tok", *(["pad"] if token == "[PAD]" else []), *(["piece"] if token.startswith("##") else [])]
    colour = f' style="--c:{css(idea)}"' if idea else ""
    small = "".join(f"<small>{escape(note)}</small>" for note in notes.values())
    title = f' title="{escape(", ".join(map(" ".join, notes.items())))}"' if notes else ""
    return f'<span class="{" ".join(kinds)}"{colour}{title}>{escape(token)}{small}</span>'


def strips(rows: Sequence[Shown]) -> Shown:
    """Show several strips below each other, such as the rows of a batch."""
    return Shown("\n".join(row.text for row in rows), "\n".join(row.html for row in rows))


def draws(rows: Sequence[Shown], *, again: str = "Draw again") -> Shown:
    """Show one of several strips, the next one at each press of a button: what a random draw does.

    Parameters
    ----------
    rows : sequence of Shown
        The draws, as they were made; a page without scripts shows them all.
    again : str
        What is written on the button.
    """
    inside = "\n".join(f'<div class="draw">{row.html}</div>' for row in rows)
    return Shown("\n".join(row.text for row in rows), f'<div class="draws" data-again="{escape(again)}">{inside}</div>')
