"""Matrices in a row: numbers as text and as shaded tables."""

from __future__ import annotations

import numpy as np

from companion.show.matrices import Matrix, matrices


def test_numbers_have_as_many_digits_as_they_need_up_to_four():
    assert Matrix("", [[1.0, 0.5, 2 / 3, -0.00001]]).texts() == [["1", "0.5", "0.6667", "0"]]


def test_decimals_can_be_asked_for():
    assert Matrix("", [[1.0, 2 / 3]], decimals=2).texts() == [["1.00", "0.67"]]


def test_text_aligns_rows_with_their_names():
    shown = matrices(Matrix("weights", [[0.25, 0.75], [1, 0]], ["a", "bank"], ["x", "y"]))
    assert repr(shown).splitlines() == ["weights", "         x     y", "   a  0.25  0.75", "bank     1     0"]


def test_a_vector_is_one_row():
    assert Matrix("v", np.array([1, 2, 3])).texts() == [["1", "2", "3"]]


def test_the_largest_value_is_shaded_most_and_negative_ones_are_not():
    html = Matrix("", [[4.0, 2.0, -4.0]]).html()
    assert [part.split("%")[0] for part in html.split("B2) ")[1:]] == ["60", "30", "0"]


def test_rows_that_measure_different_things_are_shaded_each_by_its_own_largest():
    html = Matrix("", [[1.0, 2.0], [100.0, 50.0]], by_row=True).html()
    assert [part.split("%")[0] for part in html.split("B2) ")[1:]] == ["30", "60", "60", "30"]


def test_zeros_do_not_divide_by_zero():
    assert "0%" in Matrix("", [[0.0]]).html()


def test_a_number_that_is_none_leaves_its_cell_empty_and_the_shades_of_the_others():
    shown = Matrix("m", [[float("nan"), 0.5]], decimals=2)
    assert shown.texts() == [["", "0.50"]]
    assert "60%" in shown.html()
    assert "nan" not in shown.html()
