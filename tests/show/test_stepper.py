"""The table that a stepper shows where no script runs."""

from __future__ import annotations

import json
import re
from html import unescape

import pytest

from companion.show.stepper import stepper

TOKENS = ["muddy", "river", "bank"]
QUERIES = [[1.0, 1.0], [2.0, 2.0], [1.0, 2.0]]
KEYS = [[0.0, 1.0], [0.0, 2.0], [-1.0, 1.0]]
VALUES = [[2.0, 0.0], [4.0, 0.0], [1.0, 2.0]]


def test_the_table_holds_every_step_as_worked_on_paper():
    text = stepper(QUERIES, KEYS, VALUES, TOKENS, query="bank", value_names=["water", "money"]).text
    rows = {name: numbers for name, *numbers in (re.split(r"\s{2,}", line.strip()) for line in text.splitlines())}
    assert rows["1 score q·k"] == ["2", "4", "1"]
    assert rows["3 exponential"] == ["4.1133", "16.9188", "2.0281"]
    assert rows["5 divided by the sum"] == ["0.1784", "0.7337", "0.0879"]
    assert "4 the sum of row 3 is 23.0602" in text
    assert text.splitlines()[-1].split() == ["3.3794", "0.1759"]


def test_the_element_holds_what_the_script_goes_on_with():
    html = stepper(QUERIES, KEYS, VALUES, TOKENS, query="river").html
    data = json.loads(unescape(html.split("data-given='")[1].split("'")[0]))
    assert data["keys"] == KEYS
    assert data["query"] == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"keys": KEYS[:2]}, r"keys=\(2, 2\).*\(3, 2\)"),
        ({"values": [[1.0]] * 3}, r"values=\(3, 1\).*\(3, 2\)"),
        ({"query": "shore"}, "query='shore'.*muddy"),
    ],
)
def test_what_does_not_fit_is_refused(changed, message):
    arguments = {"queries": QUERIES, "keys": KEYS, "values": VALUES, "tokens": TOKENS, "query": "bank"} | changed
    with pytest.raises(ValueError, match=message):
        stepper(**arguments)
