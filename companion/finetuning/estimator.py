"""What the fine-tuned estimators share: parameters, a pre-trained network under a new head, prediction, saving."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from companion.checkpoints import WEIGHT_FILES, from_transformers, load_weights, read_weights, resolve
from companion.config import BertConfig
from companion.devices import autocast, precision_for, seed_everything
from companion.files import atomic_folder
from companion.finetuning.batching import (
    GroupedBatches,
    Rows,
    as_arrays,
    pad_rows,
    row_lengths,
    sorted_batches,
    take_rows,
)
from companion.heads import BertWithHead
from companion.tokenizer import Tokenizer
from companion.training import TrainingSettings

Model = TypeVar("Model", bound=BertWithHead)
HIGHEST_LEARNING_RATE = 3e-4
WRITTEN = {"config.json", WEIGHT_FILES[0], "vocab.txt", "tokenizer.json", "tokenizer_config.json"}


class FineTuned(BaseEstimator):
    """The parameters of every fine-tuned estimator and what follows from them; `TextClassifier` describes each."""

    def __init__(
        self,
        model: str | Path = "mini",
        *,
        epochs: int = 3,
        learning_rate: float | None = None,
        batch_size: int = 32,
        max_length: int = 128,
        warmup_share: float = 0.1,
        weight_decay: float = 0.01,
        seed: int = 0,
        device: str | None = None,
        precision: str | None = None,
        from_scratch: bool = False,
        progress: bool = False,
    ) -> None:
        self.model = model
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_length = max_length
        self.warmup_share = warmup_share
        self.weight_decay = weight_decay
        self.seed = seed
        self.device = device
        self.precision = precision
        self.from_scratch = from_scratch
        self.progress = progress

    def _start(self, model_class: type[Model], **changes: Any) -> tuple[Model, Tokenizer]:
        """Return the network to train and its tokenizer."""
        model = with_new_head(model_class, self.model, seed=self.seed, from_scratch=self.from_scratch, **changes)
        tokenizer = Tokenizer.from_pretrained(self.model)
        positions = model.config.max_position_embeddings
        if self.max_length > positions:
            raise ValueError(
                f"max_length={self.max_length} is above the {positions} positions of {str(self.model)!r}; lower it"
            )
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ValueError(
                f"model={str(self.model)!r} has {model.config.vocab_size} token embeddings, its tokenizer "
                f"{tokenizer.vocab_size} tokens; the two do not belong together"
            )
        return model, tokenizer

    def _batches(self, rows: Rows, tokenizer: Tokenizer) -> GroupedBatches:
        shares = int(os.environ.get("WORLD_SIZE", "1"))  # set by torchrun and accelerate where several processes train
        return GroupedBatches(rows, self.batch_size, seed=self.seed, pad_id=tokenizer.pad_id, shares=shares)

    def _settings(self, config: BertConfig, steps_per_epoch: int, validated: bool) -> TrainingSettings:
        if self.epochs < 1 or int(self.epochs) != self.epochs:
            raise ValueError(f"epochs={self.epochs!r} is not allowed; it must be an integer above 0")
        rate = self.learning_rate
        return TrainingSettings(
            steps=int(self.epochs) * steps_per_epoch,
            learning_rate=default_learning_rate(config.hidden_size) if rate is None else rate,
            warmup_share=self.warmup_share,
            weight_decay=self.weight_decay,
            seed=self.seed,
            device=self.device,
            precision=self.precision,
            log_every=1,
            validate_every=steps_per_epoch if validated else 0,
        )

    def _save(self, folder: str | Path, name: str, content: dict[str, Any]) -> None:
        """Write network, tokenizer and, as file `name`, `content` with the parameters: all at once or nothing."""
        folder = Path(folder)
        _refuse_other_files(folder, WRITTEN | {name})
        parameters = {key: value for key, value in self.get_params().items() if key != "device"}
        text = json.dumps(content | {"parameters": parameters}, indent=2, default=_plain)
        with atomic_folder(folder) as temporary:
            self.model_.save_pretrained(temporary)
            self.tokenizer_.save_pretrained(temporary)
            (temporary / name).write_text(text + "\n", encoding="utf-8")


def with_new_head(
    model_class: type[Model], name: str | Path, *, seed: int = 0, from_scratch: bool = False, **changes: Any
) -> Model:
    """Return a model whose encoder is pre-trained and whose head is new.

    Parameters
    ----------
    model_class : type
        One of the models of `companion.heads`.
    name : str or Path
        A bundled name, a folder or a hub id, as in `from_pretrained`. A head that it may have is not used.
    seed : int
        Of the new weights; they are those that `seed_everything(seed)` and `model_class(config)` give.
    from_scratch : bool
        Take only the shape of the network; all weights are new.
    **changes
        Entries of `BertConfig` to set otherwise than on file, such as `labels`.

    Returns
    -------
    model_class
        In evaluation mode, on the CPU. The generators of the caller are left as they were.

    Raises
    ------
    FileNotFoundError
        If there is no such checkpoint.
    ValueError
        If its weights do not fit.
    """
    folder = resolve(name)
    config = BertConfig.from_file(folder / "config.json").replace(**changes)
    with generators_kept():
        seed_everything(seed)
        model = model_class(config)
    if not from_scratch:
        load_weights(model.bert, from_transformers(read_weights(folder)), source=str(name))
    return model.eval()


def default_learning_rate(hidden_size: int) -> float:
    """Return 3e-4 for networks up to 256 wide, and less in proportion to the square of the width beyond.

    This is near what was found best: 2e-5 to 5e-5 for BERT-base and BERT-large, which are 768 and 1024 wide (Devlin
    et al. 2019, appendix A.3), 3e-5 to 3e-4 for smaller ones (Turc et al. 2019).
    """
    return HIGHEST_LEARNING_RATE * min(1.0, 256 / hidden_size) ** 2


@torch.inference_mode()
def predicted_logits(
    model: BertWithHead, rows: Rows, *, batch_size: int = 32, pad_id: int = 0, precision: str | None = None
) -> Tensor:
    """Return the logits of a model with one output a row, (rows, labels), in fp32, on the CPU.

    Parameters
    ----------
    model : BertForSequenceClassification
        Is put into evaluation mode.
    rows : mapping of str to sequence
        The columns that `model` takes, as in `GroupedBatches`.
    batch_size, pad_id, precision
        As in `TextClassifier`.
    """
    model.eval()
    columns = as_arrays(rows)
    device = next(model.parameters()).device
    logits = torch.empty(len(columns["input_ids"]), model.config.num_labels)
    with autocast(device, precision_for(device, precision)):
        for indices in sorted_batches(row_lengths(columns), batch_size):
            batch = pad_rows(take_rows(columns, indices), pad_id=pad_id)
            batch = {name: value.to(device) for name, value in batch.items()}
            logits[indices] = model(**batch).logits.float().cpu()
    return logits


@contextmanager
def generators_kept() -> Iterator[None]:
    """Give the generators of Python, NumPy and PyTorch (CPU and CUDA) their state back when the block ends."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _refuse_other_files(folder: Path, ours: set[str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder={str(folder)!r} is a file; pass the path of a new or empty folder")
    others = sorted(path.name for path in folder.glob("*") if path.name not in ours)
    if others:
        raise ValueError(
            f"folder={str(folder)!r} holds other files ({', '.join(others[:3])}), which saving would remove; pass the "
            "path of a new or empty folder"
        )


def _plain(value: Any) -> Any:
    """Turn what JSON does not know into what it does: numbers of NumPy, paths."""
    return value.item() if isinstance(value, np.generic) else str(value)
