"""Memory that is freed and wanted again at once: what a step of training takes, the next one takes too."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # parameters of mallopt(3), in bytes
LARGEST = 2**25  # what is larger is mapped from the system by itself and returned when it is freed; glibc takes no more
INSIDE = {MMAP_THRESHOLD: LARGEST, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2 * LARGEST}
AFTER = {TRIM_THRESHOLD: 2 * LARGEST, TOP_PAD: 0}  # where glibc's own adjustment ends when much is freed

FRAGMENTS_EVERY = 20  # steps; giving fragments back costs a step the page faults that keeping memory saves

_LOCK = threading.Lock()
_blocks = 0


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Keep what is freed in the block for what is allocated next, and give it back to the system at its end.

    Else glibc returns the activations of a step to the system, which clears every page and hands it out again in the
    next step: a tenth of the processor time of a small network. Up to 2 GiB are kept at the end of what is allocated.
    Nothing changes where `device` is no CPU, or the C library is another one (macOS, Windows, musl).
    """
    library = _glibc() if device.type == "cpu" else None
    if library is None:
        yield
        return
    _enter(library)
    try:
        yield
    finally:
        _leave(library)


def give_back_fragments(device: torch.device) -> None:
    """Return to the system what lies free between other things; called now and then inside `freed_memory_kept`.

    Batches of many lengths leave gaps of many sizes, which the next batch does not fill; without this a process grows
    for as long as it trains.
    """
    library = _glibc() if device.type == "cpu" else None
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> Any:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def _enter(library: Any) -> None:
    global _blocks
    with _LOCK:
        _blocks += 1
        _set(library, INSIDE)


def _leave(library: Any) -> None:
    """Undo it when the last block ends: several threads may be in one."""
    global _blocks
    with _LOCK:
        _blocks -= 1
        if _blocks == 0:
            _set(library, AFTER)
            library.malloc_trim(0)


def _set(library: Any, values: dict[int, int]) -> None:
    for parameter, value in values.items():
        library.mallopt(parameter, value)
