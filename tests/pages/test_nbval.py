"""How outputs of notebooks are compared: what `conftest.py` adds to nbval, seen on a notebook made for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NBVAL = ["--nbval", "--nbval-current-env", "--nbval-sanitize-with", str(ROOT / "tests" / "nbval.cfg")]
# code, what is stored as its output, and how the cell must end
CELLS = [
    ("print(1.00001)", "1.0\n", "PASSED"),
    ("print(1.01)", "1.0\n", "FAILED"),
    ("print(-0.0, 1e-5)", "0.0 1.0e-05\n", "PASSED"),
    ("print(2e-5)", "1e-05\n", "FAILED"),
    ("print(1000)", "1001\n", "FAILED"),
    ("print('[ 0.5  0.25]')", "[0.50001 0.25]\n", "PASSED"),
    ("print('three')", "four\n", "FAILED"),
    ("print('1.5 and 2.5')", "1.5\n", "FAILED"),
    ("print('AUC 0.91 (to 0.02)')", "AUC 0.89 (to 0.02)\n", "PASSED"),
    ("print('AUC 0.95 (to 0.02)')", "AUC 0.89 (to 0.02)\n", "FAILED"),
    ("print('AUC 0.90 (to 0.2)')", "AUC 0.90 (to 0.02)\n", "FAILED"),
    ("print('1,310 (to 20) of 7')", "1,305 (to 20) of 7\n", "PASSED"),
    ("print('1,310 (to 20) of 8')", "1,310 (to 20) of 7\n", "FAILED"),
    ("object()", "<object at 0x7f0000000000>", "PASSED"),
]


def notebook(cells: list[tuple[str, str, str]]) -> nbformat.NotebookNode:
    """Make a notebook whose cells have run already, with the outputs given."""
    made = nbformat.v4.new_notebook()
    for count, (code, stored, _) in enumerate(cells, start=1):
        cell = nbformat.v4.new_code_cell(code, execution_count=count)
        if code.startswith("print"):
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=stored)]
        else:
            data = {"text/plain": stored}
            cell.outputs = [nbformat.v4.new_output("execute_result", data=data, execution_count=count)]
        made.cells.append(cell)
    return made


def run(folder: Path, cells: list[tuple[str, str, str]], *plugins: str) -> str:
    """Run nbval over `cells` with the `conftest.py` of the project, and return what it printed."""
    nbformat.write(notebook(cells), folder / "cells.ipynb")
    command = [sys.executable, "-m", "pytest", "-rA", "--color=no", "-p", "no:cacheprovider", "-p", "conftest"]
    command += [part for name in plugins for part in ("-p", name)] + NBVAL + ["cells.ipynb"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """How each of `CELLS` ended."""
    printed = run(tmp_path_factory.mktemp("nbval"), CELLS)
    return {int(cell): ending for ending, cell in re.findall(r"^(PASSED|FAILED) \S+::Cell (\d+)", printed, re.M)}


@pytest.mark.parametrize("number", range(len(CELLS)), ids=[f"{code} against {stored!r}" for code, stored, _ in CELLS])
def test_outputs_are_compared_with_a_tolerance_for_floats_alone(endings: dict[int, str], number: int):
    assert endings[number] == CELLS[number][2]


def test_a_notebook_over_its_limit_fails(tmp_path: Path):
    (tmp_path / "impatient.py").write_text("import conftest\nconftest.NOTEBOOK_SECONDS = 0.0\n", encoding="utf-8")
    printed = run(tmp_path, [("print('quick')", "quick\n", "FAILED")], "impatient")
    assert re.search(r"cells\.ipynb used \d+ s of processor time up to this cell; 0 s are allowed", printed)
    assert "1 failed" in printed
