"""Questions to the reader."""

from __future__ import annotations

import pytest

from companion.show.questions import choice, number


def test_every_answer_opens_and_says_why():
    shown = choice("Which?", "this", "It fits.", {"that": "It is too long.", "none": "One does."})
    assert shown.html.count("<details") == 3
    assert shown.html.count('class="right"') == 1
    assert "Yes. It fits." in shown.html
    assert "No. It is too long." in shown.html


def test_the_order_of_answers_hangs_on_the_question_alone():
    one, other = (choice("Which?", "this", "", {"that": "", "none": ""}) for _ in range(2))
    assert repr(one) == repr(other)
    firsts = {repr(choice(f"{i}?", "this", "", {"that": "", "none": ""})).splitlines()[1] for i in range(20)}
    assert len(firsts) == 3


@pytest.mark.parametrize("wrong", [{}, {"this": "twice"}])
def test_a_question_needs_answers_that_differ(wrong: dict):
    with pytest.raises(ValueError, match="wrong="):
        choice("Which?", "this", "", wrong)


def test_the_text_of_a_number_does_not_give_it_away():
    shown = number("How many?", 12345.5, "Count.", within=10, unit="tokens")
    assert "12,345.5" not in repr(shown)
    assert "about 12,346 tokens. Count." in shown.html  # no more digits than the tolerance asks for
    assert 'data-answer="12345.5" data-within="10"' in shown.html
