"""Figures are tested by the data in their axes, not by their pixels."""

from __future__ import annotations

import re

import matplotlib
import matplotlib.pyplot as plt

matplotlib.use("Agg")

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.show import plots

whole = st.integers(-5, 5)
places = st.lists(st.tuples(whole, whole), min_size=1, max_size=12)


def test_hull_of_a_square_leaves_out_what_lies_inside_or_on_a_side():
    square = [(0, 0), (2, 0), (2, 2), (0, 2)]
    corners = plots.convex_hull([(1, 1), *square, (1, 0), (2, 1)]).tolist()
    assert sorted(map(tuple, corners)) == sorted(square)


@pytest.mark.parametrize("points", [[(1, 1)], [(1, 1), (1, 1)]])
def test_hull_of_one_point_is_the_point(points):
    assert plots.convex_hull(points).tolist() == [[1, 1]]


def test_hull_of_points_on_a_line_is_its_ends():
    assert plots.convex_hull([(0, 0), (2, 2), (1, 1)]).tolist() == [[0, 0], [2, 2]]


@given(places)
def test_every_point_lies_to_the_left_of_every_side_of_its_hull(points):
    corners = plots.convex_hull(points)
    sides = np.roll(corners, -1, axis=0) - corners
    offsets = np.array(points)[:, None] - corners  # (points, sides, 2)
    assert (sides[:, 0] * offsets[..., 1] - sides[:, 1] * offsets[..., 0] >= 0).all()


def test_points_shades_the_hull_of_the_group_that_is_named():
    groups = {"values": [(0, 0), (2, 0), (0, 2), (0.5, 0.5)], "outputs": [(9, 9)]}
    axes = plots.points(groups, x_label="x", y_label="y", hull="values").axes[0]
    (shade,) = axes.patches
    assert {tuple(corner) for corner in shade.get_xy()} == {(0, 0), (2, 0), (0, 2)}
    assert "convex hull of values" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_groups_of_points_share_a_colour_where_they_are_told_to():
    groups = {"a": [(0, 0)], "b": [(1, 0)], "c": [(2, 0)]}
    shared = {"a": "green", "b": "orange", "c": "green"}
    drawn = plots.points(groups, x_label="x", y_label="y", colours=shared).axes[0].collections
    first, second, third = (tuple(dots.get_facecolor()[0]) for dots in drawn)
    assert first == third != second


def test_points_draws_no_hull_unless_asked():
    assert not plots.points({"values": [(0, 0), (1, 0), (0, 1)]}, x_label="x", y_label="y").axes[0].patches


def test_dot_products_writes_each_score_and_draws_its_line_across_the_query():
    query, keys = np.array([1.0, 2.0]), [(0, 1), (0, 2), (-1, 1)]
    names = {"query_name": "query of c", "x_label": "x", "y_label": "y"}
    axes = plots.dot_products(query, keys, ["a", "b", "c"], **names).axes[0]
    assert [text.get_text() for text in axes.texts] == ["a: 2", "b: 4", "c: 1"]
    for line, key in zip(axes.lines, keys, strict=True):
        start, end = (np.array(point) for point in (line.get_xy1(), line.get_xy2()))
        assert (start == key).all()
        assert (end - start) @ query == 0


def test_dot_products_needs_a_name_for_every_key():
    with pytest.raises(ValueError):
        plots.dot_products([1, 2], [(0, 1), (0, 2)], ["a"], query_name="q", x_label="x", y_label="y")


def test_dot_plot_puts_every_value_on_the_row_of_its_name():
    figure = plots.dot_plot({"a": {"first": 0.1, "second": 0.2}, "b": {"second": 0.9, "third": 0.3}}, x_label="share")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second", "third"]
    drawn = {dots.get_label(): dots.get_offsets().tolist() for dots in axes.collections if dots.get_label() in "ab"}
    assert drawn == {"a": [[0.1, 0], [0.2, 1]], "b": [[0.9, 1], [0.3, 2]]}
    assert axes.yaxis_inverted()


def test_five_series_with_intervals_get_higher_rows_and_markers_that_cover_no_other():
    values = {name: {"one": i, "two": i} for i, name in enumerate("abcde")}
    intervals = {name: {row: (x - 1, x + 1) for row, x in rows.items()} for name, rows in values.items()}
    five = plots.dot_plot(values, x_label="share", intervals=intervals)
    four = plots.dot_plot({name: values[name] for name in "abcd"}, x_label="share", intervals=intervals)
    assert five.get_size_inches()[1] > four.get_size_inches()[1]
    marks = [drawn for drawn in five.axes[0].collections if drawn.get_label() in values]
    assert {float(drawn.get_sizes()[0]) for drawn in marks} == {40.0} and len(marks) == 5


def test_dot_plot_sets_series_with_intervals_apart_and_draws_each_through_its_marker():
    values = {"a": {"row": 0.2, "next": 0.4}, "b": {"row": 0.5}}
    intervals = {"a": {"row": (0.1, 0.3), "next": (0.4, 0.6)}, "b": {"row": (0.2, 0.9)}}
    axes = plots.dot_plot(values, x_label="share", intervals=intervals).axes[0]
    dots = {drawn.get_label(): drawn.get_offsets().tolist() for drawn in axes.collections if drawn.get_label() in "ab"}
    assert dots == {"a": [[0.2, -0.125], [0.4, 0.875]], "b": [[0.5, 0.125]]}
    paths = [path.vertices.tolist() for drawn in axes.collections[1:] for path in drawn.get_paths()]
    lines = [vertices for vertices in paths if len(vertices) == 2]
    assert [[0.4, 0.875], [0.6, 0.875]] in lines and [[0.2, 0.125], [0.9, 0.125]] in lines


def test_legend_of_curves_can_stand_outside_the_axes():
    series = {"a": ([0, 1], [0, 1]), "b": ([0, 1], [1, 0])}
    inside = plots.curves(series, x_label="x", y_label="y")
    outside = plots.curves(series, x_label="x", y_label="y", legend_outside=True)
    assert inside.axes[0].get_legend() is not None and inside.legends == []
    assert outside.axes[0].get_legend() is None
    assert [text.get_text() for text in outside.legends[0].get_texts()] == ["a", "b"]


@pytest.mark.parametrize("outside", [False, True])
def test_points_names_its_groups_inside_or_outside_the_axes(outside):
    drawn = plots.points({"a": [(0, 0)], "b": [(1, 1)]}, x_label="x", y_label="y", legend_outside=outside)
    legend = drawn.legends[0] if outside else drawn.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]


@pytest.mark.parametrize(("x", "whole"), [(range(3), True), ([0.0, 1.0, 2.0], False)])
def test_curves_over_whole_numbers_have_ticks_at_whole_numbers(x, whole):
    axes = plots.curves({"a": (x, [1, 2, 3])}, x_label="layer", y_label="y").axes[0]
    assert all(tick % 1 == 0 for tick in axes.get_xticks()) == whole


def test_the_number_in_a_dark_cell_is_light_on_every_page():
    names = {"rows": ["a"], "columns": ["x", "y"], "row_label": "", "column_label": "", "value_label": ""}
    svg = plots.heat_map([[1, 2.5]], **names)._repr_svg_()
    assert (
        re.search(r"fill: #fefefe[^>]*>1\.00<", svg)
        and "--show-paper" not in svg.split(">1.00<")[0].rsplit("<text", 1)[1]
    )


def test_heat_map_writes_numbers_texts_or_nothing_into_its_cells():
    names = {"rows": ["a"], "columns": ["x", "y"], "row_label": "", "column_label": "", "value_label": "v"}

    def written(**options):
        return [text.get_text() for text in plots.heat_map([[1, 2.5]], **names, **options).axes[0].texts]

    assert written() == ["1.00", "2.50"]
    assert written(decimals=None) == []
    assert written(texts=[["left", "right"]]) == ["left", "right"]


def test_a_figure_is_closed_after_an_error_too():
    before = plt.get_fignums()
    with pytest.raises(RuntimeError), plots.figure():
        raise RuntimeError
    assert plt.get_fignums() == before


def test_numbers_that_are_read_keep_all_their_digits():
    svg = plots.curves({"0.0176": ([0, 1], [0.1234567, 2])}, x_label="3.14159", y_label="y")._repr_svg_()
    assert ">3.14159<" in svg
    assert not re.search(r'="[^"<>]*\d\.\d{3}', svg.replace("viewBox", ""))


def test_stacked_bars_lay_the_parts_of_a_row_end_to_end():
    axes = plots.stacked_bars({"a": {"x": 90, "y": 10}, "b": {"x": 3, "z": 97}}, x_label="%").axes[0]
    ends = [[(bar.get_x(), bar.get_width()) for bar in part] for part in axes.containers]
    assert ends == [[(0, 90), (0, 3)], [(90, 10), (3, 0)], [(100, 0), (3, 97)]]
    assert [text.get_text() for text in axes.texts] == ["90", "", "10", "", "", "97"]
