"""Every code block of the README holds. What is run, and what is checked without running, is said by `CHECKS`."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from address import repository

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.M | re.S)
PYTHON = "\n".join(code for language, code in BLOCKS if language == "python")
COMMANDS = [
    line for language, code in BLOCKS if language == "bash" for line in code.splitlines() if line and line[0] != "#"
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all commands, for a later one may use what an earlier one wrote."""
    return tmp_path_factory.mktemp("readme")


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def check_make(words: list[str], folder: Path) -> None:
    """Not run: it would run these tests again. `.ci/run` runs it, and here the target must exist and stand there."""
    assert " ".join(words) in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    done = run([*words, "--dry-run"], ROOT)
    assert done.returncode == 0, done.stderr


def check_clone(words: list[str], folder: Path) -> None:
    """Not run: it needs the network. The address must be that of the project."""
    assert words == ["git", "clone", repository()]


def check_cd(words: list[str], folder: Path) -> None:
    """Not run: the folder must be the one that the clone makes."""
    assert words == ["cd", repository().rpartition("/")[2]]


def check_pip(words: list[str], folder: Path) -> None:
    """Not run: it needs the network. The requirement must parse, and name this project at its address."""
    requirement = Requirement(words[-1])
    assert words[:-1] == ["pip", "install"]
    assert (requirement.name, requirement.url) == ("bert-companion", f"git+{repository()}@main")


ANSWERS = {  # what a command must print, beginning with these words: a pattern
    "companion info": r"checkpoints +mini",
    "companion predict mini": r'"(edge|side)": 0\.',
    "companion finetune reviews": r"test accuracy 0\.[67]\d\d \(always '\w+': 0\.500\)",
    "companion predict runs/reviews": r'"label": "positive"',
    "companion pretrain": r"mlm \d",
}


def check_companion(words: list[str], folder: Path) -> None:
    """Run as it stands, in an empty folder; what it prints must be right."""
    done = run(words, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (pattern,) = [pattern for begin, pattern in ANSWERS.items() if " ".join(words).startswith(begin)]
    assert re.search(pattern, done.stdout), done.stdout
    assert "chance" not in done.stderr


CHECKS: dict[str, Callable[[list[str], Path], None]] = {
    "make": check_make,
    "git": check_clone,
    "cd": check_cd,
    "pip": check_pip,
    "companion": check_companion,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, workplace: Path):
    words = shlex.split(command, comments=True)
    assert words[0] in CHECKS, f"say in CHECKS how {words[0]} is checked"
    CHECKS[words[0]](words, workplace)


def test_python_runs_without_a_warning_and_gives_the_answers_beside_it(workplace: Path):
    done = run([sys.executable, "-W", "error", "-c", PYTHON], workplace)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    blank, accuracy, label, found, entities, answer, chosen = done.stdout.splitlines()
    assert {"edge", "side"} <= set(re.findall(r"\w+", blank))
    assert float(accuracy) > 0.6
    assert label == "['positive']"
    assert found == "Trains leave hourly."
    assert entities == "[[Entity(start=0, end=4, type='LOC')]]"
    assert answer == "Rome"
    assert chosen == "[0 1]"
    assert (workplace / "classifier" / "companion.json").is_file()


def test_the_five_lines_of_the_landing_page_give_what_stands_below_them(workplace: Path):
    landing = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", landing, re.M | re.S)
    (shown,) = re.findall(r"^```text\n(.*?)^```$", landing, re.M | re.S)
    *before, last = ast.parse(code).body
    body = "\n".join([*map(ast.unparse, before), f"print(repr({ast.unparse(last)}))"])
    done = run([sys.executable, "-c", body], workplace)
    assert done.returncode == 0, done.stderr
    assert done.stdout == shown


def test_every_block_is_of_a_kind_that_is_checked():
    assert {language for language, _ in BLOCKS} == {"bash", "python"}


def test_every_linked_file_exists():
    targets = re.findall(r"\]\(https://github\.com/[^/]+/[^/]+/blob/main/([^)#]+)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_figures_are_those_of_the_record():
    record = json.loads((ROOT / "book" / "results" / "pretraining-speed.json").read_text(encoding="utf-8"))
    text = " ".join(README.split())
    small, large = ({(r["ours"], r["theirs"]): r for r in case["comparisons"]} for case in record["entries"])
    first, both = ("companion bf16", "Trainer fp32"), ("companion bf16", "Trainer bf16")
    assert f"{small[first]['speed']:.1f} times as fast in {small[first]['memory']:.0%} of the memory" in text
    assert f"{large[first]['speed']:.1f} times in {large[first]['memory']:.0%} with 30,522" in text
    assert f"with both in bf16, {small[both]['speed']:.1f} and {large[both]['speed']:.1f} times" in text


def test_the_figures_of_fine_tuning_are_those_of_the_records():
    def compared(name: str) -> list[dict]:
        path = ROOT / "book" / "results" / f"{name}.json"
        cases = json.loads(path.read_text(encoding="utf-8"))["entries"]
        return [{row["theirs"]: f"{row['speed']:.1f}" for row in case["comparisons"][::-1]} for case in cases]

    (short, long), (predicted,) = compared("finetuning-speed"), compared("prediction-speed")
    text = " ".join(README.split())
    assert f"takes {short['padded loop fp32']} times as long with a loop that pads every text" in text
    assert f"{short['Trainer fp32']} times with Trainer, and {short['Trainer grouped fp32']} times if that" in text
    assert f"on texts of 50 to 500 words {long['Trainer fp32']} times with Trainer" in text
    assert f"It predicts {predicted['pipeline fp32']} times as fast as `pipeline(batch_size=32)`" in text
