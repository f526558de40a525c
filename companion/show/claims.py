"""Claims: the sentences of the book that are asserted where they stand."""

from __future__ import annotations


def claim(statement: str, condition: object) -> None:
    """Assert `condition` and print `statement`, so that a page says nothing that its cell did not check.

    Parameters
    ----------
    statement : str
        What the reader is told. It carries no number that varies from run to run.
    condition : object
        Its truth value decides; an array or tensor must hold exactly one value.

    Raises
    ------
    AssertionError
        If the condition is false; the message is the statement.
    """
    if not bool(condition):
        raise AssertionError(f"not so: {statement}")
    print(f"✓ {statement}")
