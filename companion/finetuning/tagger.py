"""A tag for every word, such as the names in a text: an estimator in the manner of scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from companion.config import BertConfig
from companion.finetuning.base import FineTuned
from companion.finetuning.labels import checked_labels
from companion.finetuning.losses import TokenObjective
from companion.finetuning.metrics import entity_scores
from companion.finetuning.parameters import shared
from companion.finetuning.sentences import Sentence, read_sentences, read_tags, windows
from companion.finetuning.stored import NOT_FITTED
from companion.finetuning.tags import Entity, best_tags
from companion.finetuning.targets import Targets
from companion.model.heads import IGNORED, BertForTokenClassification
from companion.support.require import integer, require
from companion.text.tokenizer import Tokenizer
from companion.training.batching import Rows
from companion.training.objective import Objective

IOB2 = "iob2"


class TokenTagger(FineTuned):
    """Fine-tune a pre-trained BERT to tag words: names, parts of speech, the slots of a request.

    Texts are given as lists of words with a tag for each, or as str with spans `(start, end, type)` of characters. A
    word is read off its first piece (Devlin et al. 2019, section 5.3). Texts longer than `max_length` tokens are read
    in windows that overlap, and every word where it has the most context: nothing is left out.

    Parameters
    ----------
    model, epochs, learning_rate, batch_size, max_length, warmup_share, weight_decay, dropout
        As in `companion.finetuning.classifier.TextClassifier`; `max_length` is that of a window.
    early_stopping, validation_fraction, n_iter_no_change, random_state, device, precision, from_scratch, progress
        As in `TextClassifier`.
    scheme : {"iob2", None}
        "iob2": the tags mark entities, `predict` returns the most probable sequence that IOB2 allows, and `score` is
        the F1 of entities. None: any tags, such as parts of speech; `score` is the share of words that are right.
    stride : int, optional
        Tokens that two windows of a long text share; None means a quarter of `max_length`.

    Attributes
    ----------
    tags_ : list
        The tags, in the order of the outputs.
    model_ : BertForTokenClassification
    history_ : companion.training.history.History
        Every step's `loss`, `tagging_accuracy`, `learning_rate` and `grad_norm` and, after every epoch with validation,
        `validation_loss` (nats per word) and `validation_f1` or, without a scheme, `validation_accuracy`.
    tokenizer_, learning_rate_, n_iter_, best_epoch_
        As in `TextClassifier`.

    Examples
    --------
    >>> from companion.finetuning import TokenTagger
    >>> words = [["Anna", "lives", "in", "Rome"], ["Rome", "is", "old"]] * 8
    >>> tags = [["B-PER", "O", "O", "B-LOC"], ["B-LOC", "O", "O"]] * 8
    >>> tagger = TokenTagger("mini", epochs=8, batch_size=4, learning_rate=1e-3).fit(words, tags)
    >>> tagger.predict([["Anna", "is", "in", "Rome"]])
    [['B-PER', 'O', 'O', 'B-LOC']]
    >>> tagger.predict(["Rome is old."])
    [[Entity(start=0, end=4, type='LOC')]]
    """

    MODEL = BertForTokenClassification
    PER_TOKEN = True

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
        warmup_share: float = 0.1,
        weight_decay: float = 0.01,
        dropout: float | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 2,
        random_state: int | np.random.RandomState | None = 0,
        scheme: str | None = IOB2,
        stride: int | None = None,
        device: str | None = None,
        precision: str | None = None,
        from_scratch: bool = False,
        progress: bool = False,
    ) -> None:
        super().__init__(**shared(locals()))
        self.scheme = scheme
        self.stride = stride

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        validation: tuple[Any, Any] | None = None,
        checkpoint: str | Path | None = None,
    ) -> Self:
        """Train on tagged texts.

        Parameters
        ----------
        X : iterable of list of str, or of str
            Words of every text; or texts, which are cut into words as BERT's tokenizer cuts them.
        y : iterable
            A list of tags per text, one per word; for texts that are str a list of spans `(start, end, type)`: first
            character, the one after the last, and a name.
        sample_weight, validation, checkpoint
            As in `TextClassifier.fit`.

        Raises
        ------
        TypeError
            If a text is neither a list of str nor a str, or both kinds are mixed; names its index.
        ValueError
            If the counts differ, tags are not in the scheme, a span does not begin and end with a word, or a parameter
            is not allowed.
        """
        self._check_scheme()
        tokenizer = Tokenizer.from_pretrained(self.model)
        X, y = self._paired("X", X, "y", y, tokenizer)  # noqa: N806
        if isinstance(validation, tuple | list) and len(validation) == 2:
            validation = self._paired("validation[0]", validation[0], "validation[1]", validation[1], tokenizer)
        self.constrained_ = True
        return super().fit(X, y, sample_weight, validation, checkpoint)

    def predict(self, X: Any) -> list[list[Any]]:  # noqa: N803
        """Return a tag for every word of every text.

        For texts that are str: their entities, in characters, or without a scheme every word as one.
        """
        return super().predict(X)

    def predict_entities(self, X: Any) -> list[list[Entity]]:  # noqa: N803
        """Return the entities of every text: in characters where it is a str, else in words.

        Raises
        ------
        ValueError
            With `scheme=None`, whose tags mark none.
        """
        self._needs_scheme("predict_entities")
        outputs, rows, items = self._predicted(X)
        tags = self._tags(outputs, rows, items)
        return [item.entities(found) for item, found in zip(items, tags, strict=True)]

    def predict_proba(self, X: Any) -> list[np.ndarray]:  # noqa: N803
        """Return the probability of every tag for every word: for each text an array (words, tags)."""
        outputs, rows, items = self._predicted(X)
        return [np.exp(scores) for scores in self._scores(outputs, rows, items)]

    def score(self, X: Any, y: Any) -> float:  # noqa: N803
        """Return the F1 of entities, over all texts together; without a scheme, the share of right words."""
        check_is_fitted(self, "model_", msg=NOT_FITTED)
        X, y = self._paired("X", X, "y", y, self.tokenizer_)  # noqa: N806
        return self._quality(y, self._tags(*self._predicted(X)))

    # What the base asks for.

    def read_labels(self, texts: Any, labels: Any) -> list[list[Any]]:
        """Return a list of tags for every text, after checking that they fit."""
        return self._paired("texts", texts, "labels", labels, Tokenizer.from_pretrained(self.model))[1]

    def _check_scheme(self) -> None:
        require("scheme", self.scheme, self.scheme in (IOB2, None), "'iob2' or None")
        if self.stride is not None:
            most = integer("max_length", self.max_length, 3) - 3
            integer("stride", self.stride, 0, most)

    def _read(self, name: str, texts: Any) -> list[Sentence]:
        return read_sentences(name, texts, getattr(self, "tokenizer_", None))

    def _paired(
        self, name: str, texts: Any, tags_name: str, tags: Any, tokenizer: Tokenizer
    ) -> tuple[list[Sentence], list[list[Any]]]:
        """Return sentences and the tags of their words."""
        if tags is None:
            raise ValueError("TokenTagger requires y to be passed, but the target y is None; pass tags or spans")
        items = read_sentences(name, texts, tokenizer)
        return items, read_tags(tags_name, tags, items, iob2=self.scheme == IOB2)

    def _targets(self, labels: Any, count: int, learned: Mapping[str, Any] | None = None) -> Targets:
        if learned is None:
            encoder = LabelEncoder().fit(checked_labels([tag for tags in labels for tag in tags], "y"))
            learned = {"tags_": encoder.classes_.tolist()}
            require("y", learned["tags_"], len(learned["tags_"]) > 1, "tags of at least two kinds")
        known = {tag: number for number, tag in enumerate(learned["tags_"])}
        for index, tags in enumerate(labels):
            if unknown := [tag for tag in tags if tag not in known]:
                raise ValueError(f"validation[1][{index}] holds {unknown[0]!r}, which no text of y has: {[*known]}")
        names = tuple(map(str, known))
        config = {"num_labels": len(names), "labels": names, "problem_type": None}
        return Targets({"tags": [[known[tag] for tag in tags] for tags in labels]}, config, learned)

    def _encode(self, tokenizer: Tokenizer, items: list[Sentence], targets: Targets | None = None) -> Rows:
        stride = self.max_length // 4 if self.stride is None else self.stride
        rows = windows(tokenizer, items, self.max_length, min(stride, self.max_length - 3))
        if targets is not None:
            tags = targets.columns["tags"]
            rows["labels"] = [
                [tags[sample][word] if word >= 0 else IGNORED for word in words]
                for sample, words in zip(rows["sample"], rows["words"], strict=True)
            ]
        return rows

    def _objective(self, config: BertConfig) -> Objective:
        return TokenObjective()

    def _decode(self, outputs: list[Tensor], rows: Rows, items: list[Sentence]) -> list[list[Any]]:
        tags = self._tags(outputs, rows, items)
        return [self._written(item, found) for item, found in zip(items, tags, strict=True)]

    def _written(self, item: Sentence, tags: list[Any]) -> list[Any]:
        """Return the prediction for a text in the form that it was given in."""
        if item.offsets is None:
            return tags
        if self.scheme == IOB2:
            return item.entities(tags)
        return [Entity(start, end, tag) for (start, end), tag in zip(item.offsets, tags, strict=True)]

    def _score_validation(
        self, targets: Targets, outputs: list[Tensor], rows: Rows, items: list[Sentence]
    ) -> dict[str, float]:
        truth, names = targets.columns["tags"], targets.learned["tags_"]
        scores = self._scores(outputs, rows, items)
        losses = [-one[np.arange(len(tags)), tags] for one, tags in zip(scores, truth, strict=True)]
        written = [[names[tag] for tag in tags] for tags in truth]
        quality = self._quality(written, [self._sequence(one, names) for one in scores])
        name = "validation_accuracy" if self.scheme is None else "validation_f1"
        return {"validation_loss": float(np.concatenate(losses).mean()), name: quality}

    # From logits to tags.

    def _scores(self, outputs: Sequence[Tensor], rows: Rows, items: list[Sentence]) -> list[np.ndarray]:
        """Return the logarithm of the probability of every tag for every word: (words, tags) for each text."""
        width = outputs[0].shape[-1]
        scores = [np.zeros((len(item.words), width)) for item in items]
        for sample, words, logits in zip(rows["sample"], rows["words"], outputs, strict=True):
            numbers = np.asarray(words)
            chosen = numbers >= 0
            scores[sample][numbers[chosen]] = logits.double().log_softmax(-1).numpy()[chosen]
        return scores

    def _tags(self, outputs: Sequence[Tensor], rows: Rows, items: list[Sentence]) -> list[list[Any]]:
        return [self._sequence(scores, self.tags_) for scores in self._scores(outputs, rows, items)]

    def _sequence(self, scores: np.ndarray, tags: Sequence[Any]) -> list[Any]:
        """Return the tags of one text."""
        if self.scheme == IOB2 and self.constrained_:
            return best_tags(scores, tags)
        return [tags[place] for place in scores.argmax(-1)]

    def _quality(self, truth: Sequence[Sequence[Any]], predicted: Sequence[Sequence[Any]]) -> float:
        if self.scheme == IOB2:
            return entity_scores(truth, predicted).f1
        pairs = [(a, b) for one, other in zip(truth, predicted, strict=True) for a, b in zip(one, other, strict=True)]
        return float(np.mean([a == b for a, b in pairs]))

    def _needs_scheme(self, method: str) -> None:
        if self.scheme is None:
            raise ValueError(f"{method} needs tags that mark entities; scheme=None has any tags, use predict")

    # Save and load.

    def _learned(self) -> dict[str, Any]:
        return {"tags": self.tags_}

    def _restore(self, saved: Mapping[str, Any]) -> None:
        """Take over the tags; a model of others may write IOB1, whose sequences are left as they come."""
        config = self.model_.config
        self.tags_ = saved.get("tags") or list(config.labels or range(config.num_labels))
        self.constrained_ = bool(saved)
        if not saved:
            self.scheme = IOB2 if all(str(tag)[:2] in ("O", "B-", "I-") for tag in self.tags_) else None
