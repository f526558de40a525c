"""A loop that halts at the end of every step, and how long a step takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from companion.support.devices import best_device
from companion.support.require import choice

# A whole training run: calls its argument at the end of every step, and returns its mean loss.
Loop = Callable[[Callable[[], None]], float]
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
WARM_UP = 3  # rounds that are not counted: the first steps set up memory, kernels and the optimiser's state


class Stepper:
    """A training loop in a thread of its own that halts at the end of every step until it is told to go on.

    Parameters
    ----------
    loop : callable
        Gets a function that it is to call at the end of every step; does nothing before the first `step`.
    """

    def __init__(self, loop: Loop) -> None:
        self._go, self._halted = threading.Semaphore(0), threading.Semaphore(0)
        self._halts, self._closed = True, False
        self._result: float | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(loop, torch.get_num_threads()), daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Let the loop run to the end of its next step, or of the whole if there is none; raise what it raises."""
        if self._result is not None or self._error is not None:
            raise RuntimeError("the loop has ended; it was made for fewer steps")
        self._go.release()
        self._halted.acquire()
        if self._error is not None:
            raise self._error

    def finish(self) -> float:
        """Let the loop run to its end without a halt; return what it returns."""
        self._halts = False
        self.step()
        assert self._result is not None  # the loop came to its end
        return self._result

    def close(self) -> None:
        """End the thread, in the middle of its loop if need be."""
        self._closed = True
        self._go.release()
        self._thread.join()

    def _run(self, loop: Loop, threads: int) -> None:
        torch.set_num_threads(threads)  # every thread has a number of its own
        self._go.acquire()
        try:
            self._check_open()
            self._result = loop(self._halt)
        except BaseException as error:
            self._error = error
        self._halted.release()

    def _halt(self) -> None:
        if self._halts:
            self._halted.release()
            self._go.acquire()
            self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            raise SystemExit


def check_clock(clock: str, threads: int | None, device: str | None) -> None:
    """Raise a ValueError unless `clock` is one of `CLOCKS` and measures what `threads` do on `device`."""
    choice("clock", clock, CLOCKS)
    if clock == "cpu" and (threads or torch.get_num_threads()) > 1:
        raise ValueError("clock='cpu' adds up the time of all threads; pass threads=1, or clock='wall'")
    if clock == "cpu" and best_device(device).type != "cpu":
        raise ValueError(f"clock='cpu' does not see {best_device(device)}; pass clock='wall', or device='cpu'")


def seconds_of(action: Callable[[], Any], clock: Callable[[], float], device: torch.device | None) -> float:
    """Return the seconds that `action` takes by `clock`, the work that it starts on `device` included."""
    began = clock()
    action()
    if device is not None and device.type != "cpu":
        getattr(torch, device.type).synchronize()
    return clock() - began


@contextmanager
def limited_threads(number: int | None) -> Iterator[None]:
    """Give PyTorch `number` threads in the block; None leaves it what it has."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
