"""Arrows from keys to the output of one query."""

from __future__ import annotations

import pytest

from companion.show.arcs import arcs

TOKENS = ["muddy", "river", "bank"]


def test_what_it_says_holds_every_share():
    said = "bank becomes a mixture: 18% from muddy, 73% from river, 9% from bank"
    assert said in repr(arcs(TOKENS, [0.178, 0.734, 0.088], 2))


def test_arrows_are_as_wide_as_their_weights_and_none_is_drawn_for_almost_nothing():
    svg = arcs(TOKENS, [0.5, 0.495, 0.005], 0)._repr_svg_()
    widths = [float(part.split('"')[0]) for part in svg.split("stroke-width:")[1:]]
    assert widths == [6.5, 6.445]


def test_every_arrow_has_its_share_beside_it():
    svg = arcs(TOKENS, [0.09, 0.9, 0.01], 0)._repr_svg_()
    assert [f"{share}%</tspan>" in svg for share in (9, 90, 1)] == [True, True, False]


def test_a_weight_for_every_token():
    with pytest.raises(ValueError, match="weights=.*one for each of the 3 tokens"):
        arcs(TOKENS, [0.5, 0.5], 0)
