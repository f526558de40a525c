"""What nbval does not see: that every stored cell was executed, in order, cleanly, and that a notebook is whole."""

from __future__ import annotations

import ast
import os
import re
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

import lists
import notebooks

ROOT = Path(__file__).resolve().parents[2]

PATHS = notebooks.paths()
SECTIONS = ["Take-aways", "Exercises", "Solutions", "Further reading"]
MAX_LINES, MAX_WIDTH = 20, 88
FORBIDDEN = {
    "a warnings filter": r"warnings\.(filterwarnings|simplefilter|catch_warnings)|PYTHONWARNINGS|logging\.disable",
    "a timing magic": r"^\s*%%?time",
    "a shell command": r"^\s*!",
    "an nbval marker": r"NBVAL_|PYTEST_VALIDATE",
    "an output that is replaced": r"clear_output|display_id",
    "plt.show(): end the cell with the figure": r"\bplt\.show\(",
}
MACHINE = re.compile(
    rf"{re.escape(str(ROOT))}|{re.escape(os.path.expanduser('~'))}/|/home/|/Users/|/tmp/|\b0x[0-9a-f]{{6,}}"
)

NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?")
ROLE = re.compile(r"\{[a-z:]+\}`[^`]*`|\$[^$]*\$")  # references and formulas

CHAPTERS = [path for path in PATHS if path.name != "quiz.ipynb"]  # the quiz asks, and has nothing of its own to show
each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.relative_to(ROOT / "book").as_posix())

each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.relative_to(ROOT / "book").as_posix())


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def prose(path: Path) -> str:
    return "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def section(text: str, title: str) -> str:
    """Return what stands between the heading `## title` and the next one of that level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    return found.group(1) if found else ""


def numbers(text: str) -> set[str]:
    """Return the numbers in a text, without commas between thousands."""
    return {number.replace(",", "").rstrip(".") for number in NUMBER.findall(text)}


def output_text(output: nbformat.NotebookNode) -> str:
    """Return the text of an output in every form but pictures."""
    data = output.get("data", {})
    return output.get("text", "") + "".join(str(value) for kind, value in data.items() if not kind.startswith("image/"))


@each_notebook
def test_is_valid_and_in_its_stored_form(path: Path):
    notebook = read(path)
    nbformat.validate(notebook)
    stored = path.read_text(encoding="utf-8")
    assert nbformat.writes(notebooks.normalise(notebook)) + "\n" == stored, f"run make notebooks ONLY={path}"


@each_notebook
def test_every_code_cell_was_executed_in_order(path: Path):
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_outputs_are_clean(path: Path):
    for cell in code_cells(path):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", f"stderr under: {cell.source}\n{output.text}"
            assert not MACHINE.search(output_text(output)), f"a path or an address of this machine under: {cell.source}"


@each_notebook
def test_only_folding_tags_are_used(path: Path):
    tags = {tag for cell in read(path).cells for tag in cell.metadata.get("tags", [])}
    assert tags <= set(notebooks.TAGS)


@each_notebook
@pytest.mark.parametrize("what", FORBIDDEN)
def test_code_is_free_of(path: Path, what: str):
    assert [cell.source for cell in code_cells(path) if re.search(FORBIDDEN[what], cell.source, re.M)] == []


@each_notebook
def test_cells_are_short_and_narrow(path: Path):
    for cell in code_cells(path)[2:]:  # after the two that install and import
        lines = cell.source.splitlines()
        assert len(lines) <= MAX_LINES, f"{len(lines)} lines; at most {MAX_LINES}:\n{cell.source}"
        assert max(map(len, lines)) <= MAX_WIDTH, f"wider than {MAX_WIDTH}:\n{cell.source}"


@each_notebook
def test_begins_with_title_question_and_aim(path: Path):
    first = read(path).cells[0].source
    assert re.match(r"# \S", first)
    assert re.search(r"^\*\*Question\.\*\*.*\?", first, re.M | re.S)
    assert "**After this page you can**" in first


@each_notebook
def test_colab_cell_follows_the_title_and_imports_follow_it(path: Path):
    _, colab, imports, *_ = read(path).cells
    assert colab.source == notebooks.colab_cell().source
    assert imports.cell_type == "code"
    assert imports.source.rstrip().endswith("seed_everything(0)")


@each_notebook
def test_imports_only_what_the_package_installs(path: Path):
    """Or what an extra installs that the first cell of the page asks for."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    entries = [*project["dependencies"]]
    for extra in re.findall(r"bert-companion\[([\w-]+)\]", read(path).cells[0].source):
        entries += project["optional-dependencies"][extra]
    names = [re.match(r"[\w-]+", entry).group() for entry in entries]
    allowed = {"companion", "IPython", "pandas", *sys.stdlib_module_names}
    allowed |= {{"scikit-learn": "sklearn"}.get(name, name) for name in names}
    for cell in code_cells(path)[1:]:
        for node in ast.walk(ast.parse(cell.source)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in modules} <= allowed, cell.source


@each_chapter
@pytest.mark.parametrize("name", ["levels.txt", "seconds.txt"])
def test_its_level_and_its_seconds_are_listed(path: Path, name: str):
    assert lists.by_page(name)[path.relative_to(ROOT).with_suffix("").as_posix()].isdigit()


@each_chapter
def test_states_claims(path: Path):
    claims = [node for cell in code_cells(path)[1:] for node in ast.walk(ast.parse(cell.source)) if is_claim(node)]
    assert claims
    assert [ast.unparse(node) for node in claims if isinstance(what_is_checked(node), ast.Constant | None)] == []


def is_claim(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", None) == "claim"


def what_is_checked(claim: ast.Call) -> ast.expr | None:
    """Return the condition of a claim, or the value that it prints and the stored output is compared with."""
    named = {argument.arg: argument.value for argument in claim.keywords}
    return claim.args[1] if len(claim.args) > 1 else named.get("measured")


@each_notebook
def test_every_figure_has_a_caption_and_alternative_text(path: Path):
    for cell in code_cells(path):
        shown = cell.metadata.get("mystnb", {})
        pictures = sum(any(kind.startswith("image/") for kind in output.get("data", {})) for output in cell.outputs)
        drawn = "<Plot of" in "".join(map(output_text, cell.outputs))
        assert pictures <= 1, f"one figure a cell: {cell.source}"
        assert bool(pictures) == ("figure" in shown), f"a caption without a figure, or a figure without: {cell.source}"
        assert pictures or not drawn, f"drawn but not shown: {cell.source}"
        if pictures:
            assert len(shown["image"]["alt"]) >= 30
            assert len(shown["figure"]["caption"]) >= 20
            assert shown["figure"]["name"].startswith("fig-")


@each_notebook
def test_a_number_told_of_a_figure_stands_in_the_code_or_an_output_of_its_page(path: Path):
    """So that no caption and no alternative text outlives what it tells. 95% is the level of the intervals."""
    cells = code_cells(path)
    texts = [cell.source.replace("_", "") for cell in cells]
    texts += [output_text(output) for cell in cells for output in cell.outputs]
    known = {"95", *(number for text in texts for number in numbers(text))}
    for cell in cells:
        if shown := cell.metadata.get("mystnb", {}).get("figure"):
            assert numbers(ROLE.sub("", shown["caption"])) <= known
            assert numbers(cell.metadata["mystnb"]["image"]["alt"]) <= known | numbers(written_in_picture(cell))


def written_in_picture(cell: nbformat.NotebookNode) -> str:
    drawn = "".join(output.get("data", {}).get("image/svg+xml", "") for output in cell.outputs)
    return " ".join(re.findall(r">([^<]+)</t(?:ext|span)>", drawn))


def test_figure_names_are_unique():
    names = [
        cell.metadata["mystnb"]["figure"]["name"]
        for path in PATHS
        for cell in code_cells(path)
        if "figure" in cell.metadata.get("mystnb", {})
    ]
    assert sorted(names) == sorted(set(names))


@each_chapter
def test_ends_with_takeaways_exercises_solutions_and_reading(path: Path):
    text = prose(path)
    headings = re.findall(r"^## (.+)$", text, re.M)
    assert headings[-len(SECTIONS) :] == SECTIONS
    assert 3 <= len(re.findall(r"^[-*] ", section(text, "Take-aways"), re.M)) <= 5
    assert "{cite" in section(text, "Further reading")


@each_chapter
def test_every_exercise_has_a_solution(path: Path):
    text = prose(path)
    exercises = re.findall(r"^(\d+)\. ", section(text, "Exercises"), re.M)
    solutions = re.findall(r"^### Solution (\d+)$", section(text, "Solutions"), re.M)
    assert len(exercises) >= 2
    assert solutions == exercises == [str(number) for number in range(1, len(exercises) + 1)]
    assert any(cell.metadata.get("tags") == ["hide-cell"] for cell in code_cells(path)), "no solution runs"


def test_every_page_stands_in_the_table_of_contents():
    with open(ROOT / "_toc.yml", encoding="utf-8") as file:
        toc = yaml.safe_load(file)
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    sections = [section for chapter in chapters for section in chapter.get("sections", [])]
    listed = {entry["file"] for entry in chapters + sections} | {toc["root"]}
    markdown = [page for page in (ROOT / "book").rglob("*.md") if not page.parent.name.startswith("_")]
    pages = {page.relative_to(ROOT).with_suffix("").as_posix() for page in [*PATHS, *markdown]}
    assert listed == pages
