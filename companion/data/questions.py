"""Questions and answers from the documentation of Python packages."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from companion.data.docstrings import parsed, prose_paragraphs

# Modules of the standard library that are the same on every system: what the bundled questions are asked about.
PYTHON_MODULES = tuple(
    """builtins bisect collections contextlib copy csv datetime difflib fnmatch fractions functools getpass glob gzip
    heapq html itertools json math pathlib pickle platform pprint queue random re secrets shlex shutil statistics
    string subprocess tempfile textwrap threading time traceback unicodedata urllib.parse urllib.request uuid
    warnings webbrowser zipfile""".split()
)
Pair = tuple[str, str]  # a question, or something like one, and the text that answers it


def documented(modules: Iterable[str]) -> dict[str, str]:
    """Return the first paragraph of prose in the documentation of all that modules make public, by name.

    Functions and classes of every module, then the methods of its classes; exceptions are left out, and so is what has
    the same text as something before it. The names are those under which they are used: `"math.ceil"`, `"str.strip"`.

    Parameters
    ----------
    modules : iterable of str
        They are imported. Public is what `__all__` lists or, without it, what the module defines under a name that
        does not begin with an underscore.
    """
    names: dict[str, str] = {}  # text -> name
    for module in modules:
        for name, item in _public(importlib.import_module(module)):
            if text := _first_paragraph(item):
                names.setdefault(text, f"{module}.{name}".removeprefix("builtins."))
    return {name: text for text, name in names.items()}


def docstring_pairs(folders: Iterable[str | Path] | None = None) -> list[Pair]:
    """Make pairs for `tune` of the docstrings in source files, which are read and not imported.

    The name of a function or class, as words, goes with the first sentence of its docstring: ("copy tree", "Recursively
    copy a directory tree ..."). A name of one word says too little and is left out.

    Parameters
    ----------
    folders : iterable of str or Path, optional
        Searched with their subfolders, but for tests and installed packages. None is the standard library.
    """
    folders = [sysconfig.get_path("stdlib")] if folders is None else folders
    files = (file for folder in folders for file in _source_files(Path(folder)))
    pairs = ((_as_words(name), _first_sentence(docstring)) for file in files for name, docstring in _docstrings(file))
    return [(name, sentence) for name, sentence in pairs if sentence and " " in name]


def _public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    listed = getattr(module, "__all__", None)
    names = listed or [name for name, item in vars(module).items() if _is_own(name, item, module)]
    items = {name: getattr(module, name) for name in sorted(names)}
    yield from items.items()
    for name, item in items.items():
        if inspect.isclass(item) and not issubclass(item, BaseException):
            yield from ((f"{name}.{part}", getattr(item, part)) for part in sorted(vars(item)) if part[0] != "_")


def _is_own(name: str, item: Any, module: ModuleType) -> bool:
    home = getattr(item, "__module__", None) or module.__name__
    return not name.startswith("_") and home.lstrip("_") == module.__name__  # `bisect.bisect` is of "_bisect"


def _first_paragraph(item: Any) -> str:
    """Return the first paragraph of prose in the docstring of a function or class, "" for other things."""
    is_exception = inspect.isclass(item) and issubclass(item, BaseException)
    docstring = getattr(item, "__doc__", None)
    if not callable(item) or is_exception or not isinstance(docstring, str):
        return ""
    return next(iter(prose_paragraphs(docstring)), "")


_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "__pycache__"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


def _source_files(folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*.py") if not _SKIPPED & set(file.relative_to(folder).parts))
    return sorted(files)


def _docstrings(file: Path) -> Iterator[tuple[str, str]]:
    """Yield (name, docstring) of the functions and classes in a source file; nothing if it cannot be parsed."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if docstring := ast.get_docstring(node, clean=False):
                yield node.name, docstring


def _as_words(name: str) -> str:
    return " ".join(_WORD.findall(name)).lower()


def _first_sentence(docstring: str) -> str:
    return _SENTENCE_END.split(next(iter(prose_paragraphs(docstring)), ""))[0]
