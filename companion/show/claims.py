"""Claims: the sentences of the book that are asserted where they stand."""

from __future__ import annotations

import math
from typing import Any


def claim(statement: str, condition: object = True, *, measured: Any = None, within: float | None = None) -> None:
    """Assert `condition` and print `statement`, so that a page says nothing that its cell did not check.

    Parameters
    ----------
    statement : str
        A full sentence: what the reader is told.
    condition : object
        Its truth value decides; an array or tensor must hold exactly one value.
    measured : number, optional
        The value that the sentence is about; it is printed after the statement.
    within : float, optional
        How far the value may lie from the stored one on another machine, in its own unit. It decides how many digits
        are printed, and the tests of the notebooks compare with it. Needed if, and only if, `measured` is not whole.

    Raises
    ------
    AssertionError
        If the condition is false; the message is the statement.
    ValueError
        If `within` is missing for a value that is not whole, or given without a value.

    Examples
    --------
    >>> claim("The scores of mini are better than chance: AUC", 0.898 > 0.5, measured=0.898, within=0.02)
    ✓ The scores of mini are better than chance: AUC 0.90 (to 0.02)
    """
    shown = "" if measured is None and within is None else f" {value(measured, within)}"
    if not bool(condition):
        raise AssertionError(f"not so: {statement}{shown}")
    print(f"✓ {statement}{shown}")


def value(measured: Any, within: float | None = None) -> str:
    """Return `measured` as a claim prints it: rounded to what `within` leaves certain, and `within` behind it.

    >>> value(0.898, 0.02)
    '0.90 (to 0.02)'
    >>> value(1234567)
    '1,234,567'
    """
    if measured is None:
        raise ValueError(f"within={within} without measured; pass the value that the statement is about")
    number = float(measured)
    if within is None:
        if not number.is_integer():
            raise ValueError(f"measured={number} is not whole; pass within=, how far it may differ on another machine")
        return f"{int(number):,}"
    if not within > 0:
        raise ValueError(f"within={within} must be above 0: how far the value may differ on another machine")
    decimals = max(0, -math.floor(math.log10(within)))
    return f"{number:,.{decimals}f} (to {within:g})"
