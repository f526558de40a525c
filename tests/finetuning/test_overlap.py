"""Answers by counting words."""

import pytest

from companion.finetuning.overlap import overlap_answer, overlapping_sentence

TEXT = "Anna Berg baked a cake in March. In 1954 it was eaten by seven guests at Lund. Nobody thanked the baker."


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who baked it?", "Anna Berg"),
        ("How many guests were there?", "seven guests"),
        ("When was it eaten by guests?", "seven guests"),  # the longer of two numbers: it knows no dates
        ("Where was it eaten?", "Lund"),
        ("Did the guests at Lund eat it?", "In 1954 it was eaten by seven guests at Lund"),
        ("Who is Anna Berg, who baked a cake?", "March"),
        ("What did nobody do to the baker?", "Nobody thanked the baker"),
        ("Xyz?", "Anna Berg baked a cake in March"),
    ],
)
def test_an_answer_is_a_number_a_name_or_the_sentence(question: str, expected: str):
    assert overlap_answer(question, TEXT) == expected
    assert expected in TEXT


def test_a_rare_word_outweighs_a_common_one():
    text = "The cat sat. The cat ate. The dog saw the owl."
    assert overlapping_sentence("What did the cat do to the owl?", text) == "The dog saw the owl."


def test_of_equal_sentences_the_first_and_an_empty_text_is_no_error():
    assert overlapping_sentence("dog?", "A dog. A dog!") == "A dog."
    assert overlap_answer("dog?", "") == ""
