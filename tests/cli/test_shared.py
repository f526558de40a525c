"""What all commands share: helps, the version, errors in one line."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

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


def test_warnings_are_lines_that_name_options(capsys: pytest.CaptureFixture[str]):
    log = logging.getLogger("companion.pretraining.vocabulary")
    before = list(logging.getLogger("companion").handlers)
    with errors({"limit_alphabet": "--limit-alphabet", "next_sentence": "--next-sentence"}):
        log.warning("raise limit_alphabet=%s (how many), or set next_sentence=False", 200)
        log.info("nothing of this is shown")
    assert capsys.readouterr().err == ("companion: raise --limit-alphabet 200 (how many), or set --no-next-sentence\n")
    assert logging.getLogger("companion").handlers == before


def test_a_warning_of_a_command_names_its_option(tmp_path: Path):
    lines = "\n\n".join(f"The cat sees the dog number {number}." for number in range(300))
    (tmp_path / "text.txt").write_text(lines, encoding="utf-8")
    options = ["--output", str(tmp_path / "run"), "--model", "tiny", "--vocab-size", "60", "--steps", "1"]
    shape = ["--batch-size", "2", "--max-tokens", "16", "--no-progress", "--precision", "fp32"]
    result = CliRunner().invoke(app, ["pretrain", str(tmp_path / "text.txt"), *options, *shape])
    assert result.exit_code == 0, result.output
    assert "companion: 100% of the documents have a single sentence" in result.stderr
    assert "or set --no-next-sentence\n" in result.stderr and "next_sentence=" not in result.output
