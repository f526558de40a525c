"""The public address of the repository: read it, or change it everywhere.

`make address URL=https://github.com/ORG/NAME` runs this.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLLOWERS = ("pyproject.toml", "_config.yml", "README.md")
ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]*\w")


def repository(root: Path = ROOT) -> str:
    """Return the address that `pyproject.toml` names, such as "https://github.com/ORG/NAME"."""
    with open(root / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]["urls"]["Repository"]


def pages(address: str) -> str:
    """Return where GitHub Pages serves the book of the repository at `address`."""
    organisation, name = address.removeprefix("https://github.com/").split("/")
    return f"https://{organisation}.github.io/{name}/"


def replace_address(text: str, old: str, new: str) -> str:
    """Return `text` with the repository `old`, and the pages it serves, replaced by `new`."""
    return text.replace(pages(old), pages(new)).replace(old, new)


def files_with_address(root: Path) -> list[Path]:
    """List every file in which the address stands: the fixed ones, and the pages of the book."""
    in_book = [path for suffix in ("*.md", "*.ipynb") for path in sorted((root / "book").rglob(suffix))]
    return [root / name for name in FOLLOWERS] + in_book


def change(new: str, root: Path = ROOT) -> list[Path]:
    """Replace the address in every file that carries it, and return the files that changed."""
    if not ADDRESS.fullmatch(new):
        raise SystemExit(f"URL={new!r} is no repository address; write https://github.com/ORG/NAME")
    old, changed = repository(root), []
    for path in files_with_address(root):
        before = path.read_text(encoding="utf-8")
        after = replace_address(before, old, new)
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    return changed


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python .ci/address.py https://github.com/ORG/NAME")
    for changed_path in change(sys.argv[1]):
        print(changed_path.relative_to(ROOT))
