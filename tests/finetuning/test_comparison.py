"""Differences between two methods on the same texts, worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from companion.finetuning.comparison import compare, mcnemar, texts_needed


def answers(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which texts each of two methods has right."""
    one = np.repeat([True, True, False, False], [both, first, second, neither])
    other = np.repeat([True, False, True, False], [both, first, second, neither])
    return one, other


def test_mcnemar_by_hand():
    """Nine to two: of the 2,048 ways in which eleven coins fall, 1 + 11 + 55 have at most two on one side."""
    assert mcnemar(9, 2) == mcnemar(2, 9) == pytest.approx(2 * 67 / 2048)
    assert mcnemar(5, 0) == pytest.approx(2 / 32)
    assert mcnemar(6, 0) == pytest.approx(2 / 64)


def test_mcnemar_is_the_test_of_a_fair_coin():
    for first, second in ((0, 1), (3, 3), (30, 17), (210, 160)):
        assert mcnemar(first, second) == pytest.approx(binomtest(first, first + second).pvalue)


def test_where_no_text_differs_nothing_is_shown():
    assert mcnemar(0, 0) == 1.0
    found = compare([1, 0, 1], [1, 0, 1])
    assert found == (0.0, 0.0, 0.0, 0, 0, 1.0)


def test_only_texts_that_differ_count():
    few, many = (compare(*answers(both, 9, 2, 10)) for both in (10, 1000))
    assert few.p_value == many.p_value == mcnemar(9, 2)
    assert (many.first_ahead, many.second_ahead) == (9, 2)
    assert many.difference == pytest.approx(7 / 1021)


def test_the_interval_is_that_of_a_mean_of_differences():
    one, other = answers(200, 60, 30, 110)
    found = compare(one, other, draws=20_000)
    error = math.sqrt(90 - 30**2 / 400) / 400
    assert found.low == pytest.approx(0.075 - 1.96 * error, abs=0.003)
    assert found.high == pytest.approx(0.075 + 1.96 * error, abs=0.003)


def test_exchanged_the_difference_turns_round():
    one, other = answers(40, 12, 5, 20)
    there, back = compare(one, other), compare(other, one)
    assert back.difference == -there.difference
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=0.01)
    assert (back.first_ahead, back.second_ahead, back.p_value) == (5, 12, there.p_value)


def test_copies_of_a_text_make_nothing_surer_when_they_are_drawn_together():
    one, other = answers(20, 12, 4, 20)
    alone = compare(one, other)
    copied = compare(np.repeat(one, 4), np.repeat(other, 4), groups=np.repeat(np.arange(56), 4))
    fooled = compare(np.repeat(one, 4), np.repeat(other, 4))
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), abs=0.01)
    assert (copied.first_ahead, copied.second_ahead) == (12, 4)
    assert fooled.high - fooled.low == pytest.approx((alone.high - alone.low) / 2, rel=0.1)
    assert fooled.p_value < 0.001 < copied.p_value


def test_groups_of_unequal_size_leave_the_difference_as_it_is():
    one, other = [1, 1, 1, 0, 1], [0, 0, 1, 1, 1]
    found = compare(one, other, groups=["a", "a", "a", "b", "c"])
    assert found.difference == pytest.approx(1 / 5)
    assert (found.first_ahead, found.second_ahead) == (1, 1)


def test_random_signs_agree_with_mcnemar():
    one, other = answers(50, 14, 5, 30)
    flipped = compare(one, other, groups=range(99), draws=50_000)
    assert flipped.p_value == pytest.approx(mcnemar(14, 5), abs=0.005)


def test_scores_may_be_numbers():
    found = compare([0.5, 1.0, 0.25, 0.75], [0.25, 0.75, 0.0, 0.5])
    assert found.difference == found.low == found.high == 0.25
    assert found.p_value == pytest.approx(2 / 16, abs=0.03)


def test_a_test_with_nothing_to_find_finds_it_in_one_of_twenty_at_most():
    rng, shown = np.random.default_rng(0), 0
    for _ in range(400):
        one, other = rng.random((2, 100)) < 0.75
        shown += compare(one, other, draws=10).p_value < 0.05
    assert shown / 400 <= 0.05


def test_many_texts_are_drawn_in_parts(monkeypatch):
    one, other = answers(40, 12, 5, 20)
    whole = compare(one, other, draws=100)
    monkeypatch.setattr("companion.finetuning.comparison.CHUNK", 77)
    assert compare(one, other, draws=100) == whole


def test_texts_needed_by_hand():
    """z is 1.95996 and 0.84162: (1.95996 · √0.2 + 0.84162 · √(0.2 - 0.0025))² / 0.0025 = 625.55."""
    by_hand = (1.959964 * math.sqrt(0.2) + 0.841621 * math.sqrt(0.2 - 0.0025)) ** 2 / 0.0025
    assert by_hand == pytest.approx(625.55, abs=0.01)
    assert texts_needed(0.05, 0.2) == 626


def test_so_many_texts_find_it_four_times_in_five():
    rng, texts = np.random.default_rng(0), texts_needed(0.08, 0.2)
    counts = rng.multinomial(texts, [0.14, 0.06, 0.8], size=2000)
    found = np.mean([mcnemar(int(a), int(b)) < 0.05 for a, b, _ in counts])
    assert found == pytest.approx(0.8, abs=0.05)


def test_less_to_find_or_more_noise_takes_more_texts():
    assert texts_needed(0.02, 0.2) > 6 * texts_needed(0.05, 0.2)
    assert texts_needed(0.05, 0.3) > texts_needed(0.05, 0.2)
    assert texts_needed(0.05, 0.2, power=0.9) > texts_needed(0.05, 0.2)
    assert texts_needed(0.05, 0.2, confidence=0.99) > texts_needed(0.05, 0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare([], []), "first"),
        (lambda: compare([1, 0], [1]), "second=.*as long as first, which has 2 texts"),
        (lambda: compare([1, float("nan")], [1, 0]), "first"),
        (lambda: compare([[1], [0]], [[1], [0]]), "first"),
        (lambda: compare([1, 0], [0, 1], groups=["a"]), "groups=.*each of the 2 texts"),
        (lambda: compare([1, 0], [0, 1], confidence=1), "confidence"),
        (lambda: compare([1, 0], [0, 1], draws=0), "draws"),
        (lambda: compare([1, 0], [0, 1], random_state=-1), "random_state"),
        (lambda: mcnemar(-1, 2), "first_only"),
        (lambda: mcnemar(1, 2.5), "second_only"),
        (lambda: texts_needed(0, 0.2), "difference"),
        (lambda: texts_needed(0.1, 0.05), "disagreement=.*difference=0.1"),
        (lambda: texts_needed(0.1, 1.2), "disagreement"),
        (lambda: texts_needed(0.1, 0.2, power=1), "power"),
        (lambda: texts_needed(0.1, 0.2, confidence=0), "confidence"),
    ],
)
def test_what_cannot_be_compared_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
