"""What a training logged."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    """

    records: list[dict[str, float]] = field(default_factory=list)
    step: int = 0
    seconds: float = 0.0
    finished: bool = False
    stopped_early: bool = False

    def column(self, name: str) -> tuple[list[float], list[float]]:
        """Return the steps at which `name` was recorded, and its values."""
        rows = [record for record in self.records if name in record]
        return [row["step"] for row in rows], [row[name] for row in rows]
