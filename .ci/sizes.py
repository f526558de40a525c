"""Print how many megabytes an installation of the package takes, and what each extra adds: `python .ci/sizes.py`.

Sizes are those of the files of the distributions installed beside this Python, without what pip compiles from them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


def wanted(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """Yield what a distribution requires here, with some of its extras."""
    for requirement in map(Requirement, distribution(name).requires or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield requirement


def closure(requirements: Iterable[Requirement]) -> set[str]:
    """Return the names of the distributions that an installation of `requirements` holds."""
    seen: set[tuple[str, frozenset[str]]] = set()
    left = [(one.name.lower().replace("_", "-"), frozenset(one.extras)) for one in requirements]
    while left:
        found = left.pop()
        if found in seen:
            continue
        seen.add(found)
        left += [(one.name.lower().replace("_", "-"), frozenset(one.extras)) for one in wanted(*found)]
    return {name for name, _ in seen}


def megabytes(names: Iterable[str]) -> float:
    """Return the size of the files of distributions."""
    files = [file.locate() for name in names for file in distribution(name).files or () if file.suffix != ".pyc"]
    return sum(Path(file).stat().st_size for file in files if Path(file).is_file()) / 1e6


def needed(project: dict, extra: str) -> list[Requirement]:
    """Return what an extra of the project stands for, the other extras that it names taken apart."""
    found = map(Requirement, project["optional-dependencies"][extra])
    ours = [(one, one.name == project["name"]) for one in found]
    inner = [part for one, own in ours if own for name in one.extras for part in needed(project, name)]
    return [one for one, own in ours if not own] + inner


def main() -> None:
    """Print the table."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = closure(map(Requirement, project["dependencies"]))
    torch = closure([Requirement("torch")])
    print(f"{'torch':<14}{megabytes(torch):>6.0f} MB")
    print(f"{'all without it':<14}{megabytes(base - torch):>6.0f} MB")
    for extra in project["optional-dependencies"]:
        try:
            added = closure(needed(project, extra)) - base
            print(f"[{extra}]".ljust(14) + f"{megabytes(added):>6.0f} MB")
        except PackageNotFoundError as error:
            print(f"[{extra}]".ljust(14) + f"{error} is not installed here")


if __name__ == "__main__":
    main()
