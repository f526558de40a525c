"""The learning rate of every step."""

from __future__ import annotations

import math

from companion.training.settings import TrainingSettings


def learning_rate_at(step: int, settings: TrainingSettings) -> float:
    """Return the learning rate of `step` (counted from 0): a linear warm-up, then the schedule."""
    warmup = round(settings.steps * settings.warmup_share)
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    decay = settings.steps - warmup
    if settings.schedule == "trapezoid":
        decay = round(settings.steps * settings.decay_share)
    left = min(1.0, (settings.steps - step) / max(1, decay))  # 1 at the start of the fall, 0 at its end
    shape = {"linear": left, "trapezoid": left, "cosine": (1 - math.cos(math.pi * left)) / 2, "constant": 1.0}
    return settings.learning_rate * shape[settings.schedule]
