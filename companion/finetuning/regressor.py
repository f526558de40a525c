"""A number for a text or a pair of texts: a scikit-learn regressor on a pre-trained BERT."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from sklearn.base import RegressorMixin
from torch import Tensor, nn

from companion.config import BertConfig
from companion.finetuning.labels import as_labels
from companion.finetuning.losses import SequenceObjective
from companion.finetuning.metrics import pearson, spearman
from companion.finetuning.sequences import SequenceEstimator
from companion.finetuning.targets import Targets
from companion.model.heads import BertForSequenceClassification
from companion.support.require import shortened
from companion.training.batching import Rows
from companion.training.objective import Objective

Numbers = Iterable[float]
REGRESSION = "regression"


class TextRegressor(RegressorMixin, SequenceEstimator):
    """Fine-tune a pre-trained BERT to give texts, or pairs of texts, a number, such as how alike two sentences are.

    The numbers are brought to mean 0 and standard deviation 1 for training, so that one learning rate serves every
    scale; afterwards the head is scaled back, and the saved network gives the numbers themselves.

    Its parameters are those of `companion.finetuning.classifier.TextClassifier`, but for `class_weight`.

    Attributes
    ----------
    model_ : BertForSequenceClassification
        With one output.
    history_ : companion.training.history.History
        Every step's `loss` (squared error, in variances of the labels), `learning_rate` and `grad_norm` and, after
        every epoch with validation, `validation_loss` (the same), `validation_pearson` and `validation_spearman`.
        None after `load`.
    tokenizer_, pairs_, learning_rate_, n_iter_, best_epoch_
        As in `TextClassifier`.

    Examples
    --------
    >>> from companion.finetuning import TextRegressor
    >>> pairs = [("A plane takes off.", "An air plane is taking off."), ("A man sings.", "Rain fell all night.")] * 8
    >>> regressor = TextRegressor("mini", epochs=5, learning_rate=1e-3).fit(pairs, [5.0, 0.0] * 8)
    >>> near, far = regressor.predict(pairs[:2])
    >>> bool(near > far)
    True
    """

    KINDS = (REGRESSION,)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the number of every text, (texts,)."""
        return super().predict(X)

    def score(self, X: Any, y: Numbers, sample_weight: Any = None) -> float:  # noqa: N803
        """Return the coefficient of determination, 1 - (squared error / variance of the labels)."""
        return super().score(X, read_numbers(y), sample_weight)

    def _targets(self, labels: Numbers, count: int, learned: Mapping[str, Any] | None = None) -> Targets:
        numbers = read_numbers(labels, count, name="y" if learned is None else "validation[1]")
        if learned is None:
            learned = {"mean_": float(numbers.mean()), "deviation_": float(numbers.std())}
        if learned["deviation_"] == 0:
            raise ValueError(
                f"y holds {numbers[0]:g} only, as one sample would; a regressor needs at least two different numbers"
            )
        scaled = ((numbers - learned["mean_"]) / learned["deviation_"]).astype(np.float32)
        return Targets({"labels": scaled}, {"num_labels": 1, "labels": (), "problem_type": REGRESSION}, learned)

    def _objective(self, config: BertConfig) -> Objective:
        return SequenceObjective(REGRESSION)

    def _finish(self, model: BertForSequenceClassification, targets: Targets) -> None:
        scale_head(model.classifier, targets.learned["mean_"], targets.learned["deviation_"])

    def _decode(self, outputs: Tensor, rows: Rows, items: list[Any]) -> np.ndarray:
        return outputs.squeeze(-1).double().numpy()

    def _score_validation(self, targets: Targets, outputs: Tensor, rows: Rows, items: list[Any]) -> dict[str, float]:
        truth, predicted = targets.columns["labels"].astype(np.float64), self._decode(outputs, rows, items)
        return {
            "validation_loss": float(((predicted - truth) ** 2).mean()),
            "validation_pearson": pearson(truth, predicted),
            "validation_spearman": spearman(truth, predicted),
        }


def read_numbers(labels: Numbers, count: int | None = None, name: str = "y") -> np.ndarray:
    """Return labels as an array of float, (count,).

    Raises
    ------
    ValueError
        If there are not `count`, or one is not a finite number; names its index.
    """
    items = as_labels(labels, count, name)
    for index, label in enumerate(items):
        if not isinstance(label, int | float) or not math.isfinite(label):
            raise ValueError(
                f"{name}[{index}]={shortened(label)} is no finite number; a regressor learns from numbers only"
            )
    return np.array(items, dtype=np.float64)


@torch.no_grad()
def scale_head(head: nn.Linear, mean: float, deviation: float) -> None:
    """Change a linear layer that gives z into one that gives ``mean + deviation * z``."""
    head.weight.mul_(deviation)
    head.bias.mul_(deviation).add_(mean)
