"""A number for a text or a pair of texts: a scikit-learn regressor on a pre-trained BERT."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import RegressorMixin
from torch import Tensor, nn
from torch.nn import functional as F

from companion.finetuning.base import TextEstimator
from companion.finetuning.metrics import as_list, pearson, spearman
from companion.finetuning.texts import Texts, read_texts
from companion.model.heads import BertForSequenceClassification
from companion.text.tokenizer import Tokenizer
from companion.training.objective import Batch, Sums

Numbers = Sequence[float] | np.ndarray


class RegressionObjective:
    """Squared error over the rows of a batch, for `companion.training.loop.train`."""

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the number of rows."""
        return {"regression": torch.tensor(len(batch["labels"]), device=batch["labels"].device)}

    def sums(self, model: BertForSequenceClassification, batch: Batch) -> dict[str, Sums]:
        """Return the summed squared error."""
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        predicted = model(**inputs).logits.float().squeeze(-1)  # (batch,)
        return {"regression": Sums(F.mse_loss(predicted, batch["labels"].float(), reduction="sum"))}


class TextRegressor(RegressorMixin, TextEstimator):
    """Fine-tune a pre-trained BERT to give texts, or pairs of texts, a number, such as how alike two sentences are.

    The numbers are brought to mean 0 and standard deviation 1 for training, so that one learning rate serves every
    scale; afterwards the head is scaled back, and the saved network gives the numbers themselves.

    Parameters
    ----------
    model, epochs, learning_rate, batch_size, max_length, warmup_share, weight_decay, dropout, seed, device, \
precision, from_scratch, progress
        As in `companion.finetuning.classifier.TextClassifier`.

    Attributes
    ----------
    model_ : BertForSequenceClassification
        With one output.
    tokenizer_ : Tokenizer
    history_ : companion.training.loop.History
        Every step's `loss` (squared error, in variances of the labels), `learning_rate` and `grad_norm` and, after
        every epoch with `validation`, `validation_loss` (the same), `validation_pearson` and `validation_spearman`.
        None after `load`.
    learning_rate_, n_iter_
        As in `TextClassifier`.

    Examples
    --------
    >>> from companion.finetuning import TextRegressor
    >>> regressor = TextRegressor("mini", epochs=4).fit(pairs, scores)  # doctest: +SKIP
    >>> regressor.predict([("A plane is taking off.", "An air plane is taking off.")])  # doctest: +SKIP
    """

    FILE, KIND = "regressor.json", "regression"

    def fit(self, texts: Texts, labels: Numbers, validation: tuple[Texts, Numbers] | None = None) -> Self:
        """Train on texts with numbers.

        Parameters
        ----------
        texts : sequence of str, or of (str, str)
            As in `TextClassifier.fit`.
        labels : sequence of float
            One for every text.
        validation : (texts, labels), optional
            Measured on after every epoch.

        Raises
        ------
        TypeError
            If an item is not a str or a pair of str; names its index.
        ValueError
            If nothing is given, the counts differ, a label is not a finite number, all of them are equal, or a
            parameter is out of range.
        KeyboardInterrupt
            If the training was stopped; the estimator is then as it was before.
        """
        numbers = read_numbers(labels, len(read_texts(texts)[0]))
        mean, deviation = float(numbers.mean()), float(numbers.std())
        if deviation == 0:
            raise ValueError(f"labels are all {numbers[0]:g}; a regressor needs at least two different numbers")
        model, tokenizer = self._start(BertForSequenceClassification, num_labels=1, labels=(), problem_type=self.KIND)
        rows = self._encode(tokenizer, texts) | {"labels": ((numbers - mean) / deviation).astype(np.float32)}
        validate = None if validation is None else self._validator(tokenizer, *validation, mean, deviation)
        self._train(model, tokenizer, rows, RegressionObjective(), validate)
        scale_head(model.classifier, mean, deviation)
        return self

    def predict(self, texts: Texts) -> np.ndarray:
        """Return the number of every text, (texts,)."""
        return self._logits(texts).squeeze(-1).double().numpy()

    def score(self, texts: Texts, labels: Numbers) -> float:
        """Return the coefficient of determination, 1 - (squared error / variance of the labels)."""
        return super().score(texts, as_list(labels))

    def save(self, folder: str | Path) -> None:
        """Write the network (Transformers' format), its tokenizer and `regressor.json` into a new or empty folder.

        A regressor that was saved there before is replaced, whole and at once.

        Raises
        ------
        ValueError
            If the folder holds other files.
        """
        self._check_fitted()
        self._save(folder, self.FILE, {})

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Self:
        """Return a saved regressor, ready to predict.

        Parameters
        ----------
        folder : str or Path
            Written by `save`; or any folder or hub id of a BERT for sequence classification in Transformers' format
            that has one output.
        device : str, optional
            None means the best one there is.

        Raises
        ------
        FileNotFoundError
            If there is no such checkpoint.
        ValueError
            If it is not a regressor.
        """
        return cls._load(folder, device)[0]

    def _validator(self, tokenizer: Tokenizer, texts: Texts, labels: Numbers, mean: float, deviation: float) -> Any:
        """Return the function that measures a model on the validation set."""
        truth = (read_numbers(labels, len(read_texts(texts)[0])) - mean) / deviation
        rows = self._encode(tokenizer, texts)

        def validate(model: BertForSequenceClassification) -> dict[str, float]:
            predicted = self._predicted(model, rows, tokenizer).squeeze(-1).double().numpy()
            return {
                "validation_loss": float(((predicted - truth) ** 2).mean()),
                "validation_pearson": pearson(truth, predicted),
                "validation_spearman": spearman(truth, predicted),
            }

        return validate


def read_numbers(labels: Numbers, count: int) -> np.ndarray:
    """Return labels as an array of float, (count,).

    Raises
    ------
    ValueError
        If there are not `count`, or one is not a finite number; names its index.
    """
    items = as_list(labels)
    if len(items) != count:
        raise ValueError(f"labels has {len(items)} items, texts has {count}; every text needs one label")
    for index, label in enumerate(items):
        if not isinstance(label, int | float) or not math.isfinite(label):
            raise ValueError(f"labels[{index}]={label!r} is no finite number; a regressor learns from numbers only")
    return np.array(items, dtype=np.float64)


@torch.no_grad()
def scale_head(head: nn.Linear, mean: float, deviation: float) -> None:
    """Change a linear layer that gives z into one that gives ``mean + deviation * z``."""
    head.weight.mul_(deviation)
    head.bias.mul_(deviation).add_(mean)
