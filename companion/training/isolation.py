"""Training that leaves the caller's generators and Accelerator as they were, also where several threads train.

PyTorch's dropout draws from one generator per device and process, and accelerate keeps one state per process. What uses
either therefore runs in a `section`: one at a time, on seeds and a state of the run's own, with those of the caller put
back at its end. Between two steps of one run another thread may take its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from companion.support.devices import best_device, generators_kept, precision_for, process_count
from companion.support.require import choice
from companion.training.settings import TrainingSettings


class Isolation:
    """The state that accelerate keeps for one run."""

    def __init__(self) -> None:
        from accelerate.state import AcceleratorState, GradientState, PartialState

        # What several processes share (their group) is there once and for all.
        shared = [] if process_count() > 1 else [PartialState]
        self.states: list[tuple[Any, dict]] = [(cls, {}) for cls in (*shared, AcceleratorState, GradientState)]

    @contextmanager
    def section(self) -> Iterator[None]:
        """Put this run's state in the place of the caller's, and the generators back at the end."""
        with generators_kept():
            callers = [(cls, vars(cls)["_shared_state"]) for cls, _ in self.states]
            _put(self.states)
            try:
                yield
            finally:
                _put(callers)


def _put(states: Sequence[tuple[Any, Any]]) -> None:
    for cls, state in states:
        cls._shared_state = state


def new_accelerator(
    settings: TrainingSettings, folder: Path | None, trackers: Sequence[str], leaves_unused: bool
) -> Any:
    """Return the Accelerator of a run; call it in its `section`, on a GPU with its device as the current one."""
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    device = best_device(settings.device)
    precision = precision_for(device, settings.precision)
    return Accelerator(
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=leaves_unused)],
        cpu=device.type == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        log_with=list(trackers) or None,
        project_dir=None if folder is None else str(folder),
    )


def tracker_names(trackers: str | Sequence[str], folder: Path | None) -> list[str]:
    """Return the trackers as a list, after checking that each can be used.

    Raises
    ------
    ModuleNotFoundError
        If a tracker's package is not installed.
    ValueError
        If a name is unknown, or a tracker writes files and there is no folder.
    """
    names = [trackers] if isinstance(trackers, str) else list(trackers)
    if not names:
        return []
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = {str(name): cls for name, cls in LOGGER_TYPE_TO_CLASS.items()}
    available = {str(name) for name in get_available_trackers()}
    for name in names:
        choice("trackers", name, known)
        if name not in available:
            raise ModuleNotFoundError(f"trackers={name!r} needs a package that is not installed: pip install {name}")
        if known[name].requires_logging_directory and folder is None:
            raise ValueError(f"trackers={name!r} writes files; pass folder=..., where they shall lie")
    return names
