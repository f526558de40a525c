"""Contenders in turns: their order, processes, threads and clocks, and what happens when one fails."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from companion.studies.turns import in_turns

pytestmark = pytest.mark.slow


class Writing:
    """Writes into a file what it does; a portion takes `cost` seconds of the processor."""

    def __init__(self, name: str, file: Path, cost: float = 0.0) -> None:
        self.name, self.file, self.cost = name, file, cost
        self.note("made")

    def note(self, what: str) -> None:
        with self.file.open("a") as file:
            file.write(f"{self.name} {what}\n")

    def portion(self) -> None:
        self.note("portion")
        end = time.process_time() + self.cost
        while time.process_time() < end:
            pass

    def finish(self) -> tuple[str, int, int]:
        return self.name, os.getpid(), torch.get_num_threads()


class Broken(Writing):
    def portion(self) -> None:
        raise ValueError("no more batches")


class Dying(Writing):
    def portion(self) -> None:
        os._exit(9)


class Unmade(Writing):
    def note(self, what: str) -> None:
        raise FileNotFoundError("no such network")


def test_each_does_one_portion_in_turn_in_a_process_of_its_own(tmp_path: Path):
    file = tmp_path / "events"
    timed = in_turns({name: partial(Writing, name, file) for name in "abc"}, 3, threads=1, device="cpu")
    events = file.read_text().split("\n")[:-1]
    assert events == ["a made", "b made", "c made", *[f"{name} portion" for _ in range(3) for name in "abc"]]
    assert {name: len(one.seconds) for name, one in timed.items()} == {"a": 3, "b": 3, "c": 3}
    assert [one.result[0] for one in timed.values()] == ["a", "b", "c"]
    assert len({one.result[1] for one in timed.values()} | {os.getpid()}) == 4
    assert all(one.peak_memory is None or one.peak_memory > 50e6 for one in timed.values())


@pytest.mark.parametrize("threads", [1, 2])
def test_a_process_has_the_threads_that_are_asked_for(tmp_path: Path, threads: int):
    timed = in_turns({"a": partial(Writing, "a", tmp_path / "events")}, 1, threads=threads, device="cpu")
    assert timed["a"].result[2] == threads


def test_the_clock_is_that_of_the_process_that_works(tmp_path: Path):
    makers = {cost: partial(Writing, str(cost), tmp_path / "events", cost) for cost in (0.0, 0.3)}
    timed = in_turns(makers, 2, threads=1, clock="cpu", device="cpu")
    assert max(timed[0.0].seconds) < 0.2 < 0.3 <= min(timed[0.3].seconds)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (Broken, ValueError, "no more batches"),
        (Unmade, FileNotFoundError, "no such network"),
        (Dying, RuntimeError, r"a process that is timed ended by itself \(exit code 9; -9 is often a lack of"),
    ],
)
def test_what_one_raises_is_raised_and_no_process_stays_behind(tmp_path: Path, kind, error, message: str):
    import multiprocessing

    makers = {"healthy": partial(Writing, "healthy", tmp_path / "events"), "other": partial(kind, "x", tmp_path / "e")}
    with pytest.raises(error, match=message):
        in_turns(makers, 2, threads=1, device="cpu")
    assert multiprocessing.active_children() == []
