"""The command line: what the commands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="BERT from the ground up: pre-train, fine-tune and use it.",
)
bench = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(bench, name="bench", help="Measure: speed beside Transformers, and what settings matter.")
Model = Annotated[str, typer.Option(help="A bundled name, a folder, or a hub id.")]
Device = Annotated[str | None, typer.Option(help="cuda, mps or cpu; the best there is by default.")]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same numbers.")]


@contextmanager
def errors() -> Iterator[None]:
    """Turn errors that a user can mend into one line on standard error and exit status 2."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        typer.echo(f"companion: {error}", err=True)
        raise typer.Exit(2) from None
