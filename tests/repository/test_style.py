"""What STYLE asks of the code, where a program can see it."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "companion").rglob("*.py"))
LONGEST_FUNCTION = 40  # lines of signature and body, without docstring, comments and blank lines
LONGEST_FILE = 400
BANNER = re.compile(r"^\s*# ?[-=#]{3,}", re.MULTILINE)


def source(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def length(function: ast.FunctionDef, lines: list[str]) -> int:
    """Count the lines of a function that are code."""
    first = function.body[0]
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    skipped = range(first.lineno, first.end_lineno + 1) if has_docstring else ()
    code = (lines[n - 1].strip() for n in range(function.lineno, function.end_lineno + 1) if n not in skipped)
    return sum(bool(line) and not line.startswith("#") for line in code)


def lengths(path: str) -> dict[str, int]:
    text = source(path)
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name: length(function, text.splitlines()) for function in functions}


@pytest.mark.parametrize("path", FILES)
def test_functions_are_short(path: str):
    assert {name: lines for name, lines in lengths(path).items() if lines > LONGEST_FUNCTION} == {}


def test_most_functions_are_very_short():
    assert statistics.median(lines for path in FILES for lines in lengths(path).values()) < 9


@pytest.mark.parametrize("path", FILES)
def test_a_file_is_about_one_thing(path: str):
    assert len(source(path).splitlines()) <= LONGEST_FILE
    assert not BANNER.search(source(path)), "a file with banners wants to be two files"


@pytest.mark.parametrize("path", FILES)
def test_public_names_are_explained(path: str):
    tree = ast.parse(source(path))
    places = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_"))]
    kinds = (ast.FunctionDef, ast.ClassDef)
    public = [n for place in places for n in place.body if isinstance(n, kinds) and not n.name.startswith("_")]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def examples() -> list[doctest.DocTest]:
    finder, found = doctest.DocTestFinder(), []
    for path in FILES:
        if ">>> " in source(path):
            name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            found += [test for test in finder.find(importlib.import_module(name)) if test.examples]
    return found


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_examples_of_docstrings_hold(example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.DocTestRunner(optionflags=flags).run(example, out=(said := []).append)
    assert result.failed == 0, "".join(said)
    assert not any(doctest.SKIP in one.options for one in example.examples)
