"""Sentences: what ends one, and work that grows with the length of the text alone."""

from __future__ import annotations

import time

import pytest

from companion.text.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four… Five.", ["One.", "Two!", "Three?", "Four…", "Five."]),
        ("Really?! Yes... No.", ["Really?!", "Yes...", "No."]),
        ("He said \"No.\" Then (he left.) 'Why?' asked", ['He said "No."', "Then (he left.)", "'Why?' asked"]),
        ("see 3.14. and so on", ["see 3.14. and so on"]),
        ("at No. 5. He", ["at No. 5.", "He"]),
        ("Dr. Who met E. R. Bernstein.", ["Dr. Who met E. R. Bernstein."]),
        ("你好。再见！好”吗？", ["你好。", "再见！", "好”吗？"]),
        ("你好。。。", ["你好。。。"]),
        ("好！？是。", ["好！？", "是。"]),
        ("No end", ["No end"]),
        ("...", ["..."]),
        (". . . A", [". . .", "A"]),
        ("!!! ??? A", ["!!! ???", "A"]),
    ],
)
def test_sentences_by_hand(text: str, sentences: list[str]):
    assert split_sentences(text) == sentences


@pytest.mark.parametrize(
    "unit",
    [".", "!", "…", ". ", ".)", '."', "。", "。”", "。 ", ". (", ".\t\n", "?!)) ", "a", " ", "(", "A. "],
    ids=repr,
)
def test_a_line_of_one_kind_of_character_costs_no_more_than_its_length(unit: str):
    seconds = {}
    for size in (5_000, 40_000):
        text = "Begin " + unit * size
        start = time.process_time()
        sentences = split_sentences(text)
        seconds[size] = time.process_time() - start
        assert "".join("".join(sentences).split()) == "".join(text.split())
    assert seconds[40_000] < 24 * seconds[5_000] + 0.1, seconds
