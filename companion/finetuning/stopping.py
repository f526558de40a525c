"""Early stopping: the weights of the best epoch, and when to give up hoping for a better one."""

from __future__ import annotations

import math

from torch import Tensor, nn

from companion.finetuning.resuming import KeptTraining
from companion.training.loop import History


class EarlyStopping:
    """Watches the loss on a validation set, which `companion.training.loop.train` measures after every epoch.

    Parameters
    ----------
    patience : int
        Epochs without a better loss after which `on_step` asks to stop.
    kept : KeptTraining, optional
        Where the best weights are kept, and found again by a training that goes on.
    epochs_done : int
        Those of the checkpoint that it goes on from.

    Attributes
    ----------
    best_epoch : int
        Counted from 1; 0 before the first.
    best_loss : float
    """

    def __init__(self, patience: int, kept: KeptTraining | None = None, epochs_done: int = 0) -> None:
        self.patience, self.kept = patience, kept or KeptTraining(None)
        self.epoch, self.best_epoch = epochs_done, 0
        self.best_loss = math.inf
        self.weights: dict[str, Tensor] = {}
        if best := self.kept.read_best():
            self.weights, self.best_epoch, self.best_loss = best

    def note(self, model: nn.Module, loss: float) -> None:
        """Take over the loss of another epoch and, if it is the best one so far, a copy of the weights."""
        self.epoch += 1
        if loss < self.best_loss or not self.weights:
            self.best_loss, self.best_epoch = loss, self.epoch
            weights = model.state_dict().items()
            self.weights = {name: weight.detach().clone() for name, weight in weights}
            self.kept.write_best(self.weights, self.epoch, loss)

    def on_step(self, history: History) -> bool:
        """Return whether the last `patience` epochs brought nothing better."""
        return self.epoch - self.best_epoch >= self.patience

    def restore(self, model: nn.Module) -> None:
        """Give the model the weights of the best epoch."""
        model.load_state_dict(self.weights)
