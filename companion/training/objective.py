"""What a training minimises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

Batch = Mapping[str, Tensor]


class Objective(Protocol):
    """What is trained for. Every loss is a sum over something that can be counted before the model runs."""

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Return, for every loss, over how many labels it sums in this batch."""

    def sums(self, model: nn.Module, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the sum of every loss, and sums to be logged beside them, such as correct answers: one named
        `mlm_accuracy` is divided by the count of the loss `mlm`.
        """
