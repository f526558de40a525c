"""The settings of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from companion.support.require import boolean, choice, integer, number, require

PRECISIONS = (None, "auto", "fp32", "bf16", "fp16")
OPTIMIZERS = ("adamw", "muon")
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
    optimizer : {"adamw", "muon"}
        Muon (Jordan 2024) makes the update of every matrix between hidden layers orthogonal; AdamW changes the rest.
        It needs PyTorch 2.9.
    weight_decay : float
        Decoupled (Loshchilov and Hutter 2019), on weight matrices and embeddings; never on biases and LayerNorm.
    betas, eps : (float, float), float
        AdamW's moving averages and the number in its denominator.
    max_grad_norm : float, optional
        The gradient is scaled down to this norm; None leaves it.
    ema_decay : float, optional
        Keep a moving average of the weights with this decay, such as 0.999, smaller in the first steps; validation and
        the end of the run see the average in place of the last weights (Polyak and Juditsky 1992).
    accumulation : int
        Batches per step on each device.
    precision, device : str, optional
        As in `companion.support.devices`.
    seed : int
        Seeds dropout, again in every batch.
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
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    max_grad_norm: float | None = 1.0
    ema_decay: float | None = None
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
            self._set(name, integer(name, getattr(self, name), 1))
        for name in ("log_every", "validate_every", "save_every", "workers", "seed"):
            self._set(name, integer(name, getattr(self, name), 0))
        for name in ("warmup_share", "decay_share"):
            self._set(name, number(name, getattr(self, name), "a share in [0, 1]", minimum=0, maximum=1))
        for name in ("learning_rate", "eps"):
            self._set(name, number(name, getattr(self, name), above=0))
        self._set("weight_decay", number("weight_decay", self.weight_decay, minimum=0))
        for name in ("max_grad_norm", "minutes"):
            self._set_optional(name, "None or a number above 0", above=0)
        self._set_optional("ema_decay", "None or a number in (0, 1)", above=0, below=1)
        self._set("betas", _betas(self.betas))
        self._set("compile", boolean("compile", self.compile))
        choice("schedule", self.schedule, SCHEDULES)
        choice("optimizer", self.optimizer, OPTIMIZERS)
        choice("precision", self.precision, PRECISIONS)
        if self.device is not None:
            from companion.support.devices import device_named  # brings PyTorch, which settings alone do not need

            self._set("device", device_named(self.device))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the class is frozen

    def _set_optional(self, name: str, allowed: str, **limits: float) -> None:
        if getattr(self, name) is not None:
            self._set(name, number(name, getattr(self, name), allowed, **limits))


def _betas(betas: Any) -> tuple[float, float]:
    allowed = "two numbers in [0, 1)"
    require("betas", betas, isinstance(betas, Sequence) and not isinstance(betas, str) and len(betas) == 2, allowed)
    first, second = (number("betas", beta, allowed, minimum=0, below=1) for beta in betas)
    return first, second
