"""What all commands share: helps, the version, errors in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from companion.cli import app
from companion.cli.shared import errors


def test_the_version_is_shown():
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0 and result.stdout.startswith("companion ")
    assert len(result.stdout.split()) >= 2


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "companion", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("companion ")


@pytest.mark.parametrize("group", [[], ["bench"]])
def test_no_summary_of_a_command_is_cut(group: list[str]):
    lines = CliRunner().invoke(app, [*group, "--help"]).stdout.splitlines()
    commands = lines[lines.index("Commands:") + 1 :]
    assert len(commands) >= 3
    assert [line for line in commands if not line.endswith(".") or line.endswith("...")] == []


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("epochs=0\n is not allowed"), 2, "companion: epochs=0 is not allowed"),
        (TypeError("X[0]=1 is of type int"), 2, "companion: X[0]=1 is of type int"),
        (FileNotFoundError("x was not found"), 2, "companion: x was not found"),
        (FloatingPointError("the loss is nan"), 2, "companion: the loss is nan"),
        (ModuleNotFoundError("no tensorboard"), 2, "companion: no tensorboard"),
        (OSError(), 2, "companion: OSError"),
        (KeyboardInterrupt("fit was stopped"), 130, "companion: fit was stopped"),
        (KeyboardInterrupt(), 130, "companion: interrupted"),
    ],
)
def test_errors_are_one_line_and_a_status(capsys, error: BaseException, status: int, line: str):
    with pytest.raises(typer.Exit) as caught, errors():
        raise error
    assert caught.value.exit_code == status
    assert capsys.readouterr().err == line + "\n"
