"""The tables that a mask grid shows where no script runs."""

from __future__ import annotations

import json
from html import unescape

import numpy as np
import pytest

from companion.show.mask_grid import mask_grid

TOKENS = ["muddy", "river", "bank"]
SCORES = np.array([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [2.0, 4.0, 1.0]]) / np.sqrt(2)


def test_the_tables_hold_scores_and_weights_as_worked_on_paper():
    lines = mask_grid(SCORES, TOKENS).text.splitlines()
    assert lines[4].split() == ["bank", "1.41", "2.83", "0.71"]
    assert lines[-1].split() == ["bank", "0.178", "0.734", "0.088"]


def test_scores_of_any_size_give_weights():
    assert mask_grid([[1000.0, 1000.0], [-1000.0, -1000.0]], ["a", "b"]).text.split()[-2:] == ["0.500", "0.500"]


def test_the_element_holds_what_the_script_goes_on_with():
    html = mask_grid(SCORES, TOKENS).html
    data = json.loads(unescape(html.split("data-given='")[1].split("'")[0]))
    assert data == {"tokens": TOKENS, "scores": SCORES.tolist()}


@pytest.mark.parametrize("scores", [SCORES[:2], SCORES[0], SCORES[:, :2]])
def test_what_is_not_square_is_refused(scores):
    with pytest.raises(ValueError, match=r"scores=.*\(3, 3\)"):
        mask_grid(scores, TOKENS)
