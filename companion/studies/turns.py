"""Contenders timed in turns, each in a process of its own: none gains or loses by what another did to the memory."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Protocol

import torch

from companion.studies.interleave import CLOCKS, limited_threads, seconds_of
from companion.support.devices import best_device, peak_memory

PATIENCE = 10  # seconds for a process to end by itself


class Work(Protocol):
    """What a contender does, one portion at a time."""

    def portion(self) -> None:
        """Do what is timed: a step, or a pass over some texts."""

    def finish(self) -> Any:
        """End, and return what is to be kept of it."""


@dataclass
class Timed:
    """What was measured of a contender.

    Parameters
    ----------
    seconds : list of float
        Of each portion.
    result : object
        What `finish` returned.
    peak_memory : int or None
        In bytes, of the whole process on a CPU, of what PyTorch allocated on CUDA; None where the system does not tell.
    """

    seconds: list[float] = field(default_factory=list)
    result: Any = None
    peak_memory: int | None = None


def in_turns(
    contenders: Mapping[Any, Callable[[], Work]],
    rounds: int,
    *,
    threads: int | None = None,
    clock: str = "wall",
    device: str | None = None,
    progress: bool = False,
) -> dict[Any, Timed]:
    """Let contenders do one portion each in turn, `rounds` times.

    Parameters
    ----------
    contenders : mapping of a name to a callable
        Makes the work, in a fresh process; can be pickled, such as a `functools.partial` of a class.
    rounds : int
    threads : int, optional
        Of PyTorch in each process; None takes its default.
    clock : {"wall", "cpu"}
    device : str, optional
        Waited for at the end of every portion.
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict
        Name to `Timed`.

    Raises
    ------
    RuntimeError
        If a process ended by itself.
    Exception
        What a contender raises; the other processes are then ended.
    """
    from tqdm.auto import tqdm

    context = multiprocessing.get_context("spawn")
    workers, timed = {}, {name: Timed() for name in contenders}
    try:
        for name, make in contenders.items():  # one after the other, so that none is made while another is timed
            workers[name] = _Worker(context, make, threads, clock, device)
            workers[name].answer()
        for _ in tqdm(range(rounds), disable=not progress, unit="round"):
            for name, worker in workers.items():
                timed[name].seconds.append(worker.ask("portion"))
        for name, worker in workers.items():
            timed[name].result, timed[name].peak_memory = worker.ask("finish")
        return timed
    finally:
        for worker in workers.values():
            worker.close()


class _Worker:
    """A process that does portions of work when it is asked to."""

    def __init__(self, context: Any, make: Callable[[], Work], *settings: Any) -> None:
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make, *settings), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, what: str) -> Any:
        """Return the answer to a question; raise what it raised there."""
        self.connection.send(what)
        return self.answer()

    def answer(self) -> Any:
        """Wait for an answer."""
        try:
            answer = self.connection.recv()
        except EOFError:
            self.process.join()
            raise RuntimeError(
                f"a process that is timed ended by itself (exit code {self.process.exitcode}; -9 is often a lack of "
                "memory)"
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def close(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()


def _serve(
    connection: Connection, make: Callable[[], Work], threads: int | None, clock: str, device: str | None
) -> None:
    """Make the work, then do what is asked until nobody asks any more."""
    where: torch.device = best_device(device)
    with limited_threads(threads):
        try:
            work = make()
            connection.send(None)
            while True:
                if connection.recv() == "portion":
                    connection.send(seconds_of(work.portion, CLOCKS[clock], where))
                else:
                    connection.send((work.finish(), peak_memory(device)))
        except EOFError:
            return
        except Exception as error:
            connection.send(error)
