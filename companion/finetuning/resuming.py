"""A training of an estimator that can be stopped and gone on with: what is kept of it, and which `fit` may go on."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
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
from companion.training.checkpoint import CHECKPOINT, has_checkpoint, read_progress

BEST, LOG, SAVE_EVERY = "best.safetensors", "log.jsonl", 500
# Parameters that the settings of the training hold already, or that change nothing of what is learned.
ELSEWHERE = {"model", "epochs", "learning_rate", "warmup_share", "weight_decay", "random_state", "device", "precision"}
ELSEWHERE |= {"progress"}


class KeptTraining:
    """The folder in which a `fit` is kept until it is done; without a folder, nothing is kept.

    Parameters
    ----------
    folder : str or Path, optional
        For `checkpoint/`, the log and, with early stopping, the weights of the best epoch.

    Attributes
    ----------
    step : int
        Steps that the checkpoint has; 0 without one.
    parts : int
        Parts in which each step was taken; 1 without a checkpoint.
    """

    def __init__(self, folder: str | Path | None) -> None:
        allowed = "None or the path of a folder"
        require("checkpoint", folder, folder is None or isinstance(folder, str | os.PathLike), allowed)
        self.folder = None if folder is None else Path(folder)
        self.step, self.parts = 0, 1
        if self.resumes and self.folder is not None:
            progress = read_progress(self.folder / CHECKPOINT)
            self.step, self.parts = progress["step"], max(1, progress["batches_per_step"] // process_count())

    @property
    def resumes(self) -> bool:
        """Whether there is a training to go on with."""
        return self.folder is not None and has_checkpoint(self.folder)

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
        identity = _identity(estimator, columns, () if held_out is None else held_out[0])
        return {"folder": self.folder, "resume": self.resumes, "identity": identity}

    def write_best(self, weights: Mapping[str, Tensor], epoch: int, loss: float) -> None:
        """Keep the weights of the best epoch so far."""
        if self.folder is not None and is_main_process():
            with atomic_file(self.folder / BEST) as file:
                tensors = {name: weight.cpu().clone() for name, weight in weights.items()}
                save_file(tensors, file, metadata={"epoch": str(epoch), "loss": repr(loss)})

    def read_best(self) -> tuple[dict[str, Tensor], int, float] | None:
        """Return the weights of the best epoch, its number and its loss; None if none is kept."""
        path = None if self.folder is None else self.folder / BEST
        if path is None or not self.resumes or not path.is_file():
            return None
        with safe_open(path, "pt") as file:
            told = file.metadata()
        return load_file(path), int(told["epoch"]), float(told["loss"])

    def clear(self) -> None:
        """Remove what is kept, and the folder if nothing else is in it."""
        if self.folder is None or not self.folder.is_dir() or not is_main_process():
            return
        shutil.rmtree(self.folder / CHECKPOINT, ignore_errors=True)
        for name in (BEST, LOG):
            (self.folder / name).unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()
        self.step, self.parts = 0, 1


def _identity(estimator: Any, columns: Mapping[str, Any], held_out: Sequence[Any]) -> dict[str, Any]:
    """Return what a checkpoint must share with a `fit` that goes on from it."""
    parameters = {
        name: value if isinstance(value, str | int | float | bool | None) else repr(value)
        for name, value in estimator.get_params().items()
        if name not in ELSEWHERE
    }
    digest = hashlib.sha256()
    for name in sorted(columns):
        digest.update(repr((name, len(columns[name]))).encode())
        for value in columns[name]:
            digest.update(np.asarray(value).tobytes())
    return {
        "estimator": type(estimator).__name__,
        **parameters,
        "model_checksum": weights_checksum(locate(estimator.model)),
        "data_checksum": digest.hexdigest(),
        "validation_checksum": hashlib.sha256(repr(list(held_out)).encode()).hexdigest(),
    }
