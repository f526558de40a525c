"""The answer to a question, as it stands in a text: an estimator in the manner of scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from companion.config import BertConfig
from companion.finetuning.answers import (
    NO_ANSWER,
    Answer,
    answer_f1,
    best_spans,
    exact_match,
    positions_of,
    read_answers,
    windows,
)
from companion.finetuning.base import FineTuned
from companion.finetuning.losses import SpanObjective, span_losses
from companion.finetuning.parameters import shared
from companion.finetuning.stored import NOT_FITTED
from companion.finetuning.targets import Targets
from companion.model.heads import BertForQuestionAnswering
from companion.support.require import integer, number
from companion.text.tokenizer import Tokenizer
from companion.training.batching import Rows
from companion.training.objective import Objective

CANDIDATES = 20  # of a window


class QuestionAnswerer(FineTuned):
    """Fine-tune a pre-trained BERT to find the answer to a question in a text (Devlin et al. 2019, section 4.2).

    Long texts are read in windows that overlap. A window without the answer is taught to answer `[CLS]`, and so is a
    question that its text does not answer (section 4.3).

    Parameters
    ----------
    model, epochs, learning_rate, batch_size, warmup_share, weight_decay, dropout
        As in `companion.finetuning.classifier.TextClassifier`.
    early_stopping, validation_fraction, n_iter_no_change, random_state, device, precision, from_scratch, progress
        As in `TextClassifier`.
    max_length : int
        Tokens of the question and a window of the text, with the three special tokens.
    stride : int, optional
        Tokens of the text that two windows share; None means a third of `max_length`.
    max_answer_length : int
        Tokens of an answer, at most, in `predict`.
    null_threshold : float
        Where questions without answer were trained on: no answer is given if the score of `[CLS]` is above that of the
        best span by more than this.

    Attributes
    ----------
    unanswerable_ : bool
        Whether `fit` saw a question without answer; if not, `predict` always gives one.
    model_ : BertForQuestionAnswering
    history_ : companion.training.history.History
        Every step's `loss`, `answering_accuracy` (both ends right), `learning_rate` and `grad_norm` and, after every
        epoch with validation, `validation_loss`, `validation_exact_match` and `validation_f1`.
    tokenizer_, learning_rate_, n_iter_, best_epoch_
        As in `TextClassifier`.

    Examples
    --------
    >>> from companion.finetuning import QuestionAnswerer
    >>> text = "Anna lives in Rome. Ben works in Oslo."
    >>> questions = ["Where does Anna live?", "Where does Ben work?"]
    >>> pairs, answers = [(question, text) for question in questions] * 8, ["Rome", "Oslo"] * 8
    >>> reader = QuestionAnswerer("mini", epochs=16, batch_size=4, learning_rate=1e-3).fit(pairs, answers)
    >>> reader.predict(pairs[:1])[0].text
    'Rome'
    """

    MODEL = BertForQuestionAnswering
    LABELS = ("start_positions", "end_positions")
    PER_TOKEN = True

    def __init__(
        self,
        model: str | Path = "mini",
        *,
        epochs: int = 2,
        learning_rate: float | None = None,
        head_learning_rate: float | None = None,
        layer_decay: float = 1.0,
        freeze: str | int | None = None,
        adapter: Any = None,
        batch_size: int = 32,
        max_length: int = 384,
        warmup_share: float = 0.1,
        weight_decay: float = 0.01,
        dropout: float | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 2,
        random_state: int | np.random.RandomState | None = 0,
        stride: int | None = None,
        max_answer_length: int = 30,
        null_threshold: float = 0.0,
        device: str | None = None,
        precision: str | None = None,
        from_scratch: bool = False,
        progress: bool = False,
    ) -> None:
        super().__init__(**shared(locals()))
        self.stride = stride
        self.max_answer_length = max_answer_length
        self.null_threshold = null_threshold

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        validation: tuple[Any, Any] | None = None,
        checkpoint: str | Path | None = None,
    ) -> Self:
        """Train on questions with answers.

        Parameters
        ----------
        X : iterable of (str, str)
            Questions and the texts that answer them.
        y : iterable
            The answer of every question: a str that stands in the text; a dict of the form of SQuAD,
            ``{"text": [...], "answer_start": [...]}``, whose first answer is learned; or None where there is none.
        sample_weight, validation, checkpoint
            As in `TextClassifier.fit`.

        Raises
        ------
        TypeError, ValueError
            If an item is no pair, an answer does not stand in its text, the counts differ, or a parameter is not
            allowed; names its index.
        """
        return super().fit(X, y, sample_weight, validation, checkpoint)

    def predict(self, X: Any) -> list[Answer]:  # noqa: N803
        """Return the best answer to every question; an empty text where there is none."""
        return super().predict(X)

    def predict_n_best(self, X: Any, count: int = 5) -> list[list[Answer]]:  # noqa: N803
        """Return the `count` best answers to every question, the best first; an empty text stands for none."""
        integer("count", count, 1, CANDIDATES)
        return [answers[:count] for answers in self._ranked(*self._predicted(X))]

    def evaluate(self, X: Any, y: Any) -> dict[str, float]:  # noqa: N803
        """Return `exact_match` and `f1`, means over the questions in [0, 1], as the official SQuAD script counts."""
        check_is_fitted(self, "model_", msg=NOT_FITTED)
        items = self._read("X", X)
        gold = read_answers("y", y, items)
        return _quality(gold, self._decode(*self._predicted(items)))

    def score(self, X: Any, y: Any) -> float:  # noqa: N803
        """Return the mean F1 of the words of the answers."""
        return self.evaluate(X, y)["f1"]

    # What the base asks for.

    def read_labels(self, texts: Any, labels: Any) -> list[list[Answer]]:
        """Return the gold answers of every question, after checking that they stand in its text."""
        return self._labels_of("y", labels, self._read("X", texts))

    def _labels_of(self, name: str, labels: Any, items: list[Any]) -> list[list[Answer]]:
        return read_answers(name, labels, items)

    def _check_parameters(self) -> int:
        seed = super()._check_parameters()
        integer("max_answer_length", self.max_answer_length, 1)
        number("null_threshold", self.null_threshold)
        if self.stride is not None:
            integer("stride", self.stride, 0, integer("max_length", self.max_length, 5) - 5)
        return seed

    def _read(self, name: str, texts: Any) -> list[tuple[str, str]]:
        items = super()._read(name, texts)
        if not isinstance(items[0], tuple):
            raise TypeError(f"{name}[0] is a str; pass pairs: (question, text)")
        return items

    def _targets(self, labels: Any, count: int, learned: Mapping[str, Any] | None = None) -> Targets:
        learned = learned or {"unanswerable_": not all(labels)}
        return Targets({"answers": labels}, {"num_labels": 2, "labels": (), "problem_type": None}, learned)

    def _encode(self, tokenizer: Tokenizer, items: list[Any], targets: Targets | None = None) -> Rows:
        stride = self.max_length // 3 if self.stride is None else self.stride
        rows = windows(tokenizer, items, self.max_length, min(stride, self.max_length - 5))
        if targets is not None:
            gold = [next(iter(answers), None) for answers in targets.columns["answers"]]
            ends = [positions_of(gold[i], places) for i, places in zip(rows["sample"], rows["offsets"], strict=True)]
            rows |= dict(zip(self.LABELS, np.array(ends, dtype=np.int64).T, strict=True))
        return rows

    def _objective(self, config: BertConfig) -> Objective:
        return SpanObjective()

    def _take(self, output: Any, batch: Any) -> Tensor:
        return torch.stack([output.start_logits, output.end_logits], dim=-1)  # (rows, tokens, 2)

    def _decode(self, outputs: list[Tensor], rows: Rows, items: list[Any]) -> list[Answer]:
        return [answers[0] for answers in self._ranked(outputs, rows, items)]

    def _score_validation(
        self, targets: Targets, outputs: list[Tensor], rows: Rows, items: list[Any]
    ) -> dict[str, float]:
        losses = [
            span_losses(logits[None], *(torch.tensor([rows[name][i]]) for name in self.LABELS))[0].item()
            for i, logits in enumerate(outputs)
        ]
        ranked = self._ranked(outputs, rows, items, targets.learned["unanswerable_"])
        quality = _quality(targets.columns["answers"], [answers[0] for answers in ranked])
        return {"validation_loss": float(np.mean(losses))} | {f"validation_{name}": v for name, v in quality.items()}

    # From logits to answers.

    def _ranked(
        self, outputs: Sequence[Tensor], rows: Rows, items: list[Any], unanswerable: bool | None = None
    ) -> list[list[Answer]]:
        """Return the best answers of every question, the best first, none among them where that is possible."""
        spans: list[dict[tuple[int, int], float]] = [{} for _ in items]
        null = np.full(len(items), np.inf)
        for sample, places, logits in zip(rows["sample"], rows["offsets"], outputs, strict=True):
            values = logits.double().numpy()
            null[sample] = min(null[sample], values[0].sum())  # none, only if every window says so
            for total, start, end in best_spans(values, places, self.max_answer_length, CANDIDATES):
                spans[sample][start, end] = max(total, spans[sample].get((start, end), -np.inf))
        unanswerable = self.unanswerable_ if unanswerable is None else unanswerable
        return [
            self._order(found, float(none), text, unanswerable)
            for found, none, (_, text) in zip(spans, null, items, strict=True)
        ]

    def _order(
        self, spans: Mapping[tuple[int, int], float], null: float, text: str, unanswerable: bool
    ) -> list[Answer]:
        best = sorted(spans.items(), key=lambda item: -item[1])[:CANDIDATES]
        scored = [(total, Answer(text[start:end], start, end)) for (start, end), total in best]
        if unanswerable or not scored:
            scored.append((null - self.null_threshold, NO_ANSWER))
            scored.sort(key=lambda item: -item[0])
        scores = np.array([total for total, _ in scored])
        shares = np.exp(scores - scores.max())
        return [one._replace(probability=float(p)) for (_, one), p in zip(scored, shares / shares.sum(), strict=True)]

    # Save and load.

    def _learned(self) -> dict[str, Any]:
        return {"unanswerable": self.unanswerable_}

    def _restore(self, saved: Mapping[str, Any]) -> None:
        self.unanswerable_ = bool(saved.get("unanswerable", False))


def _quality(gold: Sequence[Sequence[Answer]], predicted: Sequence[Answer]) -> dict[str, float]:
    pairs = [(found.text, [one.text for one in answers]) for found, answers in zip(predicted, gold, strict=True)]
    return {
        "exact_match": float(np.mean([exact_match(*pair) for pair in pairs])),
        "f1": float(np.mean([answer_f1(*pair) for pair in pairs])),
    }
