"""The settings of a training."""

from __future__ import annotations

from dataclasses import dataclass

SCHEDULES = ("linear", "cosine", "trapezoid", "constant")


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Parameters
    ----------
    steps : int
        Optimiser steps in all.
    learning_rate : float
        The highest one, reached at the end of the warm-up.
    schedule : {"linear", "cosine", "trapezoid", "constant"}
        What follows the warm-up: a fall to 0 along a line or half a cosine; or a plateau, with a line to 0 over the
        last `decay_share` of the steps (so that a run can be lengthened); or a plateau for good.
    warmup_share, decay_share : float
        Shares of `steps`, in [0, 1].
    weight_decay : float
        Decoupled (Loshchilov and Hutter 2019), on weight matrices and embeddings; never on biases and LayerNorm.
    betas, eps : (float, float), float
        AdamW's moving averages and the number in its denominator.
    max_grad_norm : float, optional
        The gradient is scaled down to this norm; None leaves it.
    averaging : float, optional
        Keep a moving average of the weights with this decay, such as 0.999, smaller in the first steps; validation and
        the end of the run see the average in place of the last weights (Polyak and Juditsky 1992).
    accumulation : int
        Batches a step on each device.
    precision, device : str, optional
        As in `companion.support.devices`.
    seed : int
        Seeds dropout, in every batch anew.
    minutes : float, optional
        Save and stop after this time; `resume` goes on.
    log_every, validate_every, save_every : int
        In steps; 0 means never (of saving: only at the end or when stopped).
    workers : int
        Processes that prepare batches; 0 prepares them in this one.
    compile : bool
        Run the model through `torch.compile`.

    Raises
    ------
    ValueError
        If a value is out of range; the message names it.
    """

    steps: int
    learning_rate: float = 1e-4
    schedule: str = "linear"
    warmup_share: float = 0.1
    decay_share: float = 0.2
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    max_grad_norm: float | None = 1.0
    averaging: float | None = None
    accumulation: int = 1
    precision: str | None = None
    device: str | None = None
    seed: int = 0
    minutes: float | None = None
    log_every: int = 50
    validate_every: int = 0
    save_every: int = 0
    workers: int = 0
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "accumulation"):
            _require(getattr(self, name) > 0, self, name, "an integer above 0")
        for name in ("log_every", "validate_every", "save_every", "workers", "seed"):
            _require(getattr(self, name) >= 0, self, name, "an integer of 0 or more")
        for name in ("warmup_share", "decay_share"):
            _require(0 <= getattr(self, name) <= 1, self, name, "a share in [0, 1]")
        _require(self.learning_rate > 0, self, "learning_rate", "a number above 0")
        _require(self.weight_decay >= 0, self, "weight_decay", "a number of 0 or more")
        _require(self.max_grad_norm is None or self.max_grad_norm > 0, self, "max_grad_norm", "None or above 0")
        _require(self.averaging is None or 0 < self.averaging < 1, self, "averaging", "None or in (0, 1)")
        _require(self.minutes is None or self.minutes > 0, self, "minutes", "None or above 0")
        _require(self.schedule in SCHEDULES, self, "schedule", f"one of {', '.join(SCHEDULES)}")


def _require(condition: bool, settings: TrainingSettings, name: str, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{name}={getattr(settings, name)!r} is not allowed; it must be {allowed}")
