"""Early stopping: the weights of the best epoch, and when to give up hoping for a better one."""

from __future__ import annotations

import math

from torch import Tensor, nn

from companion.training.loop import History


class EarlyStopping:
    """Watches the loss on a validation set, which `companion.training.loop.train` measures after every epoch.

    Parameters
    ----------
    patience : int
        Epochs without a better loss after which `on_step` asks to stop.

    Attributes
    ----------
    best_epoch : int
        Counted from 1; 0 before the first.
    best_loss : float
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.epoch = self.best_epoch = 0
        self.best_loss = math.inf
        self.weights: dict[str, Tensor] = {}

    def note(self, model: nn.Module, loss: float) -> None:
        """Take over the loss of another epoch and, if it is the best one so far, a copy of the weights."""
        self.epoch += 1
        if loss < self.best_loss or not self.weights:
            self.best_loss, self.best_epoch = loss, self.epoch
            weights = model.state_dict().items()
            self.weights = {name: weight.detach().clone() for name, weight in weights}

    def on_step(self, history: History) -> bool:
        """Return whether the last `patience` epochs brought nothing better."""
        return self.epoch - self.best_epoch >= self.patience

    def restore(self, model: nn.Module) -> None:
        """Give the model the weights of the best epoch."""
        model.load_state_dict(self.weights)
