"""Checks of arguments, and what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from companion.support.require import boolean, choice, integer, number


@pytest.mark.parametrize("value", [4, np.int64(4), np.uint8(4), torch.tensor(4)])
def test_integers_of_every_library_are_taken(value):
    assert integer("batch_size", value, minimum=1) == 4 and type(integer("batch_size", value)) is int


@pytest.mark.parametrize("value", [0, -1, 4.0, "4", None, True, np.bool_(True), np.float64(4), torch.tensor([4, 4])])
def test_what_is_no_integer_in_range_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^batch_size=.* is not allowed; it must be an integer above 0$"):
        integer("batch_size", value, minimum=1)


@pytest.mark.parametrize(
    ("minimum", "allowed"),
    [(0, "of at least 0"), (1, "above 0"), (2, "of at least 2"), (3, "of at least 3"), (-1, "of at least -1")],
)
def test_the_smallest_integer_is_named(minimum: int, allowed: str):
    assert integer("stride", minimum, minimum) == minimum
    with pytest.raises(ValueError, match=f"stride={minimum - 1} is not allowed; it must be an integer {allowed}$"):
        integer("stride", minimum - 1, minimum)


def test_both_bounds_are_named():
    with pytest.raises(ValueError, match="max_length=513 is not allowed; it must be an integer from 3 to 512"):
        integer("max_length", 513, minimum=3, maximum=512)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), torch.tensor(0.5)])
def test_numbers_of_every_library_are_taken(value):
    assert number("dropout", value, minimum=0, below=1) == 0.5


@pytest.mark.parametrize("value", [1, -0.1, float("nan"), float("inf"), "0.5", None, True, [0.5], 1j])
def test_what_is_no_number_in_range_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^dropout=.* is not allowed; it must be a number at least 0 and below 1$"):
        number("dropout", value, minimum=0, below=1)


def test_a_choice_is_of_its_own_type():
    choice("padding", True, ("longest", True))
    with pytest.raises(ValueError, match="padding=1 is not allowed; it must be one of 'longest', True"):
        choice("padding", 1, ("longest", True))


def test_a_word_is_no_truth_value():
    assert boolean("from_scratch", np.bool_(True)) is True
    with pytest.raises(ValueError, match="from_scratch='no' is not allowed; it must be True or False"):
        boolean("from_scratch", "no")


def test_a_long_value_is_shortened():
    with pytest.raises(ValueError, match=r"^epochs='a{50,60} \.\.\. is not allowed"):
        integer("epochs", "a" * 10_000)
