"""Batches from whatever holds them, and hooks into the loop."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from companion.training.loop import History
from tests.toys import RUN, STEPS, Batches, assert_same_run, run, without_time


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return (Batches()[number] for number in range(100))


class Rows(Dataset):
    """The rows of the toy's batches, three each, for a DataLoader to put together again."""

    def __len__(self) -> int:
        return 3 * 30

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: values[index % 3] for name, values in Batches()[index // 3].items()}


def listed(count: int) -> list[dict[str, torch.Tensor]]:
    return [Batches()[number] for number in range(count)]


MAKE = {
    "list": lambda: listed(30),
    "tuple": lambda: tuple(listed(30)),
    "generator": lambda: (Batches()[number] for number in itertools.count()),
    "iterator": lambda: iter(listed(30)),
    "DataLoader": lambda: DataLoader(Rows(), batch_size=3),
    "IterableDataset": Stream,
    "DataLoader of a stream": lambda: DataLoader(Stream(), batch_size=None),
}


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("kind", MAKE)
def test_batches_may_come_from_any_sequence_or_iterable(kind: str, accumulation: int):
    settings = replace(RUN, accumulation=accumulation)
    assert_same_run(run(settings, batches=MAKE[kind]()), run(settings))


@pytest.mark.parametrize("kind", ["generator", "DataLoader", "IterableDataset"])
def test_what_has_no_numbers_cannot_be_resumed_nor_split_among_workers(tmp_path, kind: str):
    with pytest.raises(ValueError, match=r"resume=True needs batches that are looked up by number \(batches\[i\]\)"):
        run(batches=MAKE[kind](), folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match="workers=2 needs batches that are looked up by number"):
        run(replace(RUN, workers=2), batches=MAKE[kind]())


@pytest.mark.parametrize(
    ("batches", "accumulation", "has", "needs"),
    [(listed(5), 1, 5, 6), (listed(11), 2, 11, 12), (DataLoader(Rows(), batch_size=45), 1, 2, 6), ([], 1, 0, 6)],
)
def test_too_few_batches_are_named_before_the_work(batches, accumulation: int, has: int, needs: int):
    steps = []
    message = f"batches has {has} batches, the training takes {needs}; pass more, or lower steps"
    with pytest.raises(ValueError, match=message):
        run(replace(RUN, accumulation=accumulation), batches=batches, on_step=steps.append)
    assert steps == []


class Ends:
    """Five batches, of which it does not say how many they are."""

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return listed(5)[number]


@pytest.mark.parametrize("make", [lambda: (batch for batch in listed(5)), Ends], ids=["iterable", "looked up"])
def test_batches_that_end_unforeseen_are_named_when_they_do(make):
    with pytest.raises(
        ValueError, match=r"batches end before batch number 5 \(counted from 0\); pass 6, or lower steps"
    ):
        run(batches=make())


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (None, "batches is of type NoneType; pass a sequence of batches"),
        (3, "batches is of type int"),
        ("abc", "batches is of type str"),
        (Batches()[0], "batches is of type dict; pass a sequence"),
        ([[1, 2]] * 6, r"batches\[0\] is of type list; a batch is a dict of tensors"),
        ([{"input_ids": [1, 2]}] * 6, r"batches\[0\]\['input_ids'\] is of type list; it must be a tensor"),
    ],
)
def test_what_are_no_batches_is_said(batches: object, message: str):
    with pytest.raises(TypeError, match=message):
        run(batches=batches)


def test_the_hook_sees_every_step_with_what_it_logged_and_its_validation():
    seen = []

    def look(history: History) -> None:
        last = history.records[-1] if history.records else {}
        seen.append((history.step, last.get("step"), "f1" in last, history.finished))

    settings = replace(RUN, log_every=2, validate_every=2)
    run(settings, on_step=look, validate=lambda model: {"f1": 0.5})
    logged = [(2, True), (2, True), (4, True), (4, True), (6, True)]
    assert seen == [(1, None, False, False), *((i + 2, *one, False) for i, one in enumerate(logged))]


@pytest.mark.parametrize("answer", [None, False, 0])
def test_a_hook_that_asks_for_nothing_changes_nothing(answer: object):
    assert_same_run(run(on_step=lambda history: answer), run())


def test_a_hook_may_end_the_run_as_its_last_step_does(tmp_path):
    modes = []

    def validate(model: torch.nn.Module) -> dict[str, float]:
        modes.append(model.training)
        return {"f1": 0.5}

    settings = replace(RUN, ema_decay=0.5, save_every=0)
    model, history = run(settings, folder=tmp_path, validate=validate, on_step=lambda history: history.step == 4)
    assert (history.step, history.finished, history.stopped_early) == (4, True, True)
    assert modes == [False] and history.column("f1") == ([4], [0.5])
    assert not model.training
    assert (tmp_path / "checkpoint").exists()
    # The average was put in the place of the last weights.
    unaveraged, plain = run(replace(settings, ema_decay=None), on_step=lambda history: history.step == 4)
    assert not torch.equal(model.mlm_head.bias, unaveraged.mlm_head.bias)
    assert plain.column("loss") == history.column("loss")
    # With --resume it goes on, as if never stopped.
    found, expected = run(settings, folder=tmp_path, resume=True), run(settings)
    assert without_time(found[1])[-1] == without_time(expected[1])[-1]
    assert torch.equal(found[0].mlm_head.bias, expected[0].mlm_head.bias)


def test_a_run_that_is_done_or_interrupted_was_not_stopped_early(tmp_path):
    _, done = run(on_step=lambda history: history.step == STEPS)
    assert (done.finished, done.stopped_early) == (True, False)
    _, interrupted = run(replace(RUN, minutes=1e-9), folder=tmp_path)
    assert (interrupted.step, interrupted.finished, interrupted.stopped_early) == (1, False, False)


def test_an_error_in_the_hook_is_the_callers():
    def fail(history: History) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run(on_step=fail)
