"""What callers put texts and labels into: lists, generators, arrays, tensors, columns of pandas and of data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from companion.support.require import shortened


def as_list(name: str, values: Any) -> list[Any]:
    """Return the items in their order, as Python's own values.

    Parameters
    ----------
    name : str
        The argument, as the caller wrote it.
    values : iterable
        A list, tuple, generator, `zip`, NumPy array, tensor, pandas Series with any index, rows of a DataFrame, or a
        column of a data set. Items of NumPy and PyTorch become numbers and str of Python.

    Raises
    ------
    TypeError
        If it is one str, a mapping, a set (which has no order) or not iterable.
    """
    if isinstance(values, str | bytes):
        raise TypeError(
            f"{name}={shortened(values)} is one {type(values).__name__}; pass a list, also of one item: [item]"
        )
    if not isinstance(values, Iterable) and hasattr(values, "__array__"):
        values = values.__array__()
    if isinstance(values, Mapping) or not (isinstance(values, Iterable) or hasattr(values, "tolist")):
        raise TypeError(f"{name} is of type {type(values).__name__}; pass a list, an array, a Series or a column")
    if isinstance(values, set | frozenset):
        raise TypeError(f"{name} is a set, which has no order; pass a list")
    if hasattr(values, "detach"):  # a tensor, wherever it lies
        values = values.detach().cpu()
    if hasattr(values, "to_numpy") and not hasattr(values, "tolist"):  # a DataFrame, whose items are its rows
        values = values.to_numpy()
    items = values.tolist() if hasattr(values, "tolist") else list(values)
    if not isinstance(items, list):
        raise TypeError(f"{name}={shortened(items)} is one item; pass a list, also of one item: [item]")
    return [plain(item) for item in items]


def plain(item: Any) -> Any:
    """Return a number or str of NumPy or PyTorch as Python's own; anything else unchanged, rows as lists."""
    if hasattr(item, "detach"):
        item = item.detach().cpu()
    return item.tolist() if hasattr(item, "tolist") and hasattr(item, "dtype") else item


def is_missing(item: Any) -> bool:
    """Return whether an item stands for no value: None, NaN, or the NA and NaT of pandas."""
    if item is None or type(item).__name__ in ("NAType", "NaTType"):
        return True
    try:
        return bool(item != item)
    except (TypeError, ValueError):  # an array of several items has no one truth value
        return False


def as_texts(name: str, values: Any) -> list[str]:
    """Return the texts as a list of str.

    Raises
    ------
    TypeError
        As in `as_list`, and if an item is missing or no str; names its index.
    """
    items = as_list(name, values)
    for index, item in enumerate(items):
        if is_missing(item):
            raise TypeError(f"{name}[{index}]={item!r} is missing; drop it, or put a text (such as '') in its place")
        if not isinstance(item, str):
            kind = type(item).__name__
            raise TypeError(f"{name}[{index}]={shortened(item)} is of type {kind}; it must be a str")
    return items
