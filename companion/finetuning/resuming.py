"""A training of an estimator that can be stopped and gone on with: what is kept of it, and which `fit` may go on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from companion.model.checkpoints import weights_checksum
from companion.support.devices import is_main_process, process_count
from companion.support.files import atomic_file
from companion.support.locate import locate
from companion.support.require import require
from companion.training.checkpoint import find_checkpoint, read_progress, remove_checkpoint

BEST, SAVE_EVERY = "best.safetensors", 500
# Parameters that the settings of the training hold already, or that change nothing of what is learned.
ELSEWHERE = "model epochs learning_rate warmup_share weight_decay random_state device precision progress".split()


class KeptTraining:
    """The folder in which a `fit` is kept until it is done; without a folder, nothing is kept.

    Parameters
    ----------
    folder : str or Path, optional
        For `checkpoint/`, the log and, with early stopping, the weights of the best epoch.

    Attributes
    ----------
    resumes : bool
        Whether there is a training to go on with.
    step : int
        Steps that it has done; 0 without one.
    parts : int
        Parts in which each step was taken; 1 without one.
    """

    def __init__(self, folder: str | Path | None) -> None:
        allowed = "None or the path of a folder"
        require("checkpoint", folder, folder is None or isinstance(folder, str | os.PathLike), allowed)
        self.folder = None if folder is None else Path(folder)
        self.resumes, self.step, self.parts = False, 0, 1
        if self.folder is not None and (found := find_checkpoint(self.folder)):
            progress = read_progress(found)
            self.resumes, self.step = True, progress["step"]
            self.parts = max(1, progress["batches_per_step"] // process_count())

    def options(self, estimator: Any, columns: Mapping[str, Any], held_out: Any) -> dict[str, Any]:
        """Return what `companion.training.loop.train` is told of it.

        Parameters
        ----------
        estimator : estimator
        columns : mapping
            Of the rows that are trained on.
        held_out : tuple or None
            The texts to validate on, and their targets.
        """
        if self.folder is None:
            return {}
        return {"folder": self.folder, "resume": self.resumes, "identity": _identity(estimator, columns, held_out)}

    def write_best(self, weights: Mapping[str, Tensor], epoch: int, loss: float) -> None:
        """Keep the weights of the best epoch so far."""
        if self.folder is not None and is_main_process():
            with atomic_file(self.folder / BEST) as file:
                tensors = {name: weight.cpu().clone() for name, weight in weights.items()}
                save_file(tensors, file, metadata={"epoch": str(epoch), "loss": repr(loss)})

    def read_best(self) -> tuple[dict[str, Tensor], int, float] | None:
        """Return the weights of the best epoch, its number and its loss; None if none is kept."""
        if self.folder is None or not self.resumes or not (path := self.folder / BEST).is_file():
            return None
        with safe_open(path, "pt") as file:
            told = file.metadata()
        return load_file(path), int(told["epoch"]), float(told["loss"])

    def clear(self) -> None:
        """Remove what is kept, and the folder if nothing else is in it."""
        self.resumes, self.step, self.parts = False, 0, 1
        if self.folder is None or not self.folder.is_dir() or not is_main_process():
            return
        remove_checkpoint(self.folder)
        (self.folder / BEST).unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


def _identity(estimator: Any, columns: Mapping[str, Any], held_out: Any) -> dict[str, Any]:
    """Return what a checkpoint must share with a `fit` that goes on from it."""
    parameters = {
        name: value if isinstance(value, str | int | float | bool | None) else repr(value)
        for name, value in estimator.get_params().items()
        if name not in ELSEWHERE
    }
    texts, targets = held_out or ((), None)
    return {
        "estimator": type(estimator).__name__,
        **parameters,
        "model_checksum": weights_checksum(locate(estimator.model)),
        "data_checksum": _checksum(columns),
        "validation_checksum": _checksum({"texts": texts, **(targets.columns if targets else {})}),
    }


def _checksum(columns: Mapping[str, Any]) -> str:
    """Return a SHA-256 of columns of arrays or of other values, one entry for each text."""
    digest = hashlib.sha256()
    for name in sorted(columns):
        digest.update(repr((name, len(columns[name]))).encode())
        for value in columns[name]:
            if isinstance(value, np.ndarray | np.generic):
                digest.update(f"{value.dtype} {value.shape}".encode() + value.tobytes())
            else:
                digest.update(repr(value).encode())
    return digest.hexdigest()
