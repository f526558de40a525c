"""What the estimators share that give something for a whole text: which part of a long one they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from companion.finetuning.base import FineTuned
from companion.finetuning.parameters import shared
from companion.finetuning.targets import Targets
from companion.finetuning.texts import TRUNCATIONS, encode_texts, warn_of_truncation
from companion.model.heads import BertForSequenceClassification
from companion.support.require import choice, integer
from companion.text.tokenizer import Tokenizer
from companion.training.batching import GroupedBatches, Rows


class SequenceEstimator(FineTuned):
    """The base of `TextClassifier`, which describes the parameters, and of `TextRegressor`."""

    MODEL = BertForSequenceClassification

    def __init__(
        self,
        model: str | Path = "mini",
        *,
        epochs: int = 3,
        learning_rate: float | None = None,
        head_learning_rate: float | None = None,
        layer_decay: float = 1.0,
        freeze: str | int | None = None,
        adapter: Any = None,
        batch_size: int = 32,
        max_length: int = 128,
        truncation: str = "head",
        stride: int | None = None,
        warmup_share: float = 0.1,
        weight_decay: float = 0.01,
        dropout: float | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 2,
        random_state: int | np.random.RandomState | None = 0,
        device: str | None = None,
        precision: str | None = None,
        from_scratch: bool = False,
        progress: bool = False,
    ) -> None:
        super().__init__(**shared(locals()))
        self.truncation = truncation
        self.stride = stride

    def _check_parameters(self) -> int:
        seed = super()._check_parameters()
        choice("truncation", self.truncation, TRUNCATIONS)
        if self.stride is not None:
            integer("stride", self.stride, 0, self.max_length - 3)
        return seed

    def _encode(self, tokenizer: Tokenizer, items: list[Any], targets: Targets | None = None) -> Rows:
        rows = encode_texts(tokenizer, items, self.max_length, self.truncation, self.stride)
        columns = {} if targets is None else targets.columns
        if "sample" in rows:
            columns = {name: np.asarray(values)[rows["sample"]] for name, values in columns.items()}
        return {**rows, **columns}

    def _warn(self, tokenizer: Tokenizer, items: list[Any], rows: Rows) -> None:
        if self.truncation != "windows":
            warn_of_truncation(tokenizer, items, rows, self.max_length, " (truncation='windows' reads all)")

    def _batches(
        self, rows: Rows, tokenizer: Tokenizer, weights: np.ndarray | None, seed: int, parts: int = 1
    ) -> GroupedBatches:
        """Return batches in which the windows of a text together count as much as a text that is one."""
        if "sample" in rows:
            windows = np.bincount(rows["sample"])
            if windows.max() > 1:
                weights = (1.0 if weights is None else weights) / windows.astype(np.float32)
        return super()._batches(rows, tokenizer, weights, seed, parts)

    def _outputs(self, model: Any, rows: Rows, tokenizer: Tokenizer) -> Tensor:
        """Return what the head gives for every text, (texts, labels): for several windows, their mean."""
        found = super()._outputs(model, rows, tokenizer)
        if "sample" not in rows:
            return found
        samples = torch.as_tensor(rows["sample"])
        total = found.new_zeros(int(samples[-1]) + 1, found.shape[1])
        return total.index_add(0, samples, found) / samples.bincount()[:, None]
