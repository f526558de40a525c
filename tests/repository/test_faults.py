"""The planted faults: each finds its place, however the place is written, and one that is out of date says so."""

from __future__ import annotations

import ast

import pytest

from tests.faults import FAILED, FAULTS, ROOT, Fault, files_of, module_path, planted

SOURCE = """
BOUND: int = 10
FACTORS = (("a", 1), ("b", 2))

class Scale:
    def forward(self, x):  # scale
        y = (
            x  # the input
            * self.factor
        )
        return y

    def back(self, x):
        self.grow(2)
        return x * self.factor
"""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_has_one_place_and_changes_it(fault: Fault):
    sound = module_path(fault).read_text(encoding="utf-8")
    wrong = planted(fault, sound)
    compile(wrong, fault.where, "exec")
    assert ast.dump(ast.parse(wrong)) != ast.dump(ast.parse(sound))
    assert all(files_of(ROOT, name) for name in fault.tests.split())


def test_faults_have_names_of_their_own():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert len({(fault.where, fault.wrong, fault.right) for fault in FAULTS}) == len(FAULTS)


def changed(where: str, right: str, wrong: str, source: str = SOURCE) -> str:
    return planted(Fault("a fault", f"a.module:{where}", right, wrong, ""), source)


@pytest.mark.parametrize(
    ("where", "right", "wrong", "before", "after"),
    [
        ("Scale.forward", "x*self.factor", "x", "y = x * self.factor", "y = x"),
        (
            "Scale.forward",
            "y = x * (self.factor); return y",
            "return x",
            "y = x * self.factor\n        return y",
            "return x",
        ),
        ("Scale.back", "self.grow(\n2)", "pass", "self.grow(2)", "pass"),
        ("Scale.back", "self.grow(2)", "self.grow(3)", "self.grow(2)", "self.grow(3)"),
        ("Scale", "return y", "y += 1; return y", "return y", "y += 1\n        return y"),
        ("FACTORS", "('a', 1), ('b', 2)", "('a', 2), ('b', 1)", "('a', 1), ('b', 2)", "('a', 2), ('b', 1)"),
        ("FACTORS", "(('a', 1), ('b', 2))", "()", "(('a', 1), ('b', 2))", "()"),
        ("FACTORS", "2", "-2", "2", "-2"),
        ("BOUND", "10", "11", "10", "11"),
    ],
)
def test_a_fault_changes_its_object_alone(where: str, right: str, wrong: str, before: str, after: str):
    sound = ast.unparse(ast.parse(SOURCE))
    begin = sound.index(where.rpartition(".")[2])  # `before` may stand in other objects above
    assert changed(where, right, wrong) == sound[:begin] + sound[begin:].replace(before, after, 1) + "\n"


def test_a_fault_moves_with_its_object():
    first, _, last = SOURCE.partition("\n\n")
    moved = changed("Scale.forward", "x * self.factor", "x", last + "\n" + first)
    assert moved.count("x * self.factor") == 1 and "y = x\n" in moved


@pytest.mark.parametrize(
    ("where", "right", "said"),
    [
        (
            "Scale.forward",
            "x * self.factors",
            r"'x \* self.factors' stands 0 times in a.module:Scale.forward, not once",
        ),
        ("Scale", "x * self.factor", "stands 2 times"),
        ("Scale.forward", "self.grow(2)", "stands 0 times"),
        ("FACTORS", "('a', 2), ('b', 1)", "stands 0 times"),
        ("Scale.sideways", "x", "sideways of a.module:Scale.sideways is defined 0 times, not once"),
        ("Scales.forward", "x", "Scales of a.module:Scales.forward is defined 0 times"),
    ],
)
def test_a_fault_that_is_out_of_date_says_so(where: str, right: str, said: str):
    with pytest.raises(ValueError, match=said):
        changed(where, right, "x")


@pytest.mark.parametrize(
    ("line", "test", "reason"),
    [
        ("FAILED tests/a/test_b.py::test_c - assert 1 - 1 == 2", "tests/a/test_b.py::test_c", "assert 1 - 1 == 2"),
        (
            "FAILED tests/a/test_b.py::test_c[x y-a - b] - KeyError: [1] - 2",
            "tests/a/test_b.py::test_c[x y-a - b]",
            "KeyError: [1] - 2",
        ),
        ("FAILED tests/a/test_b.py::test_c[[1], 2]", "tests/a/test_b.py::test_c[[1], 2]", None),
        ("ERROR tests/a/test_b.py - ImportError: no", "tests/a/test_b.py", "ImportError: no"),
    ],
)
def test_the_test_that_failed_is_read_from_the_closing_lines(line: str, test: str, reason: str | None):
    found = FAILED.search(f"...\n{line}\n1 failed")
    assert (found["test"], found["reason"]) == (test, reason)
