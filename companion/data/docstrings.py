"""A text that every reader has: the docstrings of the Python packages installed here, as running prose.

Modules are found and parsed as files and never imported.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sysconfig
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

_SKIPPED_FOLDERS = frozenset(
    """test tests testing _vendor vendor vendored _vendored site-packages dist-packages __pycache__ lib2to3 idlelib
    turtledemo node_modules""".split()
)


def installed_documents() -> Iterator[tuple[str, list[str]]]:
    """Yield (module name, paragraphs of prose) for each installed module whose docstrings hold any.

    The standard library and the site-packages of the running interpreter, without tests and vendored copies. The order
    is a fixed shuffle by the hash of the names, so that a prefix is a mixture of all packages. A paragraph that
    occurred before is left out.
    """
    seen: set[bytes] = set()
    for name, path in _modules():
        paragraphs = [text for text in module_paragraphs(path) if _is_new(text, seen)]
        if paragraphs:
            yield name, paragraphs


def installed_checksum() -> str:
    """Return a SHA-256 of the names and sizes of the modules that `installed_documents` reads."""
    lines = (f"{name} {path.stat().st_size}" for name, path in _modules())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def module_paragraphs(path: str | Path) -> list[str]:
    """Return the paragraphs of prose in the docstrings of one source file, in the order of the file.

    A file that this interpreter cannot decode or parse gives an empty list.
    """
    return [text for docstring in _docstrings(parsed(path)) for text in prose_paragraphs(docstring)]


def parsed(path: str | Path) -> ast.Module:
    """Return the syntax tree of a source file; an empty one if this interpreter cannot decode or parse it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # other people's invalid escapes
            return ast.parse(Path(path).read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return ast.Module(body=[], type_ignores=[])


def prose_paragraphs(docstring: str) -> list[str]:
    """Return the paragraphs of a docstring that read as prose, each as one line.

    Doctests and their output, parameter headings, underlines, tables, directives and literal blocks are dropped;
    reStructuredText and Markdown marks around words are removed. What is left is kept if it begins with a capital
    letter, ends with a full stop, question or exclamation mark, and has at least five words, most of letters.
    """
    lines = _without_literal_blocks(inspect.cleandoc(docstring))
    return [text for block in _blocks(lines) if _is_prose(text := _clean(block))]


def _modules() -> list[tuple[str, Path]]:
    """Return (dotted name, path) of the installed modules in the order of the hash of their names."""
    roots = {Path(sysconfig.get_path(kind)) for kind in ("stdlib", "purelib", "platlib")}
    found: dict[str, Path] = {}
    for root in sorted(roots):
        for path in _source_files(root):
            name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            found.setdefault(name, path)
    return sorted(found.items(), key=lambda item: hashlib.sha256(item[0].encode()).digest())


def _source_files(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        if entry.is_dir() and entry.name not in _SKIPPED_FOLDERS and not entry.is_symlink():
            yield from _source_files(entry)
        elif entry.suffix == ".py" and entry.is_file() and not entry.name.startswith("test_"):
            yield entry


def _docstrings(node: ast.AST) -> Iterator[str]:
    """Yield the docstrings of a module, its classes and functions, in the order of the source."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, (ast.Module, *kinds)):
        docstring = ast.get_docstring(node, clean=False)
        if docstring:
            yield docstring
    for part in ("body", "handlers", "orelse", "finalbody", "cases"):
        for statement in getattr(node, part, ()):
            yield from _docstrings(statement)


_CODE_DIRECTIVE = re.compile(
    r"\s*\.\.\s+(?:code|sourcecode|math|plot|test|doctest|ipython|jupyter|figure|image|table|list-table|csv-table|auto|toctree|"
    r"currentmodule|module|index|rubric|highlight|raw|only|parsed-literal|productionlist)[\w:-]*::"
)


def _without_literal_blocks(text: str) -> list[str]:
    """Return the lines outside fenced blocks and outside the blocks under code directives and "::"."""
    kept, fence, margin = [], None, None
    for line in text.splitlines():
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if fence or stripped.startswith(("```", "~~~")):
            fence = _next_fence(fence, stripped)
            continue
        if margin is not None and stripped and indent <= margin:
            margin = None
        if margin is not None:
            continue
        if _CODE_DIRECTIVE.match(line):
            margin = indent
        elif stripped.endswith("::"):
            margin = indent
            kept += [line.rstrip().removesuffix("::") + ".", ""]
        else:
            kept.append(line)
    return kept


def _next_fence(fence: str | None, line: str) -> str | None:
    """Return the mark that closes the fenced block in which the next line stands, None outside."""
    if fence is None:
        return line[:3] if line.count(line[:3]) == 1 else None
    return None if line.startswith(fence) else fence


_UNDERLINE = re.compile(r"\s*([-=~^\"'`*+#_.:])\1+\s*$")
_NO_PROSE = re.compile(
    r"""\s*(?: [-=~^"'`*+\#_.:|\s]{2,}$                             # rulers and table borders
        | [|+].*                                                   # table rows
        | \*{0,2}[\w.]+(?:,\s*\*{0,2}[\w.]+)*\s+:\s*\S.*$          # "name : type", numpydoc
        | \*{0,2}\w+\s*(?:\([^)]*\))?\s*:\s*$                       # "Args:", "name (type):"
        | \.\.\s.*                                                 # directives and comments
        | :(?:type|rtype|vartype)\b.*                              # field lists about types
        | @\w+.*)""",
    re.VERBOSE,
)
# "- item", "1. item", ":param name: text", "name (type): Text": the marker goes, the text begins a paragraph.
_ITEM = re.compile(
    r"\s*(?:[-*•+]\s+|\(?\d+[.)]\s+|:(?:param|parameter|arg|argument|raises?|returns?|return|ivar|cvar|keyword)\b[^:]*:"
    r"|\*{0,2}[\w`]+\s*(?:\([^)]*\))?\s*:\s+(?=[A-Z]))"
)


def _blocks(lines: list[str]) -> Iterator[str]:
    """Join lines into paragraphs; whatever is no prose separates them, and so does the beginning of a list item."""
    block: list[str] = []
    in_doctest = False
    for line, following in pairwise([*lines, ""]):
        item = _ITEM.match(line)
        in_doctest = bool(line.strip()) and (in_doctest or line.lstrip().startswith((">>>", "In [", "$ ")))
        heading = line.strip() and _UNDERLINE.match(following)
        separates = in_doctest or heading or not line.strip() or _NO_PROSE.match(line)
        if (separates or item) and block:
            yield "\n".join(block)
            block = []
        if not separates:
            block.append(line[item.end() :] if item else line)
    yield "\n".join(block)


_MARKUP = (
    (re.compile(r":(?:[\w+-]+:)*[\w+-]+:`~?([^`<]*?)(?:\s*<[^>]*>)?`"), r"\1"),  # :class:`~name`, :ref:`text <target>`
    (re.compile(r"`([^`<]+?)\s*<[^>`]*>`_{1,2}"), r"\1"),  # `text <url>`_
    (re.compile(r"`{1,3}([^`]+)`{1,3}_{0,2}"), r"\1"),
    (re.compile(r"\*\*([^*\s][^*]*)\*\*"), r"\1"),
    (re.compile(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])"), r"\1"),
    (re.compile(r"\[([^\]]+)\]\([^)]*\)"), r"\1"),  # [text](url)
    (re.compile(r"\s*\[\d+\]_?"), ""),  # footnote marks
    (re.compile(r"\s+"), " "),
)


def _clean(text: str) -> str:
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return text.strip()


def _is_prose(text: str) -> bool:
    words = text.split()
    if len(words) < 5 or not text[0].isupper() or text[-1] not in ".!?":
        return False
    letters = sum(map(str.isalpha, text))
    return letters >= 0.85 * (len(text) - len(words) + 1) and "::" not in text


def _is_new(text: str, seen: set[bytes]) -> bool:
    key = hashlib.blake2b(text.lower().encode(), digest_size=8).digest()
    if key in seen:
        return False
    seen.add(key)
    return True
