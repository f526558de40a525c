"""One label, or several, for a text or a pair of texts: a scikit-learn classifier on a pre-trained BERT."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score, f1_score

from companion.config import BertConfig
from companion.finetuning.labels import (
    as_labels,
    binarise_labels,
    is_multilabel,
    label_weights,
    log_odds,
    number_labels,
)
from companion.finetuning.losses import SequenceObjective, row_losses
from companion.finetuning.parameters import shared
from companion.finetuning.saved import kind_of
from companion.finetuning.sequences import SequenceEstimator
from companion.finetuning.targets import Targets
from companion.support.containers import as_list
from companion.training.batching import Rows
from companion.training.objective import Objective

SINGLE, MULTI = "single_label_classification", "multi_label_classification"


class TextClassifier(ClassifierMixin, SequenceEstimator):
    """Fine-tune a pre-trained BERT to put texts, or pairs of texts, into classes (Devlin et al. 2019, section 4.1).

    Parameters
    ----------
    model : str or Path
        The pre-trained network and its tokenizer: a bundled name, a folder or a hub id.
    epochs : int
        Passes over the training data.
    learning_rate : float, optional
        The highest one, reached after the warm-up, from which it falls to 0 along a line. None takes
        `companion.finetuning.new_head.default_learning_rate` of the width of the network, five times that with an
        `adapter`.
    head_learning_rate : float, optional
        That of the new head; None takes `learning_rate`.
    layer_decay : float
        The learning rate of every layer is this times that of the layer above, so that the lower ones change less;
        see `companion.finetuning.groups.fine_tuning_groups`.
    freeze : {None, "embeddings", "encoder"} or int
        What is left as it was pre-trained: nothing; the embeddings; all but the head; or the embeddings and so many
        layers from below.
    adapter : {None, "lora", "ia3"} or peft.PeftConfig
        Train only a few new weights inside the network, and the head; see
        `companion.finetuning.adapters.adapter_config`. `save` then writes these alone, and `merge_adapter` adds them to
        the network. Needs `pip install 'bert-companion[adapters]'`.
    batch_size : int
        Texts per step, over all processes together where several train; also the texts that are predicted together.
    max_length : int
        Tokens of a text or pair that are read at once, special tokens included.
    truncation : {"head", "tail", "head+tail", "windows"}
        What is read of longer ones: the first `max_length` tokens, the last, or a quarter from the start and the rest
        from the end, each with a warning that says how many were truncated; or all, in windows that overlap. In
        training every window has the label of its text and, divided by their number, its weight; predictions are the
        mean of the windows' logits.
    stride : int, optional
        Tokens that two windows share; None means a quarter of `max_length`, or an eighth for pairs.
    warmup_share : float
        Share of the steps over which the learning rate rises.
    weight_decay : float
        As in `companion.training.settings.TrainingSettings`.
    dropout : float, optional
        Of the hidden states, the attention weights and the head while training; None takes the checkpoint's.
    early_stopping : bool
        Stop when the loss on held-out texts no longer falls, and keep the weights of the best epoch. Held out are the
        `validation` given to `fit` or else `validation_fraction` of the texts, with the same share of every class.
    validation_fraction : float
        In (0, 1).
    n_iter_no_change : int
        Epochs without a better loss after which to stop.
    random_state : int, RandomState or None
        Of the new head, the order of the texts, dropout and the texts held out. The same int on the same machine gives
        the same predictions; None draws one from NumPy's global generator.
    class_weight : None, "balanced" or dict
        Weights of the classes in the loss, as in scikit-learn.
    device, precision : str, optional
        As in `companion.support.devices`.
    from_scratch : bool
        Start from random weights in a network of the same shape: what pre-training adds is the difference to this.
    progress : bool
        Show a progress bar in `fit`.

    Attributes
    ----------
    classes_ : ndarray, (classes,)
        The labels, sorted.
    multilabel_ : {None, "indicator", "lists"}
        How several labels per text were given to `fit`; None if every text has one.
    pairs_ : bool or None
        Whether it was fitted on pairs of texts; None if that is not known, after `load` of a model of others.
    model_ : BertForSequenceClassification
    tokenizer_ : Tokenizer
    history_ : companion.training.history.History
        Every step's `loss`, `classification_accuracy`, `learning_rate` and `grad_norm` and, after every epoch with
        validation, `validation_loss` (nats), `validation_accuracy` and `validation_f1` (macro). None after `load`.
    learning_rate_ : float
        The highest one used. None after `load`.
    n_iter_ : int
        Epochs done. None after `load`.
    best_epoch_ : int
        With `early_stopping`: whose weights were kept.

    Notes
    -----
    Labels are str, int, bool or whole floats. With several per text, `y` is an indicator matrix or a list of lists of
    labels; the network then scores every label by itself, from the odds of the label on, and `predict` returns those
    with a probability of at least 0.5 in the form that `fit` was given: a matrix of 0 and 1, or an array of tuples of
    labels. Accuracy then counts the texts of which all labels are right, as scikit-learn's does.

    What `fit` computes can be written as a bare loop, with the same result::

        model = with_new_head(BertForSequenceClassification, name, seed=seed, num_labels=classes)
        batches = GroupedBatches(rows, batch_size, seed=seed)      # of encode_texts(...), with the column `labels`
        settings = TrainingSettings(steps=epochs * batches.steps_per_epoch, learning_rate=..., seed=seed)
        optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay))
        model.train()
        for step in range(settings.steps):
            seed_everything(batch_seed(seed, step))                 # dropout
            model(**batches[step]).loss.backward()
            clip_grad_norm_(model.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, settings)
            optimizer.step()
            optimizer.zero_grad()

    Examples
    --------
    >>> from companion.finetuning import TextClassifier
    >>> texts = ["I loved it.", "A joy from start to finish.", "I hated it.", "A waste of time."] * 4
    >>> labels = ["good", "good", "bad", "bad"] * 4
    >>> classifier = TextClassifier("mini", epochs=5, learning_rate=1e-3).fit(texts, labels)
    >>> classifier.predict(["I loved it.", "A waste of time."]).tolist()
    ['good', 'bad']
    """

    KINDS = (SINGLE, MULTI)

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
        class_weight: str | Mapping[Any, float] | None = None,
        device: str | None = None,
        precision: str | None = None,
        from_scratch: bool = False,
        progress: bool = False,
    ) -> None:
        super().__init__(truncation=truncation, stride=stride, **shared(locals()))
        self.class_weight = class_weight

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the most probable label of every text, (texts,); of several labels, see the notes of the class."""
        return super().predict(X)

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the probability of every label, (texts, classes), in the order of `classes_`."""
        logits = self._predicted(X)[0].double()
        return (logits.softmax(-1) if self.multilabel_ is None else logits.sigmoid()).numpy()

    def predict_log_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the logarithm of the probability of every label, (texts, classes)."""
        logits = self._predicted(X)[0].double()
        return (logits.log_softmax(-1) if self.multilabel_ is None else torch.nn.functional.logsigmoid(logits)).numpy()

    def decision_function(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the logits (texts, classes) or, with two classes, those of the second minus the first, (texts,)."""
        logits = self._predicted(X)[0].numpy()
        binary = logits.shape[1] == 2 and self.multilabel_ is None
        return logits[:, 1] - logits[:, 0] if binary else logits

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """Return the accuracy; with several labels per text, the share of texts of which all are right."""
        predicted = self._predicted(X)[0]
        if self.multilabel_ is None:
            truth = np.array(as_labels(y, len(predicted)))
            found = self.classes_[predicted.argmax(-1).numpy()]
            right = np.array([a == b for a, b in zip(truth.tolist(), found.tolist(), strict=True)])
        else:
            truth = binarise_labels(_listed(y), len(predicted), self.classes_)[1]
            right = (truth == _above_half(predicted)).all(-1)
        return float(accuracy_score(np.ones_like(right), right, sample_weight=sample_weight))

    def _targets(self, labels: Any, count: int, learned: Mapping[str, Any] | None = None) -> Targets:
        classes, multilabel = (None, None) if learned is None else (learned["classes_"], learned["multilabel_"])
        labels = _listed(labels)
        if is_multilabel(labels) if learned is None else multilabel is not None:
            return self._several(labels, count, classes)
        classes, ids = number_labels(labels, count, classes, name="y" if learned is None else "validation[1]")
        names = tuple(str(label) for label in classes.tolist())
        config = {"num_labels": len(names), "labels": names, "problem_type": SINGLE}
        weights = label_weights(self.class_weight, classes, ids)
        return Targets({"labels": ids}, config, {"classes_": classes, "multilabel_": None}, weights, ids)

    def _several(self, labels: Any, count: int, classes: np.ndarray | None) -> Targets:
        if self.class_weight is not None:
            raise ValueError("class_weight is for one label per text; pass sample_weight to fit, or class_weight=None")
        classes, matrix, lists = binarise_labels(labels, count, classes)
        names = tuple(str(label) for label in classes.tolist())
        config = {"num_labels": len(names), "labels": names, "problem_type": MULTI}
        learned = {"classes_": classes, "multilabel_": "lists" if lists else "indicator"}
        return Targets({"labels": matrix}, config, learned)

    def _prepare(self, model: Any, targets: Targets) -> None:
        """Start each of several labels at its log-odds, which a bias would need far more steps to reach."""
        if targets.learned["multilabel_"] is not None:
            with torch.no_grad():
                odds = log_odds(targets.columns["labels"], targets.weights)
                model.classifier.bias.copy_(torch.from_numpy(odds))

    def _objective(self, config: BertConfig) -> Objective:
        return SequenceObjective(kind_of(config))

    def _decode(self, outputs: torch.Tensor, rows: Rows, items: list[Any]) -> np.ndarray:
        if self.multilabel_ is None:
            return self.classes_[outputs.argmax(-1).numpy()]
        matrix = _above_half(outputs)
        if self.multilabel_ == "indicator":
            return matrix.astype(np.int64)
        predicted = np.empty(len(matrix), dtype=object)
        predicted[:] = [tuple(self.classes_[row].tolist()) for row in matrix.astype(bool)]
        return predicted

    def _score_validation(
        self, targets: Targets, outputs: torch.Tensor, rows: Rows, items: list[Any]
    ) -> dict[str, float]:
        truth = torch.as_tensor(targets.columns["labels"])
        losses, correct = row_losses(outputs, truth, targets.config["problem_type"])
        predicted = outputs.argmax(-1) if targets.learned["multilabel_"] is None else _above_half(outputs)
        return {
            "validation_loss": float(losses.mean()),
            "validation_accuracy": float(torch.as_tensor(correct).float().mean()),
            "validation_f1": float(f1_score(truth, predicted, average="macro", zero_division=0.0)),
        }

    def _learned(self) -> dict[str, Any]:
        return {"classes": self.classes_.tolist(), "multilabel": self.multilabel_}

    def _stored_parameters(self) -> dict[str, Any]:
        parameters = super()._stored_parameters()
        if isinstance(self.class_weight, Mapping):  # keys of JSON are str
            parameters["class_weight"] = [[label, weight] for label, weight in self.class_weight.items()]
        return parameters

    def _restore(self, saved: Mapping[str, Any]) -> None:
        config = self.model_.config
        several = "indicator" if kind_of(config) == MULTI else None
        self.multilabel_ = saved.get("multilabel", "lists" if several and config.labels else several)
        self.classes_ = np.array(saved.get("classes") or list(config.labels or range(config.num_labels)))
        if isinstance(self.class_weight, list):
            self.class_weight = dict(self.class_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _listed(labels: Any) -> Any:
    """Return labels as a list, but for arrays and DataFrames of columns, which are kept."""
    return labels if len(getattr(labels, "shape", ())) == 2 else as_list("y", labels)


def _above_half(logits: torch.Tensor) -> np.ndarray:
    """Return 1 for every label whose probability is at least 0.5, (texts, classes)."""
    return (logits >= 0).numpy().astype(np.float32)
