"""Listings of the package."""

from __future__ import annotations

import pytest

from companion.model import attention
from companion.show.source import show_source


def commented(x: int) -> int:
    """Say something.

    At length.
    """

    def inner() -> int:
        """Return one."""
        return 1

    return x + inner()  # (one,)


class Short:
    """A class."""

    def method(self):
        """Do it."""
        return 2


def only_words():
    """Nothing but this."""


def too_wide():
    return "a line that is much too long for a page of this book, which shows eighty-eight characters at most"


def test_docstrings_go_and_comments_stay():
    assert repr(show_source(commented)).splitlines() == [
        "def commented(x: int) -> int:",
        "    def inner() -> int:",
        "        return 1",
        "",
        "    return x + inner()  # (one,)",
    ]


def test_a_method_stands_at_the_left():
    assert repr(show_source(Short.method)) == "def method(self):\n    return 2"


def test_a_body_of_words_alone_is_kept():
    assert "Nothing but this" in repr(show_source(only_words))


def test_it_is_shown_as_python():
    shown = show_source(attention.padding_mask)
    assert shown._repr_markdown_().startswith("```python\ndef padding_mask(")
    assert shown.name == "companion.model.attention.padding_mask"


def test_what_a_page_would_clip_is_refused():
    with pytest.raises(ValueError, match="of up to .* characters; a page takes 25 of 88"):
        show_source(too_wide)
