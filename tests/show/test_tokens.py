"""Strips of tokens: what they say as text, and how the page tells tokens apart."""

from __future__ import annotations

import pytest

from companion.show.tokens import draws, strip, strips

TOKENS = ["[CLS]", "mud", "##dy", "[MASK]", "[SEP]", "[PAD]"]


def test_the_text_says_all_that_is_seen():
    shown = strip(TOKENS, below={"id": range(6), "inside": [1, 1, 1, 1, 1, 0]}, name="a row")
    assert repr(shown).splitlines() == [
        "a row: [CLS] mud ##dy [MASK] [SEP] [PAD]",
        "id: 0 1 2 3 4 5",
        "inside: 1 1 1 1 1 0",
    ]


def test_every_kind_of_token_is_told_by_a_mark_and_not_by_colour_alone():
    html = strip(TOKENS)._repr_html_()
    assert html.count('class="tok') == 6
    assert html.count('class="tok pad"') == 1
    assert html.count('class="tok piece"') == 1


def test_segments_colour_words_and_leave_special_tokens_as_they_are():
    html = strip(["[CLS]", "one", "[SEP]", "two"], segments=[0, 0, 0, 1]).html
    assert html.count("--show-red") == 2
    assert html.count("--show-sky") == 1
    assert html.count("--show-orange") == 1


def test_marked_tokens_take_the_colour_that_is_asked_for():
    assert strip(["one", "two"], marked={1: "mask"}).html.count("--show-pink") == 1


def test_an_empty_entry_stands_as_a_dot_in_the_text_and_not_at_all_below_the_token():
    shown = strip(["one", "two"], below={"label": ["", 2]})
    assert repr(shown).splitlines() == ["one two", "label: · 2"]
    assert (shown.html.count("<small>"), shown.html.count("title=")) == (1, 1)


def test_a_strip_takes_no_class_that_the_theme_gives_a_meaning():
    assert 'class="row"' not in strip(["one"]).html  # a row of Bootstrap sets every child on a line of its own


def test_text_from_outside_stays_text():
    assert "<script>" not in strip(["<script>"], below={"id": ["<b>"]}, name="<i>").html


@pytest.mark.parametrize("wrong", [{"below": {"id": [1]}}, {"segments": [0, 1]}])
def test_rows_of_another_length_are_refused_by_name(wrong: dict):
    with pytest.raises(ValueError, match="one entry for each of the 6 tokens"):
        strip(TOKENS, **wrong)


def test_rows_and_draws_say_every_strip():
    rows = [strip(["one"]), strip(["two"])]
    assert repr(strips(rows)) == repr(draws(rows)) == "one\ntwo"
    assert draws(rows).html.count('class="draw"') == 2
