"""Answers: how they are scored, read, put into windows, and chosen."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from companion import Tokenizer
from companion.finetuning.answers import (
    Answer,
    answer_f1,
    best_spans,
    exact_match,
    normalised,
    positions_of,
    read_answers,
    span_sums,
    windows,
)

TEXT = "the alpha good beta gamma good delta"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The  Cat!", "cat"),
        ("an A-B", "ab"),  # punctuation goes before articles are looked for
        ("theatre", "theatre"),
        ("a an the", ""),
        ("«Straße»", "«straße»"),  # only ASCII punctuation, as in the script
        ("", ""),
    ],
)
def test_what_is_compared(answer: str, expected: str):
    assert normalised(answer) == expected


@pytest.mark.parametrize(
    ("answer", "gold", "exact", "f1"),
    [
        ("the cat", ["a cat"], 1, 1),
        ("black cat", ["cat"], 0, 2 / 3),
        ("cat cat", ["cat"], 0, 2 / 3),  # a word counts as often as it is in both
        ("dog", ["cat"], 0, 0),
        ("dog", ["cat", "the dog house"], 0, 2 / 3),  # the best of the gold answers
        ("", [], 1, 1),
        ("cat", [], 0, 0),
        ("", ["cat"], 0, 0),
        ("the", ["a"], 1, 1),  # nothing is left of either
    ],
)
def test_scores_by_hand(answer: str, gold: list[str], exact: float, f1: float):
    assert exact_match(answer, gold) == exact
    assert answer_f1(answer, gold) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("good", [Answer("good", 10, 14)]),
        ({"text": ["good"], "answer_start": [26]}, [Answer("good", 26, 30)]),
        (
            {"text": ["good", "beta"], "answer_start": np.array([26, 15])},
            [Answer("good", 26, 30), Answer("beta", 15, 19)],
        ),
        (["beta", "gamma"], [Answer("beta", 15, 19), Answer("gamma", 20, 25)]),
        ({"text": [], "answer_start": []}, []),
        (None, []),
        ("", []),
        ([], []),
        (float("nan"), []),
    ],
)
def test_forms_of_answers(given: object, expected: list[Answer]):
    assert read_answers("y", [given], [("who", TEXT)]) == [expected]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (["nobody"], ValueError, r"y\[0\]: 'nobody' does not stand anywhere in its text"),
        (
            [{"text": ["good"], "answer_start": [11]}],
            ValueError,
            r"y\[0\]: 'good' does not stand at character 11.*'ood '",
        ),
        ([{"text": ["good"], "answer_start": [99]}], ValueError, "at character 99 of its text: ''"),
        ([{"text": ["good"]}], ValueError, r"y\[0\]=.* lacks 'text' or 'answer_start'"),
        ([{"text": ["good"], "answer_start": []}], ValueError, r"y\[0\] has 1 texts and 0 places"),
        ([3], TypeError, r"y\[0\]=3 is of type int; pass a str, a dict of SQuAD's form, or None"),
        ([["good", 3]], TypeError, r"y\[0\]=.*pass a str"),
        (["good", "good"], ValueError, "y has 2 answers, X has 1 questions"),
        ("good", TypeError, "one str"),
    ],
)
def test_answers_that_do_not_fit(given, error: type, message: str):
    with pytest.raises(error, match=message):
        read_answers("y", given, [("who", TEXT)])


@pytest.mark.parametrize("stride", [0, 2])
def test_windows_hold_all_of_a_text_and_know_its_places(tiny: Path, stride: int):
    tokenizer = Tokenizer.from_pretrained(tiny)
    text = " ".join(["alpha", "beta", "gamma", "good"] * 9)
    rows = windows(tokenizer, [("who the", text), ("who", "good")], 14, stride)
    assert rows["sample"][-1] == 1 and set(rows["sample"][:-1]) == {0}
    seen = set()
    for ids, places, sample in zip(rows["input_ids"], rows["offsets"], rows["sample"], strict=True):
        assert len(ids) <= 14 and len(ids) == len(places)
        for token, (start, end) in zip(ids, places, strict=True):
            if start >= 0:
                assert (text, "good")[sample][start:end] == tokenizer.id_to_token(token)
                seen.add((sample, start))
    assert len(seen) == 9 * 4 + 1


def test_positions_of_an_answer():
    offsets = [(-1, -1), (-1, -1), (0, 3), (4, 9), (10, 14), (-1, -1)]
    assert positions_of(Answer("", 4, 14), offsets) == (3, 4)
    assert positions_of(Answer("", 5, 8), offsets) == (3, 3)  # inside a token: the token that holds it
    assert positions_of(Answer("", 10, 18), offsets) == (0, 0)  # cut by the end of the window
    assert positions_of(Answer("", 20, 22), offsets) == (0, 0)
    assert positions_of(None, offsets) == (0, 0)


def test_the_best_spans_are_the_best_of_all():
    random = np.random.default_rng(0)
    offsets = [(-1, -1), (-1, -1), *((3 * i, 3 * i + 2) for i in range(6)), (-1, -1)]
    for _ in range(20):
        logits = random.normal(size=(9, 2))
        every = [
            (logits[i, 0] + logits[j, 1], offsets[i][0], offsets[j][1])
            for i, j in itertools.product(range(2, 8), repeat=2)
            if 0 <= j - i < 3
        ]
        got = best_spans(logits, offsets, longest=3, count=4)
        assert got == [pytest.approx(one) for one in sorted(every, reverse=True)[:4]]


def test_a_window_without_text_has_no_span():
    assert best_spans(np.zeros((2, 2)), [(-1, -1), (-1, -1)], 3, 4) == []


@pytest.mark.parametrize("longest", [1, 2, 9])
def test_the_sums_of_spans_are_those_of_a_loop(longest: int):
    rng = np.random.default_rng(longest)
    start, end = rng.normal(size=(2, 6))
    sums = span_sums(start, end, longest)
    for i, j in itertools.product(range(6), repeat=2):
        assert sums[i, j] == (start[i] + end[j] if i <= j < i + longest else -np.inf)
