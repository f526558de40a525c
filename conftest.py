"""What the tests of notebooks need beyond nbval: numbers compared with a tolerance, and a limit on processor time.

nbval calls a notebook wrong when any character differs. A sum of floats may differ in its last digits between two
processors, so numbers with a decimal point or an exponent are compared with a relative tolerance of 1e-3 here; all
else, whole numbers included, must be equal.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from nbval.plugin import IPyNbCell

from browser import MISSING, chromium_program

RELATIVE_TOLERANCE = 1e-3
NOTEBOOK_SECONDS = 60.0
WITHIN = re.compile(r"(-?[\d,]+(?:\.\d+)?) \(to ([\d.e-]+)\)")  # what a claim prints of a measured value
DRAWN = ('<div class="show">', "<svg")  # what these say stands in the text beside them, which is compared
FLOAT = re.compile(r"([-+]?(?:\d+\.\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+))")


class ApproximateText(str):
    """Text equal to another when its floats are close and all between them is the same but for runs of blanks."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        mine, others = WITHIN.split(self), WITHIN.split(str(other))
        return (
            len(mine) == len(others)
            and all(map(same_but_for_rounding, mine[::3], others[::3]))
            and mine[2::3] == others[2::3]
            and all(map(within, mine[1::3], others[1::3], mine[2::3]))
        )

    def __ne__(self, other: object) -> bool:
        return not self == other


def same_but_for_rounding(text: str, other: str) -> bool:
    """Return whether the floats of two texts are close and the rest is the same but for runs of blanks."""
    mine, others = FLOAT.split(text), FLOAT.split(other)
    return len(mine) == len(others) and all(
        math.isclose(float(a), float(b), rel_tol=RELATIVE_TOLERANCE) if index % 2 else a.split() == b.split()
        for index, (a, b) in enumerate(zip(mine, others, strict=True))
    )


def within(number: str, other: str, tolerance: str) -> bool:
    """Return whether two numbers of claims are no further apart than the claim says, but for their own rounding."""
    apart = abs(float(number.replace(",", "")) - float(other.replace(",", "")))
    return apart <= 1.5 * float(tolerance)


def sanitize_approximately(cell: IPyNbCell, text: object, exact=IPyNbCell.sanitize) -> object:
    """Do what nbval does to an output before it compares it, and make the result compare with a tolerance."""
    if isinstance(text, str) and (drawn := text.startswith(DRAWN)):
        return drawn
    sanitized = exact(cell, text)
    return ApproximateText(sanitized) if isinstance(sanitized, str) else sanitized


IPyNbCell.sanitize = sanitize_approximately


def processor_seconds(cell: IPyNbCell) -> float:
    """Return the processor time that the kernel of `cell` and its finished children have used."""
    try:
        times = psutil.Process(cell.parent.kernel.km.provisioner.pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """Fail the cell with which a notebook passes its limit. Processor time, so that a busy machine fails nothing."""
    result = yield
    if isinstance(item, IPyNbCell):
        spent = processor_seconds(item)
        if spent > NOTEBOOK_SECONDS:
            used = f"{item.path.name} used {spent:.0f} s of processor time up to this cell"
            pytest.fail(f"{used}; {NOTEBOOK_SECONDS:.0f} s are allowed")
    return result


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str], None]:
    """Skip the test for want of something that the machine should have; on CI, where `CI` is set, fail it."""
    return pytest.fail if os.environ.get("CI") else pytest.skip


@pytest.fixture(scope="session")
def chromium(unavailable: Callable[[str], None]) -> Path:
    """The browser's program: `$CHROMIUM`, or one found on the path."""
    program = chromium_program()
    if program is None:
        unavailable(MISSING)
    return program
