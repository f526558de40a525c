"""A claim prints what holds and stops at what does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from companion.show.claims import claim


@pytest.mark.parametrize("holds", [True, 1, np.bool_(True), torch.tensor(True), torch.ones(1, 1) > 0])
def test_what_holds_is_printed_on_one_line(capsys: pytest.CaptureFixture, holds: object):
    claim("two and two are four", holds)
    assert capsys.readouterr().out == "✓ two and two are four\n"


@pytest.mark.parametrize("fails", [False, 0, None, np.bool_(False), torch.tensor(False), ""])
def test_what_does_not_hold_stops_the_page(capsys: pytest.CaptureFixture, fails: object):
    with pytest.raises(AssertionError, match="not so: two and two are five"):
        claim("two and two are five", fails)
    assert capsys.readouterr().out == ""


def test_several_truth_values_at_once_are_not_one_claim():
    with pytest.raises(RuntimeError, match="ambiguous"):
        claim("all are positive", torch.ones(3) > 0)
    with pytest.raises(ValueError, match="ambiguous"):
        claim("all are positive", np.ones(3) > 0)
