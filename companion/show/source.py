"""Listings of the package: the code of a function as it runs, without what its page of the reference says better."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

COLUMNS, LINES = 88, 25


class Source:
    """The code of a function or class, shown in colour where it is a cell's value.

    Parameters
    ----------
    code : str
    name : str
        The full name, which leads to the reference.
    """

    def __init__(self, code: str, name: str) -> None:
        self.code, self.name = code, name

    def __repr__(self) -> str:
        """Return the code."""
        return self.code

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.code}\n```"


def show_source(thing: Callable[..., Any] | type) -> Source:
    """Show the code of a function, method or class without its docstrings and without indentation that it inherits.

    Parameters
    ----------
    thing : function, method or class
        Decorators stay; comments stay.

    Raises
    ------
    ValueError
        If a line is longer than 88 characters, which a page would clip, or there are more than 25 lines: show a part.

    Examples
    --------
    >>> from companion.model.attention import padding_mask
    >>> print(show_source(padding_mask).name)
    companion.model.attention.padding_mask
    """
    lines = textwrap.dedent(inspect.getsource(thing)).rstrip().split("\n")
    for first, last in reversed(_docstrings(ast.parse("\n".join(lines)))):
        del lines[first - 1 : last]
        while first - 1 < len(lines) and not lines[first - 1].strip():
            del lines[first - 1]
    name = f"{thing.__module__}.{thing.__qualname__}"
    if len(lines) > LINES or max(map(len, lines)) > COLUMNS:
        found = f"{len(lines)} lines of up to {max(map(len, lines))} characters"
        raise ValueError(f"{name} has {found}; a page takes {LINES} of {COLUMNS}: show a smaller function")
    return Source("\n".join(lines), name)


def _docstrings(tree: ast.Module) -> list[tuple[int, int]]:
    """Return the first and last line of every docstring, in the order of the file."""
    places = []
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.ClassDef)
            and ast.get_docstring(node) is not None
            and len(node.body) > 1
        ):
            places.append((node.body[0].lineno, node.body[0].end_lineno or node.body[0].lineno))
    return sorted(places)
