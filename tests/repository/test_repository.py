"""What holds the repository together: one address, one set of requirements, a whole wheel, a full reference."""

from __future__ import annotations

import ast
import email
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import address

ROOT = Path(__file__).resolve().parents[2]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
IMPORTED_AS = {"scikit-learn": "sklearn"}  # distributions whose module has another name
OPTIONAL = {
    "companion.finetuning.adapters": "adapters",
    "companion.show.plots": "plots",
    "companion.studies.contenders": "bench",
}  # modules and the extra that they need
HOUSE = set(
    ".ci .gitattributes .github .gitignore CONTRIBUTING.md LICENSE Makefile README.md _config.yml _toc.yml book "
    "companion conftest.py constraints.txt pyproject.toml tests".split()
)


def package_files() -> set[str]:
    """List the files of the package, relative to the root."""
    paths = (path for path in (ROOT / "companion").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in paths}


def tracked() -> list[str]:
    """List what git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that `pip install .` would install, built from a copy so that nothing is left behind."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "companion", source / "companion", ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True, capture_output=True)
    return zipfile.ZipFile(next(target.glob("*.whl")))


def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    return email.message_from_bytes(wheel.read(next(name for name in wheel.namelist() if name.endswith("/METADATA"))))


def test_wheel_holds_the_package_with_its_data_and_nothing_else(wheel: zipfile.ZipFile):
    content = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert content == package_files()


def test_wheel_installs_the_command(wheel: zipfile.ZipFile):
    name = next(name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    assert "companion = companion.cli:main" in wheel.read(name).decode()


def imported_modules(extra: str = "") -> set[str]:
    """Return the modules that an installation with `extra` is sure to have, the standard library's included."""
    groups = [PROJECT["dependencies"], PROJECT["optional-dependencies"].get(extra, [])]
    names = [Requirement(entry).name for entries in groups for entry in entries]
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names} | set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", sorted(name for name in package_files() if name.endswith(".py")))
def test_what_a_module_imports_is_installed_with_it(path: str):
    module = path.removesuffix(".py").replace("/", ".")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    roots = {name.split(".")[0] for name in names} - {"companion"}
    assert roots <= imported_modules(OPTIONAL.get(module, "")), "name it in pyproject.toml"


def test_installing_pulls_no_tools_of_the_book_or_the_tests(wheel: zipfile.ZipFile):
    requirements = map(Requirement, metadata(wheel).get_all("Requires-Dist"))
    pulled = {one.name for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})}
    assert not pulled & {"matplotlib", "jupyter-book", "ipykernel", "pytest", "transformers"}


def test_the_wheel_is_typed_and_names_both_licences(wheel: zipfile.ZipFile):
    assert {"companion/py.typed", "companion/__init__.pyi"} <= set(wheel.namelist())
    assert metadata(wheel)["License-Expression"] == "Apache-2.0 AND CC-BY-4.0"
    licences = {name.partition("/licenses/")[2] for name in wheel.namelist() if "/licenses/" in name}
    assert licences == {"LICENSE", "companion/data/sets/LICENSE"}


def test_links_of_the_readme_work_on_the_package_index(wheel: zipfile.ZipFile):
    links = re.findall(r"\]\(([^)]+)\)", metadata(wheel).get_payload())
    assert links and [link for link in links if not link.startswith("https://")] == []


def test_runtime_requirements_are_lower_bounds_only():
    specifiers = {name: {part.operator for part in Requirement(name).specifier} for name in PROJECT["dependencies"]}
    assert set(map(frozenset, specifiers.values())) == {frozenset({">="})}


def test_constraints_pin_every_direct_requirement_to_a_public_version():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    pinned = {canonical(line.partition("==")[0]): line.partition("==")[2] for line in lines}
    extras = [entry for entries in PROJECT["optional-dependencies"].values() for entry in entries]
    for entry in map(Requirement, PROJECT["dependencies"] + extras):
        if entry.name not in ("setuptools", "bert-companion"):  # not listed by pip freeze
            assert entry.specifier.contains(pinned[canonical(entry.name)]), entry


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_address_is_the_same_everywhere():
    home = address.repository()
    assert CONFIG["repository"]["url"] == home
    assert CONFIG["html"]["baseurl"] == CONFIG["sphinx"]["config"]["ogp_site_url"] == address.pages(home)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert home in readme and address.pages(home) in readme
    for path in address.files_with_address(ROOT):
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"https://github\.com/[\w.-]+/bert-companion", text)) <= {home}, path


def test_changing_the_address_leaves_nothing_of_the_old_one(tmp_path: Path):
    (tmp_path / "book").mkdir()
    for name in address.FOLLOWERS:
        shutil.copy(ROOT / name, tmp_path)
    old, new = address.repository(), "https://github.com/some-one/a.book"
    (tmp_path / "book" / "page.ipynb").write_text(f'"git+{old}@main"', encoding="utf-8")
    assert len(address.change(new, tmp_path)) == len(address.FOLLOWERS) + 1
    assert address.repository(tmp_path) == new
    everything = "".join(path.read_text(encoding="utf-8") for path in address.files_with_address(tmp_path))
    assert old not in everything and address.pages(old) not in everything
    assert f"git+{new}@main" in everything and address.pages(new) == "https://some-one.github.io/a.book/"


@pytest.mark.parametrize("wrong", ["github.com/org/name", "https://github.com/org", "https://github.com/org/name/x"])
def test_what_is_no_address_is_refused(wrong: str, tmp_path: Path):
    with pytest.raises(SystemExit, match="write https://github.com/ORG/NAME"):
        address.change(wrong, tmp_path)


def test_the_reference_covers_every_public_module():
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "book" / "api").glob("*.md"))
    modules = {
        path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for path in package_files()
        if path.endswith(".py")
    }
    public = {name for name in modules if not any(part.startswith("_") for part in name.split("."))} - {"companion"}
    public = {name for name in public if not name.startswith("companion.cli.")}  # commands, each with its --help
    assert set(re.findall(r"^\.\. automodule:: (\S+)$", pages, re.M)) == public


def test_nothing_stands_at_the_top_but_the_house():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert {name.partition("/")[0] for name in tracked()} <= HOUSE


@pytest.mark.parametrize("name", ["book.yml", "drift.yml", "tests.yml"])
def test_workflow_is_valid_and_can_only_read_unless_it_publishes(name: str):
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())


def test_ci_script_is_valid():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o100
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_every_part_of_the_book_with_notebooks_is_checked_by_a_job_of_its_own():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    parts = {path.parent.name for path in (ROOT / "book").glob("*/*.ipynb")}
    assert set(workflow["jobs"]["notebooks"]["strategy"]["matrix"]["part"]) == parts


@pytest.mark.parametrize(("words", "leaves_out"), [([], True), (["ALL=1"], False)])
def test_the_quick_tests_leave_out_the_slow_ones_unless_asked(words: list[str], leaves_out: bool):
    done = subprocess.run(["make", "--dry-run", "unit", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    (command,) = [line for line in done.stdout.splitlines() if " -m pytest " in line]
    assert ('-m "not slow"' in command) == leaves_out
    assert " tests " in f"{command} "


def test_the_workflows_leave_out_no_test():
    texts = [(ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8") for name in ("tests.yml", "drift.yml")]
    assert not any("not slow" in text for text in texts)
    jobs = yaml.safe_load(texts[0])["jobs"]
    (unit,) = [step["run"] for step in jobs["unit"]["steps"] if "make unit" in step.get("run", "")]
    (left_out,) = re.fullmatch(r"make unit \$\{\{ matrix\.python != '([\d.]+)' && 'ALL=1' \|\| '' \}\}", unit).groups()
    assert set(jobs["unit"]["strategy"]["matrix"]["python"]) - {left_out}
