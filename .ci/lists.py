"""What the build knows about each page beyond the page itself: files with a line per page."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def lines(name: str) -> list[str]:
    """Read the lines of a file beside this one that are no comments."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def by_page(name: str) -> dict[str, str]:
    """Read a file with lines of the form `page: what holds for it`."""
    return dict(line.split(": ", 1) for line in lines(name))
