"""Memory that stays with the process while it trains, and goes back afterwards."""

from __future__ import annotations

import dataclasses
import resource
import sys
from pathlib import Path

import pytest
import torch

from companion.support import memory
from companion.support.memory import FRAGMENTS_EVERY, freed_memory_kept, give_back_fragments
from tests.toys import RUN, run

CPU = torch.device("cpu")
linux = pytest.mark.skipif(memory._glibc() is None, reason="the C library is not glibc")


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def take_and_free(count: int, megabytes: int = 8) -> None:
    kept = [torch.ones(megabytes, 2**18) for _ in range(count)]
    del kept


@linux
def test_what_is_freed_is_used_again_without_the_system():
    with freed_memory_kept(CPU):
        for _ in range(3):
            take_and_free(12)
        before = page_faults()
        for _ in range(5):
            take_and_free(12)
        assert page_faults() - before < 5 * 12 * 8 * 2**20 / resource.getpagesize() / 100


@linux
def test_at_the_end_it_goes_back_to_the_system():
    with freed_memory_kept(CPU), freed_memory_kept(CPU):
        take_and_free(40)
        inside = resident_bytes()
    assert inside - resident_bytes() > 200 * 2**20


@linux
def test_gaps_between_what_is_kept_can_be_given_back_inside():
    with freed_memory_kept(CPU):
        tensors = [torch.ones(1 + i % 2, 2**20) for i in range(120)]
        tensors = tensors[::2]  # every second one is freed: gaps of 8 MB
        before = resident_bytes()
        give_back_fragments(CPU)
        assert before - resident_bytes() > 200 * 2**20
        assert all(float(tensor[0, 0]) == 1 for tensor in tensors)


@linux
def test_training_gives_them_back_now_and_then(monkeypatch: pytest.MonkeyPatch):
    called = []
    monkeypatch.setattr("companion.training.run.give_back_fragments", called.append)
    run(dataclasses.replace(RUN, steps=2 * FRAGMENTS_EVERY + 1, save_every=0))
    assert called == [CPU, CPU]


@linux
def test_an_error_ends_the_block_too():
    before = memory._blocks
    with pytest.raises(RuntimeError, match="stop"), freed_memory_kept(CPU):
        assert memory._blocks == before + 1
        raise RuntimeError("stop")
    assert memory._blocks == before


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_left_alone(platform: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", platform)
    before = memory._blocks
    with freed_memory_kept(CPU):
        assert memory._blocks == before


def test_other_devices_are_left_alone():
    before = memory._blocks
    with freed_memory_kept(torch.device("cuda")):
        assert memory._blocks == before
