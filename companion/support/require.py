"""Checks of arguments: each error names the argument, the value met and what is allowed."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Collection
from typing import Any, NoReturn


def require(name: str, value: Any, condition: bool, allowed: str) -> None:
    """Raise a ValueError that names the argument unless `condition` holds.

    Parameters
    ----------
    name : str
        The argument, as the caller wrote it.
    value : object
        What was passed.
    condition : bool
        Whether it is allowed.
    allowed : str
        What is, so that "it must be " can stand before it.

    Examples
    --------
    >>> require("dropout", 1.5, 0 <= 1.5 < 1, "a probability in [0, 1)")
    Traceback (most recent call last):
    ...
    ValueError: dropout=1.5 is not allowed; it must be a probability in [0, 1)
    """
    if not condition:
        refuse(name, value, allowed)


def refuse(name: str, value: Any, allowed: str) -> NoReturn:
    """Raise the ValueError of `require`."""
    raise ValueError(f"{name}={shortened(value)} is not allowed; it must be {allowed}")


def integer(name: str, value: Any, minimum: int | None = None, maximum: int | None = None) -> int:
    """Return `value` as an int; integers of NumPy and PyTorch are taken, a bool, a float or a str is refused.

    Parameters
    ----------
    name : str
        The argument, as the caller wrote it.
    value : object
        What was passed.
    minimum, maximum : int, optional
        The smallest and largest that are allowed.

    Raises
    ------
    ValueError
        If it is no integer, or out of range.
    """
    allowed = "an integer" + _bounds(minimum, maximum)
    if isinstance(value, bool) or type(value).__name__ == "bool":  # NumPy's is no subclass of Python's
        refuse(name, value, allowed)
    try:
        number = operator.index(value)
    except TypeError:
        refuse(name, value, allowed)
    require(name, value, (minimum is None or number >= minimum) and (maximum is None or number <= maximum), allowed)
    return number


def number(
    name: str,
    value: Any,
    condition: str = "",
    *,
    above: float | None = None,
    below: float | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
) -> float:
    """Return `value` as a finite float.

    Parameters
    ----------
    name : str
        The argument, as the caller wrote it.
    value : object
        What was passed: any real number, of Python, NumPy or PyTorch.
    condition : str
        What the error says is allowed; made from the limits by default.
    above, below : float, optional
        Limits that are not allowed themselves.
    minimum, maximum : float, optional
        Limits that are.

    Raises
    ------
    ValueError
        If it is no number, not finite, or out of range.
    """
    parts = [f"above {above:g}" if above is not None else "", f"at least {minimum:g}" if minimum is not None else ""]
    parts += [f"below {below:g}" if below is not None else "", f"at most {maximum:g}" if maximum is not None else ""]
    allowed = condition or " and ".join(["a number", *filter(None, parts)]).replace("number and", "number")
    real = isinstance(value, numbers.Real) or (hasattr(value, "item") and getattr(value, "ndim", None) == 0)
    if isinstance(value, bool) or not real:
        refuse(name, value, allowed)
    try:
        found = float(value)
    except (TypeError, ValueError):
        refuse(name, value, allowed)
    inside = (above is None or found > above) and (below is None or found < below)
    inside = inside and (minimum is None or found >= minimum) and (maximum is None or found <= maximum)
    require(name, value, inside and math.isfinite(found), allowed)
    return found


def choice(name: str, value: Any, allowed: Collection[Any]) -> None:
    """Raise a ValueError unless `value` is one of `allowed`."""
    known = any(value is one or (type(value) is type(one) and value == one) for one in allowed)
    require(name, value, known, f"one of {', '.join(map(repr, allowed))}")


def boolean(name: str, value: Any) -> bool:
    """Return `value`, Python's or NumPy's True or False, as a bool; anything else is refused.

    Raises
    ------
    ValueError
        If it is neither: a str such as "no" counts as true in Python.
    """
    require(name, value, type(value).__name__ in ("bool", "bool_"), "True or False")
    return bool(value)


def shortened(value: Any, length: int = 60) -> str:
    """Return the `repr` of a value, shortened to about `length` characters."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 4]} ..."


def _bounds(minimum: int | None, maximum: int | None) -> str:
    if minimum is not None and maximum is not None:
        return f" from {minimum} to {maximum}"
    if minimum is not None:
        return " above 0" if minimum == 1 else f" of at least {minimum}"
    return "" if maximum is None else f" up to {maximum}"
