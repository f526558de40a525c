"""Ctrl-C and SIGTERM as requests to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Set the event that is yielded at the first Ctrl-C or SIGTERM; a second one does what it did before the block.

    Outside of the main thread, and where a handler is not Python's own, signals are left alone.
    """
    stopped = threading.Event()
    old = {}
    if threading.current_thread() is threading.main_thread():
        old = {number: handler for number in SIGNALS if (handler := signal.getsignal(number)) is not None}

    def restore() -> None:
        for number, handler in old.items():
            signal.signal(number, handler)

    def stop(number: int, frame: Any) -> None:
        restore()
        stopped.set()

    for number in old:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        restore()
