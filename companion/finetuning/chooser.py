"""Which of several choices belongs to a text: an estimator in the manner of scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from companion.config import BertConfig
from companion.finetuning.base import FineTuned
from companion.finetuning.choices import (
    ChoiceBatches,
    ChoiceObjective,
    OneByOne,
    Question,
    encode_choices,
    pairs_of,
    read_choices,
    read_questions,
)
from companion.finetuning.stored import NOT_FITTED
from companion.finetuning.targets import Targets
from companion.finetuning.texts import warn_of_truncation
from companion.model.heads import BertForMultipleChoice
from companion.support.devices import process_count
from companion.text.tokenizer import Tokenizer
from companion.training.batching import Rows
from companion.training.objective import Objective


class MultipleChoice(FineTuned):
    """Fine-tune a pre-trained BERT to choose what belongs to a text: an answer, an ending, a cause.

    Every choice is read with the text as a pair and gets one score; the softmax is over the choices of a question
    (Devlin et al. 2019, section 4.4). Questions may differ in the number of their choices, and the order of the
    choices changes no score.

    Its parameters are those of `companion.finetuning.classifier.TextClassifier`, but for `class_weight`, `truncation`
    and `stride`: of a pair that is longer than `max_length` the longer text is truncated, with a warning. `batch_size`
    counts questions.

    Attributes
    ----------
    model_ : BertForMultipleChoice
    history_ : companion.training.history.History
        Every step's `loss`, `choosing_accuracy`, `learning_rate` and `grad_norm` and, after every epoch with
        validation, `validation_loss` (nats per question) and `validation_accuracy`. None after `load`.
    tokenizer_, learning_rate_, n_iter_, best_epoch_
        As in `TextClassifier`.

    Examples
    --------
    >>> from companion.finetuning import MultipleChoice
    >>> questions = [("It rained.", ["We got wet.", "We ate."]), ("We were hungry.", ["We got wet.", "We ate."])] * 8
    >>> chooser = MultipleChoice("mini", epochs=8, batch_size=4, learning_rate=1e-3).fit(questions, [0, 1] * 8)
    >>> chooser.predict(questions[:2]).tolist()
    [0, 1]
    """

    MODEL = BertForMultipleChoice

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        validation: tuple[Any, Any] | None = None,
        checkpoint: str | Path | None = None,
    ) -> Self:
        """Train on questions.

        Parameters
        ----------
        X : iterable of (str, sequence of str)
            Texts and their choices.
        y : iterable of int or str
            The right choice of every text: its number, counted from 0, or the choice itself.
        sample_weight, validation, checkpoint
            As in `TextClassifier.fit`.

        Raises
        ------
        TypeError, ValueError
            If an item is not of this form, a label is no choice, the counts differ, or a parameter is not allowed;
            names its index.
        """
        return super().fit(X, y, sample_weight, validation, checkpoint)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the number of the best choice of every text, (texts,)."""
        return super().predict(X)

    def predict_proba(self, X: Any) -> list[np.ndarray]:  # noqa: N803
        """Return the probability of every choice: for each text an array (choices,)."""
        outputs, rows, items = self._predicted(X)
        return [scores.softmax(0).numpy() for scores in _by_question(outputs, items)]

    def score(self, X: Any, y: Any) -> float:  # noqa: N803
        """Return the accuracy."""
        check_is_fitted(self, "model_", msg=NOT_FITTED)
        items = self._read("X", X)
        return float(np.mean(self.predict(items) == read_choices("y", y, items)))

    # What the base asks for.

    def read_labels(self, texts: Any, labels: Any) -> list[int]:
        """Return the number of the right choice of every text, after checking that it is one."""
        return self._labels_of("y", labels, self._read("X", texts))

    def _labels_of(self, name: str, labels: Any, items: list[Question]) -> list[int]:
        return read_choices(name, labels, items)

    def _read(self, name: str, texts: Any) -> list[Question]:
        return read_questions(name, texts)

    def _targets(self, labels: Any, count: int, learned: Mapping[str, Any] | None = None) -> Targets:
        return Targets({"labels": np.asarray(labels, dtype=np.int64)}, {"labels": (), "problem_type": None})

    def _encode(self, tokenizer: Tokenizer, items: list[Question], targets: Targets | None = None) -> Rows:
        rows = encode_choices(tokenizer, items, self.max_length)
        return rows if targets is None else {**rows, **targets.columns}

    def _warn(self, tokenizer: Tokenizer, items: list[Question], rows: Rows) -> None:
        warn_of_truncation(tokenizer, pairs_of(items), rows, self.max_length)

    def _batches(
        self, rows: Rows, tokenizer: Tokenizer, weights: np.ndarray | None, seed: int, parts: int = 1
    ) -> ChoiceBatches:
        columns = dict(rows) if weights is None else {**rows, "weights": weights}
        options: dict[str, Any] = {"pad_id": tokenizer.pad_id, "world_size": parts * process_count()}
        return ChoiceBatches(columns, self.batch_size, seed=seed, **options)

    def _objective(self, config: BertConfig) -> Objective:
        return ChoiceObjective()

    def _outputs(self, model: Any, rows: Rows, tokenizer: Tokenizer) -> Tensor:
        """Return the score of every choice, (rows,)."""
        return super()._outputs(OneByOne(model), rows, tokenizer).squeeze(1).double()

    def _decode(self, outputs: Tensor, rows: Rows, items: list[Question]) -> np.ndarray:
        return np.array([int(scores.argmax()) for scores in _by_question(outputs, items)])

    def _score_validation(
        self, targets: Targets, outputs: Tensor, rows: Rows, items: list[Question]
    ) -> dict[str, float]:
        truth = targets.columns["labels"]
        losses = [
            -scores.log_softmax(0)[number].item()
            for scores, number in zip(_by_question(outputs, items), truth.tolist(), strict=True)
        ]
        correct = self._decode(outputs, rows, items) == truth
        return {"validation_loss": float(np.mean(losses)), "validation_accuracy": float(correct.mean())}


def _by_question(scores: Tensor, items: list[Question]) -> tuple[Tensor, ...]:
    """Return the scores of the choices of every question."""
    return torch.split(scores, [len(one.choices) for one in items])
