"""Devices, precision, seeds and memory. What machine the tests run on does not matter: its parts are played."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from companion.support import devices
from companion.support.devices import as_current, autocast, best_device, peak_memory, precision_for, seed_everything
from tests.toys import run


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Play a machine that has these devices."""

    def play(
        cuda: bool = False, mps: bool = False, capability: tuple[int, int] = (8, 0), fast_cpu: bool = False
    ) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr(devices, "cpu_is_fast_in_bf16", lambda: fast_cpu)

    return play


@pytest.mark.parametrize(
    ("supported", "allowed", "fast"), [(True, "AVX512", True), (True, "AVX2", False), (False, "AVX512", False)]
)
def test_bf16_is_fast_where_the_cpu_has_it_and_pytorch_may_use_it(
    monkeypatch: pytest.MonkeyPatch, supported: bool, allowed: str, fast: bool
):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: allowed)
    assert devices.cpu_is_fast_in_bf16() is fast


@pytest.mark.parametrize(
    ("cuda", "mps", "best"), [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_the_best_device_is_cuda_then_mps_then_cpu(machine, cuda: bool, mps: bool, best: str):
    machine(cuda=cuda, mps=mps)
    assert best_device() == torch.device(best)


def test_a_named_device_is_taken(machine):
    machine(cuda=True)
    assert best_device("cpu") == torch.device("cpu")
    assert best_device(torch.device("cuda:1")) == torch.device("cuda:1")


def test_a_device_that_is_not_there_is_refused_with_those_that_are(machine):
    machine(mps=True)
    with pytest.raises(ValueError, match="device='cuda:0' is not on this machine, which has: mps, cpu; pass None"):
        best_device("cuda:0")


@pytest.mark.parametrize(
    ("device", "precision", "capability", "fast_cpu", "chosen"),
    [
        ("cuda", None, (8, 0), False, "bf16"),
        ("cuda", None, (9, 0), False, "bf16"),
        ("cuda", None, (7, 5), False, "fp16"),
        ("cuda", "auto", (7, 5), True, "fp16"),
        ("cuda", "fp32", (8, 0), False, "fp32"),
        ("mps", None, (8, 0), True, "fp32"),
        ("mps", "auto", (8, 0), True, "fp32"),
        ("cpu", None, (8, 0), True, "fp32"),
        ("cpu", "auto", (8, 0), True, "bf16"),
        ("cpu", "auto", (8, 0), False, "fp32"),
        ("cpu", "bf16", (8, 0), False, "bf16"),
    ],
)
def test_the_precision_follows_from_the_device(machine, device, precision, capability, fast_cpu, chosen):
    machine(cuda=True, mps=True, capability=capability, fast_cpu=fast_cpu)
    assert precision_for(device, precision) == chosen


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision='half' is unknown; choose one of auto, fp32, bf16, fp16, or None"):
        precision_for("cpu", "half")


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_products_run_in_the_precision(precision: str, dtype: torch.dtype):
    with autocast("cpu", precision):
        product = F.linear(torch.ones(2, 3), torch.ones(4, 3))
    assert product.dtype == dtype
    assert F.linear(torch.ones(2, 3), torch.ones(4, 3)).dtype == torch.float32


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


@pytest.mark.parametrize("seed", [0, 7, 2**40 + 3])
def test_a_seed_repeats_every_generator_and_another_seed_does_not(seed: int):
    seed_everything(seed)
    first = draws()
    assert not set(first) & set(draws())
    seed_everything(seed)
    assert draws() == first
    seed_everything(seed + 1)
    assert not set(first) & set(draws())


PEAK = """
import numpy as np, psutil
from companion.support.devices import peak_memory
before, now = peak_memory("cpu"), psutil.Process().memory_info().rss
held = np.ones(before - now + (64 << 20), dtype=np.uint8)
after = peak_memory("cpu")
del held
print(before, now, after, peak_memory("cpu"))
"""


HELD = 1 << 30  # bytes: more than Python with PyTorch takes


@pytest.fixture(scope="module")
def peaks() -> list[int]:
    """What `PEAK` prints.

    It runs in a process of its own, as memory that earlier tests freed may be used again without new pages. The process
    that starts it holds `HELD` bytes.
    """
    held = np.ones(HELD, dtype=np.uint8)
    ran = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    del held
    return [int(part) for part in ran.stdout.split()]


def test_the_peak_of_memory_is_in_bytes_and_counts_what_was_freed(peaks: list[int]):
    before, now, after, later = peaks
    more = 64 << 20
    assert before >= 0.99 * now
    assert before + 0.8 * more < after < before + 2 * more
    assert later >= 0.99 * after  # Linux counts pages per thread, and its sum is off by a few


def test_the_peak_of_memory_does_not_begin_with_that_of_the_process_that_started_this_one(peaks: list[int]):
    assert 50e6 < peaks[0] < HELD


@pytest.mark.gpu
def test_the_peak_of_memory_on_a_gpu_is_the_gpus():
    torch.cuda.reset_peak_memory_stats()
    before = peak_memory("cuda")
    held = torch.ones(16 << 20, dtype=torch.uint8, device="cuda")
    assert peak_memory("cuda") - before >= 16 << 20
    del held


@pytest.mark.parametrize(("device", "number"), [("cuda:1", 1), ("cuda:0", 0), ("cuda", None), ("cpu", None)])
def test_only_a_gpu_with_a_number_becomes_the_current_one_and_only_for_a_while(monkeypatch, device, number):
    monkeypatch.setattr("companion.support.devices.best_device", torch.device)
    context = as_current(device)
    assert isinstance(context, torch.cuda.device) == (number is not None)
    assert number is None or context.idx == number


def test_training_sets_no_device_for_good(monkeypatch: pytest.MonkeyPatch):
    entered, inside = [], []

    @contextmanager
    def noted(device):
        entered.append(device)
        inside.append(True)
        yield
        inside.pop()

    monkeypatch.setattr("companion.training.loop.as_current", noted)
    monkeypatch.setattr("torch.cuda.set_device", lambda device: pytest.fail("the caller's device was changed"))
    run(validate=lambda model: {"inside": float(bool(inside))})
    assert entered == ["cpu"] and inside == []


@pytest.mark.gpu
def test_the_current_gpu_is_the_callers_again():
    before = torch.cuda.current_device()
    with as_current(f"cuda:{torch.cuda.device_count() - 1}"):
        assert torch.cuda.current_device() == torch.cuda.device_count() - 1
    assert torch.cuda.current_device() == before
