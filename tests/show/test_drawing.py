"""The drawing kit: well-formed pictures in the colours of the page."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from companion.show import colours
from companion.show.drawing import Drawing
from companion.show.plots import curves

SVG = "{http://www.w3.org/2000/svg}"


def drawn() -> ET.Element:
    drawing = Drawing(200, 100)
    drawing.box(0, 0, 50, 20, "a < b\nand c", colour="query", dashed=True)
    drawing.arrow(0, 0, 10, 0, bend=5)
    drawing.cells(0, 50, [["1", "2"]], strengths=[[0, 1]])
    drawing.link(0, 0, 10, 10, "page.html?a=1&b=2", 'says "this"')
    return ET.fromstring(drawing.picture("what & why")._repr_svg_())


def test_a_picture_is_well_formed_and_says_what_it_shows():
    root = drawn()
    assert root.attrib["aria-label"] == "what & why"
    assert root.attrib["role"] == "group"  # it holds a link
    assert 'role="img"' in Drawing(10, 10).picture("nothing").svg
    assert root.attrib["viewBox"] == "0 0 200 100"


def test_every_line_of_words_is_a_line():
    assert [span.text for span in drawn().iter(f"{SVG}tspan")][:2] == ["a < b", "and c"]


def test_colours_are_variables_with_something_to_fall_back_on():
    styles = [part.attrib["style"] for part in drawn().iter() if "style" in part.attrib]
    assert all("var(--show-" in style and "#" in style for style in styles)


def test_an_unknown_colour_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="'purple' is unknown; one of .*query"):
        colours.css("purple")


def test_a_plot_takes_the_same_colours_and_is_the_same_each_time():
    one, other = (curves({"mini": ([1, 2], [3, 4])}, x_label="x", y_label="y")._repr_svg_() for _ in range(2))
    assert one == other
    assert "var(--show-blue, #0072B2)" in one
    assert "#0072b2" not in one
    ET.fromstring(one)


@pytest.mark.parametrize(("width", "height", "radius"), [(80, 40, "6"), (24, 24, "6"), (12, 40, "3"), (40, 6, "1.5")])
def test_small_boxes_keep_straight_sides(width: float, height: float, radius: str):
    drawing = Drawing(100, 100)
    drawing.box(5, 5, width, height)
    drawing.plate(5, 5, width, height)
    assert drawing.picture("a box and a plate").svg.count(f'rx="{radius}"') == 2


def test_arrow_heads_are_defined_only_where_there_are_arrows():
    plain = Drawing(10, 10)
    plain.arrow(0, 0, 5, 5, head=False)
    assert "<defs>" not in plain.picture("a line")._repr_svg_()
    assert "<defs>" in ET.tostring(drawn(), encoding="unicode").replace("ns0:", "")
