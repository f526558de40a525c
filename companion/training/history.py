"""What a training logged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class History:
    """What a run logged.

    Attributes
    ----------
    records : list of dict
        One every `log_every` steps: `step`, `loss`, each loss by name, `learning_rate`, `grad_norm`, `seconds`; and
        what validation returned, at the steps where it ran.
    step : int
        Steps done.
    seconds : float
        Time spent in the loop, all starts of the run together.
    finished : bool
        Whether the run ended as it should: after its last step, or where `on_step` asked for it. False if it was
        interrupted, by a signal or by `minutes`; `resume` then goes on.
    stopped_early : bool
        Whether it was `on_step` that ended it.
    entries : list of dict
        One for each process that took steps of this run: `first_step`, `last_step`, `seconds`, `peak_memory_bytes`
        (None where it is not known) and `provenance`, what `train` was told of it. The steps of each follow those of
        the one before. `provenance` is empty where the checkpoint was written by a version that did not note it.
    """

    records: list[dict[str, float]] = field(default_factory=list)
    step: int = 0
    seconds: float = 0.0
    finished: bool = False
    stopped_early: bool = False
    entries: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, provenance: Mapping[str, Any]) -> None:
        """Let the steps that follow be those of a new entry."""
        entry = {"first_step": self.step + 1, "last_step": self.step, "seconds": 0.0, "peak_memory_bytes": None}
        self.entries.append({**entry, "provenance": dict(provenance)})

    def advance(self, seconds: float) -> None:
        """Count one more step, at the end of which the last entry has taken so long."""
        self.step += 1
        self.entries[-1] |= {"last_step": self.step, "seconds": seconds}
        self.seconds = sum(entry["seconds"] for entry in self.entries)

    def column(self, name: str) -> tuple[list[float], list[float]]:
        """Return the steps at which `name` was recorded, and its values."""
        rows = [record for record in self.records if name in record]
        return [row["step"] for row in rows], [row[name] for row in rows]
