"""Dropout, in the form that is fastest on the device it runs on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 1 << 16  # a mask entry is kept when a random 16-bit number is at least `round(p * LEVELS)`


def dropout(values: Tensor, p: float, training: bool = True) -> Tensor:
    """Set each entry to zero with probability `p` and divide the others by `1 - p` (Srivastava et al. 2014).

    PyTorch's CPU generator draws one number per entry. Here one 64-bit draw decides over four entries, so that on a CPU
    `p` is rounded to a multiple of 1/65,536. On other devices this is `torch.nn.functional.dropout`.

    Parameters
    ----------
    values : Tensor
        Of any shape, of a floating-point dtype.
    p : float
        Probability in [0, 1).
    training : bool
        False returns `values` as they are.

    Returns
    -------
    Tensor
        Of the shape and dtype of `values`; its expectation is `values`.
    """
    if not training or p == 0.0:
        return values
    if values.device.type != "cpu":
        return F.dropout(values, p)
    dropped = min(round(p * LEVELS), LEVELS - 1)
    draws = torch.empty((values.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)  # (entries / 4,)
    halves = draws.view(torch.int16)[: values.numel()].view(values.shape)  # the shape of values
    scale = 1.0 / (1.0 - dropped / LEVELS)
    kept = halves.ge_(dropped - LEVELS // 2)  # 1 or 0, still in 16 bits: from bool, PyTorch converts far more slowly
    return values * kept.to(values.dtype).mul_(scale)


class Dropout(nn.Module):
    """`dropout` as a layer: active in training mode only."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        """Return `values`, in training mode with entries dropped."""
        return dropout(values, self.p, self.training)

    def extra_repr(self) -> str:
        """Return what `print` shows between the brackets."""
        return f"p={self.p}"
