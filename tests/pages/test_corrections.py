"""The table in front of the corrections: exactly the errors of the pages, each with a link and a test that exist."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "book" / "corrections"
KINDS = ["breaks", "slows", "silent", "said"]
ROW = re.compile(r"^\| (\S+) \| \[(.+?)\]\(([^)]+)\) \|.*\|(.*)\|$", re.M)


def prose(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def all_rows() -> list[tuple[str, str, str, str]]:
    """Return kind, name, link and last cell of every row of the table of all errors."""
    return ROW.findall((FOLDER / "index.md").read_text(encoding="utf-8"))


def pages() -> list[Path]:
    """Return the pages of the part in the order of the table of contents."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    (part,) = [part for part in toc["parts"] if part["caption"] == "Corrections"]
    files = [ROOT / f"{chapter['file']}.ipynb" for chapter in part["chapters"]]
    return [file for file in files if file.exists()]


def errors_of(page: Path) -> list[tuple[str, str, str]]:
    """Return mark, name and link (seen from the folder) of the rows of the table of errors of a page."""
    rows = [row[:3] for row in ROW.findall(prose(page)) if len(row[0]) == 1]
    return [(mark, name, page.name + link if link.startswith("#") else link) for mark, name, link in rows]


@cache
def anchors(page: Path) -> set[str]:
    """Return what links to the headings of a page end in."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@cache
def known_tests() -> set[str]:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    return {name for text in texts for name in re.findall(r"^def (test_\w+)", text, re.M)}


def test_the_table_has_exactly_the_errors_of_the_pages():
    assert len(pages()) == len(list(FOLDER.glob("*.ipynb")))
    listed = [(name, link) for _, name, link, _ in all_rows()]
    assert len(listed) == len(set(listed))
    assert set(listed) == {error[1:] for page in pages() for error in errors_of(page)}


def test_it_is_sorted_by_what_you_notice_and_says_how_many_of_each_there_are():
    kinds = [kind for kind, *_ in all_rows()]
    assert kinds == sorted(kinds, key=KINDS.index)
    told = re.findall(r"^- \*\*(\w+)\*\* \((\d+)\)", (FOLDER / "index.md").read_text(encoding="utf-8"), re.M)
    assert told == [(kind, str(kinds.count(kind))) for kind in KINDS]


def test_what_only_wastes_work_is_marked_so_on_its_page_too():
    slow = {link for page in pages() for mark, _, link in errors_of(page) if mark == "▣"}
    assert {link for kind, _, link, _ in all_rows() if kind == "slows"} == slow


@pytest.mark.parametrize("link", sorted({link for _, _, link, _ in all_rows()}))
def test_every_link_leads_to_a_heading(link: str):
    file, _, anchor = link.partition("#")
    assert anchor in anchors((FOLDER / file).resolve())


def test_every_error_names_a_test_that_exists():
    named = {name: re.findall(r"`(test_\w+)`", last) for _, name, _, last in all_rows()}
    assert [name for name, found in named.items() if not found] == []
    assert {test for found in named.values() for test in found} <= known_tests()


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_every_test_that_a_page_names_exists(page: Path):
    assert set(re.findall(r"`(test_\w+)`", prose(page))) <= known_tests()
