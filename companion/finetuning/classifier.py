"""One label for a text or a pair of texts: a scikit-learn classifier on a pre-trained BERT."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.metadata_routing import UNUSED
from torch import Tensor
from torch.nn import functional as F

from companion.finetuning.base import TextEstimator
from companion.finetuning.labels import STORABLE, Labels, label_array, number_labels
from companion.finetuning.metrics import accuracy, precision_recall_f1
from companion.finetuning.texts import Texts, read_texts
from companion.model.heads import BertForSequenceClassification
from companion.text.tokenizer import Tokenizer
from companion.training.objective import Batch, Sums


class ClassificationObjective:
    """Cross-entropy over the labels of a batch, for `companion.training.loop.train`."""

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the number of rows."""
        return {"classification": torch.tensor(len(batch["labels"]), device=batch["labels"].device)}

    def sums(self, model: BertForSequenceClassification, batch: Batch) -> dict[str, Sums]:
        """Return the summed loss and the number of correct answers."""
        labels = batch["labels"]  # (batch,)
        logits = model(**{name: value for name, value in batch.items() if name != "labels"}).logits.float()
        correct = (logits.detach().argmax(-1) == labels).sum()
        return {"classification": Sums(F.cross_entropy(logits, labels, reduction="sum"), correct)}


class TextClassifier(ClassifierMixin, TextEstimator):
    """Fine-tune a pre-trained BERT to put texts, or pairs of texts, into classes (Devlin et al. 2019, section 4.1).

    Parameters
    ----------
    model : str or Path
        The pre-trained network and its tokenizer: a bundled name, a folder or a hub id.
    epochs : int
        Passes over the training data.
    learning_rate : float, optional
        The highest one, reached after the warm-up, from which it falls to 0 along a line. None takes
        `companion.finetuning.base.default_learning_rate` of the width of the network.
    batch_size : int
        Texts a step, over all processes together where several train; also the texts that are predicted together.
    max_length : int
        Tokens of a text or pair, special tokens included; longer ones are cut.
    warmup_share : float
        Share of the steps over which the learning rate rises.
    weight_decay : float
        As in `companion.training.settings.TrainingSettings`.
    dropout : float, optional
        Of the hidden states, the attention weights and the head while training; None takes the checkpoint's.
    seed : int
        Of the new head, the order of the texts and dropout. The same seed on the same machine gives the same
        predictions.
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
    model_ : BertForSequenceClassification
    tokenizer_ : Tokenizer
    history_ : companion.training.loop.History
        Every step's `loss`, `classification_accuracy`, `learning_rate` and `grad_norm` and, after every epoch with
        `validation`, `validation_loss` (nats), `validation_accuracy` and `validation_f1` (macro). None after `load`.
    learning_rate_ : float
        The highest one used. None after `load`.
    n_iter_ : int
        Epochs done. None after `load`.

    Notes
    -----
    Labels may be of any hashable type. What `fit` computes can be written as a bare loop, with the same result::

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
    >>> classifier = TextClassifier("mini", epochs=3, seed=0).fit(texts, labels)  # doctest: +SKIP
    >>> classifier.predict(["A joy from start to finish."])  # doctest: +SKIP
    """

    FILE, KIND = "classifier.json", "single_label_classification"

    __metadata_request__predict_proba = {"texts": UNUSED}
    __metadata_request__decision_function = {"texts": UNUSED}

    def fit(self, texts: Texts, labels: Labels, validation: tuple[Texts, Labels] | None = None) -> Self:
        """Train on labelled texts.

        Parameters
        ----------
        texts : sequence of str, or of (str, str)
            A list, array, pandas Series or column of a data set; pairs also as an array or DataFrame of two columns.
        labels : sequence of hashable
            One for every text.
        validation : (texts, labels), optional
            Measured on after every epoch.

        Raises
        ------
        TypeError
            If an item is not a str or a pair of str; names its index.
        ValueError
            If nothing is given, the counts differ, there are fewer than two classes, a label of `validation` is new, or
            a parameter is out of range.
        KeyboardInterrupt
            If the training was stopped; the estimator is then as it was before.
        """
        classes, ids = number_labels(labels, len(read_texts(texts)[0]))
        model, tokenizer = self._start(BertForSequenceClassification, **_config_changes(classes))
        rows = self._encode(tokenizer, texts) | {"labels": ids}
        validate = None if validation is None else self._validator(tokenizer, classes, *validation)
        self._train(model, tokenizer, rows, ClassificationObjective(), validate)
        self.classes_ = classes
        return self

    def predict(self, texts: Texts) -> np.ndarray:
        """Return the most probable label of every text, (texts,)."""
        numbers = self._logits(texts).argmax(-1).numpy()
        return self.classes_[numbers]

    def predict_proba(self, texts: Texts) -> np.ndarray:
        """Return the probability of every label, (texts, classes), in the order of `classes_`."""
        return self._logits(texts).double().softmax(-1).numpy()

    def decision_function(self, texts: Texts) -> np.ndarray:
        """Return the logits (texts, classes) or, with two classes, those of the second minus the first, (texts,)."""
        logits = self._logits(texts).numpy()
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def score(self, texts: Texts, labels: Labels) -> float:
        """Return the accuracy."""
        return accuracy(labels, self.predict(texts))

    def save(self, folder: str | Path) -> None:
        """Write the network (Transformers' format), its tokenizer and `classifier.json` into a new or empty folder.

        A classifier that was saved there before is replaced, whole and at once.

        Raises
        ------
        ValueError
            If the folder holds other files, or a label is not a str, number or bool.
        """
        self._check_fitted()
        classes = self.classes_.tolist()
        for label in classes:
            if type(label) not in STORABLE:
                raise ValueError(
                    f"label {label!r} of type {type(label).__name__} cannot be saved; a str, int, float or bool can"
                )
        self._save(folder, self.FILE, {"classes": classes})

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Self:
        """Return a saved classifier, ready to predict.

        Parameters
        ----------
        folder : str or Path
            Written by `save`; or any folder or hub id of a BERT for sequence classification in Transformers' format,
            whose classes are the names in its `config.json` or, where they have none, 0, 1, 2, ...
        device : str, optional
            None means the best one there is.

        Raises
        ------
        FileNotFoundError
            If there is no such checkpoint.
        ValueError
            If it is not a classifier.
        """
        classifier, saved = cls._load(folder, device)
        config = classifier.model_.config
        classifier.classes_ = label_array(saved.get("classes", config.labels or range(config.num_labels)))
        return classifier

    def _validator(self, tokenizer: Tokenizer, classes: np.ndarray, texts: Texts, labels: Labels) -> Any:
        """Return the function that measures a model on the validation set."""
        truth = torch.from_numpy(number_labels(labels, len(read_texts(texts)[0]), classes)[1])
        rows = self._encode(tokenizer, texts)

        def validate(model: BertForSequenceClassification) -> dict[str, float]:
            logits = self._predicted(model, rows, tokenizer)
            predicted = logits.argmax(-1)
            return {
                "validation_loss": float(F.cross_entropy(logits, truth)),
                "validation_accuracy": accuracy(truth, predicted),
                "validation_f1": precision_recall_f1(truth, predicted).f1,
            }

        return validate


def _config_changes(classes: np.ndarray) -> dict[str, Any]:
    """Return how `BertConfig` describes the head; names go with it where they tell the classes apart."""
    names = tuple(str(label) for label in classes.tolist())
    labels = names if len(set(names)) == len(names) else ()
    return {"num_labels": len(names), "labels": labels, "problem_type": TextClassifier.KIND}
