"""Training leaves the caller's generators and Accelerator as they were, and threads do not disturb each other."""

from __future__ import annotations

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn

from companion.support.devices import generators_kept, seed_everything
from companion.training.loop import train
from tests.toys import RUN, Batches, MaskedWords, new_model, run, without_time


def states() -> tuple:
    """Return the states of all generators, to be compared."""
    numpy = np.random.get_state()
    return random.getstate(), numpy[1].tolist(), numpy[2:], torch.get_rng_state().tolist()


@pytest.fixture
def fresh_accelerate():
    """Take accelerate's own state out of the way, and put it back."""
    kept = [(cls, dict(cls._shared_state)) for cls in (PartialState, AcceleratorState, GradientState)]
    for cls, _ in kept:
        cls._shared_state.clear()
    yield
    for cls, state in kept:
        cls._shared_state.clear()
        cls._shared_state.update(state)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_generators_of_the_caller_stay_where_they_are(tmp_path, workers: int):
    models = [new_model(), new_model()]  # which seeds
    seed_everything(11)
    random.random(), np.random.rand(), torch.rand(3)
    before = states()
    settings = replace(RUN, workers=workers, steps=2, minutes=1e-9, ema_decay=0.9)
    run(settings, models[0], folder=tmp_path, validate=lambda model: {"f1": 1.0})
    assert states() == before
    run(settings, models[1], folder=tmp_path, resume=True)  # accelerate puts the generators of the checkpoint back
    assert states() == before


def test_they_stay_there_when_the_training_fails():
    model = new_model()
    before = states()
    with pytest.raises(ZeroDivisionError):
        run(model=model, batches=Batches(lambda number: 1 // (2 - number)))
    assert states() == before


def test_on_step_and_validation_see_the_generators_of_the_caller():
    model = new_model()
    seed_everything(11)
    expected = [float(torch.rand(())) for _ in range(6)]
    seed_everything(11)
    seen = []
    settings = replace(RUN, validate_every=2)
    run(settings, model, on_step=lambda history: seen.append(float(torch.rand(()))), validate=lambda model: {})
    assert seen == pytest.approx(expected)


def test_an_accelerator_of_the_caller_stays_as_it_is(fresh_accelerate):
    mine = Accelerator(mixed_precision="bf16", gradient_accumulation_steps=4, cpu=True)
    before = dict(PartialState._shared_state), dict(AcceleratorState._shared_state), dict(GradientState._shared_state)
    run(replace(RUN, steps=2))
    assert (mine.mixed_precision, mine.gradient_accumulation_steps) == ("bf16", 4)
    assert before == (
        dict(PartialState._shared_state),
        dict(AcceleratorState._shared_state),
        dict(GradientState._shared_state),
    )
    assert Accelerator(mixed_precision="bf16", cpu=True).mixed_precision == "bf16"
    model = mine.prepare(nn.Linear(2, 2))
    assert model(torch.ones(1, 2)).shape == (1, 2)


def test_without_an_accelerator_of_the_caller_none_is_left_behind(fresh_accelerate):
    environment = dict(os.environ)
    run(replace(RUN, steps=2, precision="bf16"))
    assert (PartialState._shared_state, AcceleratorState._shared_state, GradientState._shared_state) == ({}, {}, {})
    assert dict(os.environ) == environment
    assert Accelerator(mixed_precision="no", cpu=True).mixed_precision == "no"


@pytest.mark.parametrize("others", [{}, {"precision": "bf16", "accumulation": 2}], ids=["alike", "different"])
def test_runs_in_two_threads_give_the_numbers_that_they_give_alone(others: dict):
    settings = [replace(RUN, seed=1, steps=12), replace(RUN, seed=2, steps=12, **others)]
    models = [new_model() for _ in range(4)]
    alone = [without_time(run(one, model)[1]) for one, model in zip(settings, models[:2], strict=True)]
    together = threading.Barrier(2)

    def fit(number: int) -> list[dict[str, float]]:
        # Each waits for the other before its first batches, so that their steps alternate.
        batches = Batches(lambda i: together.wait(60) if i == 0 else None)
        history = train(models[2 + number], batches, MaskedWords(), settings[number], progress=False)
        return without_time(history)

    before = states()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(fit, range(2)))
    assert found == alone
    assert states() == before
    for mine, other in zip(models[2:], models[:2], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), other.parameters(), strict=True))


def test_blocks_that_keep_the_generators_take_turns():
    inside = []

    def draw(seed: int) -> list[float]:
        with generators_kept():
            inside.append(seed)
            seed_everything(seed)
            values = [float(torch.rand(())) for _ in range(50)]
            assert inside.pop() == seed and not inside
        return values

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(draw, [1, 2, 3, 1] * 8))
    assert [found[i] == found[0] for i in (3, 4, 7)] == [True] * 3
    assert found[0] != found[1]


def test_on_a_cpu_no_gpu_is_woken(monkeypatch):
    def woken(*args: object, **options: object) -> None:
        raise AssertionError("CUDA was initialised")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    for name in ("get_rng_state_all", "get_rng_state", "set_rng_state_all", "device_count", "init"):
        monkeypatch.setattr(torch.cuda, name, woken)
    with generators_kept():
        seed_everything(1)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_generators_of_other_devices_are_kept(monkeypatch, device: str):
    states, put = {"cuda": ["first GPU", "second GPU"], "mps": "Apple's"}, []
    on_cuda = device == "cuda"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: on_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: not on_cuda)
    module, suffix = (torch.cuda, "_all") if on_cuda else (torch.mps, "")
    monkeypatch.setattr(module, f"get_rng_state{suffix}", lambda: states[device])
    monkeypatch.setattr(module, f"set_rng_state{suffix}", put.append)
    with pytest.raises(KeyError), generators_kept():
        assert put == []
        raise KeyError
    assert put == [states[device]]
