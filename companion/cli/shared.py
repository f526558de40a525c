"""The command line: what the commands share."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
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
Model = Annotated[str, typer.Option(help="A bundled name (mini), a folder, or a hub id.")]
Device = Annotated[str | None, typer.Option(help="cuda, mps or cpu; the best there is by default.")]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same numbers.")]
Progress = Annotated[bool, typer.Option(help="Show progress bars.")]


@contextmanager
def errors(options: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turn errors that a user can mend into one line on standard error and exit status 2, and Ctrl-C into one word.

    Warnings that the package logs become such lines too.

    Parameters
    ----------
    options : mapping, optional
        The options of the command by the argument that they set, which messages name.
    """
    log, handler = logging.getLogger("companion"), _Warnings(options or {})
    log.addHandler(handler)
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo(f"companion: {str(error) or 'interrupted'}", err=True)
        raise typer.Exit(130) from None
    except (ValueError, TypeError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        typer.echo(f"companion: {with_options(_one_line(error), options or {})}", err=True)
        raise typer.Exit(2) from None
    finally:
        log.removeHandler(handler)


class _Warnings(logging.Handler):
    """Prints warnings as `warn` does, with the options of the command in place of arguments."""

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(logging.WARNING)
        self.options = options

    def emit(self, record: logging.LogRecord) -> None:
        """Print a warning."""
        warn(with_options(record.getMessage(), self.options))


def with_options(message: str, options: Mapping[str, str]) -> str:
    """Return a message about arguments of Python with the options of the command that set them.

    Examples
    --------
    >>> with_options("folder='a' is taken; pass resume=True", {"folder": "--output", "resume": "--resume"})
    "--output 'a' is taken; pass --resume"
    >>> with_options("set pairs=False", {"pairs": "--pairs"})
    'set --no-pairs'
    """

    def option(match: re.Match[str]) -> str:
        name = options.get(match["name"])
        if name is None:
            return match[0]
        switch = {"True": name, "False": f"--no-{name.removeprefix('--')}"}
        return switch.get(match["value"], f"{name} {match['value']}")

    return re.sub(r"(?<![\w.-])(?P<name>[a-z_]+)=(?P<value>True|False|)", option, message).replace("  ", " ")


def warn(message: str) -> None:
    """Print a line on standard error."""
    typer.echo(f"companion: {message}", err=True)


def own_version() -> str:
    """Return the version of the package, or that it is run from a checkout."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("bert-companion")
    except PackageNotFoundError:
        return "run from a checkout"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"companion {own_version()}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take what comes before the command."""
