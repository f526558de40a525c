"""Imports point one way, down the data path: a module imports only what stands above it in CONTRIBUTING's drawing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "companion"
DRAWING = PACKAGE.parent / "CONTRIBUTING.md"
HEAVY = ("accelerate", "datasets", "matplotlib", "pandas", "sklearn", "transformers")
# Transformers is what the package is compared with; only the comparison may import it.
MAY_IMPORT_TRANSFORMERS = {"companion.studies.contenders"}


def modules() -> dict[str, Path]:
    """Map every module of the package to its file, `companion` itself apart."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found.pop("companion", None)
    return found


def imported(source: str, module: str, is_package: bool) -> Iterator[str]:
    """Yield the dotted name of every import in `source`, those inside functions included.

    `from a import b` yields "a.b", which names a module or something in the module "a".
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def drawn() -> list[str]:
    """Return the modules in the order of the drawing; a folder's own `__init__` stands after its modules."""
    (tree,) = re.findall(r"```text\ncompanion/\n(.*?)```", DRAWING.read_text(encoding="utf-8"), re.DOTALL)
    order, folder = [], ""
    for line in tree.splitlines():
        if match := re.match(r"  ([\w/]+)/( |$)", line):
            order += [folder] if folder else []
            folder = "companion." + match[1].replace("/", ".")
        elif match := re.match(r"  (\w+)\.py ", line):
            order.append(f"companion.{match[1]}")
        else:
            order += [f"{folder}.{name.removesuffix('.py')}" for name in line.split()]
    return [*order, folder, "companion.__main__"]


ORDER = drawn()


def stands(name: str) -> str | None:
    """Return the drawn module that `name` is, or in which it lies; None if there is none."""
    parts = name.split(".")
    return next((one for n in range(len(parts), 1, -1) if (one := ".".join(parts[:n])) in ORDER), None)


def upward(module: str, names: Iterator[str]) -> list[str]:
    """List the imports in `names` that do not stand above `module`, those from the root of the package included."""
    ours = [name for name in names if name.split(".")[0] == "companion"]
    place = ORDER.index(module)
    return [name for name in ours if (home := stands(name)) is None or ORDER.index(home) > place]


def depends(module: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Return the modules of `known` that `module` imports."""
    names = imported(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
    return {part for name in names for part in (name, name.rpartition(".")[0]) if part in known and part != module}


def test_the_drawing_shows_what_is_on_the_disk():
    assert sorted(ORDER) == sorted(modules())


@pytest.mark.parametrize("module", modules())
def test_module_imports_only_what_stands_above_it(module: str):
    path = modules()[module]
    names = imported(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
    assert upward(module, names) == []


@pytest.mark.parametrize("module", modules())
def test_only_the_comparison_imports_transformers(module: str):
    path = modules()[module]
    names = list(imported(path.read_text(encoding="utf-8"), module, path.name == "__init__.py"))
    if module not in MAY_IMPORT_TRANSFORMERS:
        assert [name for name in names if name.split(".")[0] == "transformers"] == []


def test_no_modules_import_each_other():
    known = modules()
    left = {name: depends(name, path, known) for name, path in known.items()}
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}, "these import each other in a circle, directly or through others"


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("companion.model.attention", "from companion.config import BertConfig", []),
        ("companion.model.attention", "from companion.model.heads import A", ["companion.model.heads.A"]),
        ("companion.model.attention", "def f():\n    import companion.cli.info", ["companion.cli.info"]),
        ("companion.model.attention", "from .heads import BertModel", ["companion.model.heads.BertModel"]),
        ("companion.model.attention", "from . import heads", ["companion.model.heads"]),
        ("companion.model.attention", "from companion import BertConfig", ["companion.BertConfig"]),
        ("companion.pretraining.run", "from .masking import mask\nfrom ..training.loop import train", []),
    ],
)
def test_the_reading_of_imports_sees_every_form(module: str, source: str, wrong: list[str]):
    assert upward(module, imported(source, module, is_package=False)) == wrong


def test_importing_the_package_is_light():
    code = f"import sys, companion; print([name for name in {HEAVY!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
