"""What every fine-tuned estimator is: parameters, a pre-trained network under a new head, fit, predict, save, load."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from companion.config import BertConfig
from companion.finetuning.adapters import RATE_SCALE, base_record, put_adapter
from companion.finetuning.groups import fine_tuning_groups
from companion.finetuning.new_head import default_learning_rate, with_new_head
from companion.finetuning.resuming import SAVE_EVERY, KeptTraining
from companion.finetuning.stopping import EarlyStopping
from companion.finetuning.stored import NOT_FITTED, Stored
from companion.finetuning.targets import Targets, split_indices
from companion.finetuning.texts import encode_texts, read_texts, warn_of_truncation
from companion.model.heads import BertWithHead
from companion.support.devices import process_count
from companion.support.require import integer, require
from companion.text.tokenizer import Tokenizer
from companion.training.batching import GroupedBatches, Rows
from companion.training.history import History
from companion.training.inference import predict_rows
from companion.training.loop import train
from companion.training.objective import HeadObjective, Objective
from companion.training.settings import TrainingSettings


class FineTuned(Stored):
    """The base of all estimators; `TextClassifier` describes the parameters.

    A new estimator names its `MODEL` and the `KINDS` of network that it opens, and defines four methods: `_targets`,
    `_encode`, `_decode` and `_score_validation`. Where a text gives several rows, windows that leave nothing out, a
    column `sample` holds the index of the text for every row. Columns that are neither inputs of the encoder nor
    `LABELS` are there for `_decode`.
    """

    INPUTS: ClassVar[tuple[str, ...]] = ("input_ids", "token_type_ids")
    LABELS: ClassVar[tuple[str, ...]] = ("labels",)
    PER_TOKEN: ClassVar[bool] = False  # whether the network gives something for every token, or for every row

    # What a new estimator defines.

    def _targets(self, labels: Any, count: int, learned: Mapping[str, Any] | None = None) -> Targets:
        """Return the labels of `count` texts as targets; those of a validation set must be among what was `learned`."""
        raise NotImplementedError

    def _encode(self, tokenizer: Tokenizer, items: list[Any], targets: Targets | None = None) -> Rows:
        """Return the rows of texts and, where there are targets, their labels; here, one row per text or pair."""
        return {**encode_texts(tokenizer, items, self.max_length), **({} if targets is None else targets.columns)}

    def _decode(self, outputs: Any, rows: Rows, items: list[Any]) -> Any:
        """Return the predictions for texts, given what the network gives for their rows."""
        raise NotImplementedError

    def _score_validation(self, targets: Targets, outputs: Any, rows: Rows, items: list[Any]) -> dict[str, float]:
        """Return what to log after an epoch: `validation_loss`, by which early stopping goes, and others."""
        raise NotImplementedError

    # What it may replace.

    def read_labels(self, texts: Any, labels: Any) -> Any:
        """Return the labels of texts in the form that `_targets` takes, after checking them; here, as they are."""
        return labels

    def _labels_of(self, name: str, labels: Any, items: list[Any]) -> Any:
        """Return the same for texts that are read already; `name` is the argument, as the caller wrote it."""
        return labels

    def _read(self, name: str, texts: Any) -> list[Any]:
        """Return texts, or pairs of texts, as a list."""
        return read_texts(name, texts)

    def _warn(self, tokenizer: Tokenizer, items: list[Any], rows: Rows) -> None:
        """Warn of what is not read of the texts."""
        if "sample" not in rows:
            warn_of_truncation(tokenizer, items, rows, self.max_length)

    def _objective(self, config: BertConfig) -> Objective:
        """Return what is trained for: the loss of the head."""
        return HeadObjective("loss")

    def _take(self, output: Any, batch: Any) -> Tensor:
        """Return what is needed of the output of the network for a batch."""
        return output.logits

    def _outputs(self, model: Any, rows: Rows, tokenizer: Tokenizer) -> Any:
        """Return what `_take` gives for every row, in fp32, on the CPU: (rows, ...), or a list of (tokens, ...)."""
        inputs = {name: rows[name] for name in self.INPUTS}
        options: dict[str, Any] = {
            "batch_size": self.batch_size,
            "pad_id": tokenizer.pad_id,
            "precision": self.precision,
            "take": self._take,
            "per_token": self.PER_TOKEN,
        }
        return predict_rows(model, inputs, **options)

    def _prepare(self, model: Any, targets: Targets) -> None:
        """Change the network before the first step."""

    def _finish(self, model: Any, targets: Targets) -> None:
        """Change the trained network into the one that predicts."""

    # Fit.

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        validation: tuple[Any, Any] | None = None,
        checkpoint: str | Path | None = None,
    ) -> Self:
        """Train on labelled texts.

        Parameters
        ----------
        X : iterable of str, or of (str, str)
            Texts, or pairs of texts: a list, generator, array, pandas Series or column of a data set; pairs also as an
            array or DataFrame of two columns.
        y : iterable
            One label per text.
        sample_weight : iterable of float, (texts,), optional
            How much each text counts in the loss; only their ratios matter.
        validation : (X, y), optional
            Measured on after every epoch.
        checkpoint : str or Path, optional
            A folder to keep the training in, so that it can be stopped: after every epoch, at the latest every 500
            steps, and when it is interrupted. The same call goes on from there, and ends as one never stopped. Once
            `fit` is done, what it kept is removed; `save` stores the estimator.

        Raises
        ------
        TypeError
            If an item is not a str or a pair of str; names its index.
        ValueError
            If nothing is given, the counts differ, a label or a parameter is not allowed, a label of `validation` is
            new, or `checkpoint` holds another training; names what differs.
        KeyboardInterrupt
            If the training was stopped; the estimator is then as it was before.
        """
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None; pass labels")
        seed, kept = self._check_parameters(), KeptTraining(checkpoint)
        items = self._read("X", X)
        targets = self._targets(self._labels_of("y", y, items), len(items)).weighted(sample_weight, len(items))
        (items, targets), held_out = self._held_out(items, targets, validation, seed)
        model, tokenizer = self._start(seed, **targets.config)
        rows = self._encode(tokenizer, items, targets)
        self._warn(tokenizer, items, rows)
        try:
            self._train(model, tokenizer, rows, targets, held_out, seed, kept, kept.parts)
        except torch.OutOfMemoryError:
            halves = True
        else:
            halves = False
        if halves:  # outside of the block, as the error holds what fills the memory
            self._warn_of_halves()
            del model
            kept.clear()
            model, tokenizer = self._start(seed, **targets.config)
            self._train(model, tokenizer, rows, targets, held_out, seed, kept, parts=2)
        self._finish(self.model_, targets)
        self.pairs_: bool | None = isinstance(items[0], tuple)
        for name, value in targets.learned.items():
            setattr(self, name, value)
        kept.clear()
        return self

    def _held_out(self, items: list[Any], targets: Targets, validation: Any, seed: int) -> tuple[tuple, tuple | None]:
        """Return what to train on and what to validate on, each as texts and targets."""
        if validation is not None:
            allowed = "None or a tuple of texts and their labels: validation=(X, y)"
            require("validation", validation, isinstance(validation, tuple | list) and len(validation) == 2, allowed)
            texts = self._read("validation[0]", validation[0])
            labels = self._labels_of("validation[1]", validation[1], texts)
            return (items, targets), (texts, self._targets(labels, len(texts), targets.learned))
        if not self.early_stopping:
            return (items, targets), None
        parts = split_indices(targets, len(items), self.validation_fraction, seed)
        training, validation = (([items[i] for i in part], targets.take(part)) for part in parts)
        return training, validation

    def _start(self, seed: int, **changes: Any) -> tuple[BertWithHead, Tokenizer]:
        """Return the network to train and its tokenizer."""
        if self.dropout is not None:
            changes |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), float(self.dropout))
            changes["classifier_dropout"] = None  # the head's is then that of the hidden states
        tokenizer = Tokenizer.from_pretrained(self.model)
        model = with_new_head(self.MODEL, self.model, seed=seed, from_scratch=self.from_scratch, **changes)
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
        if self.adapter is not None:
            put_adapter(model, self.adapter, seed)
        return model, tokenizer

    def _warn_of_halves(self) -> None:
        warnings.warn(
            f"a batch does not fit in memory, so every step is taken in two halves, one after the other: the same "
            f"training, but slower. Lower batch_size={self.batch_size} or max_length={self.max_length}",
            stacklevel=3,
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _train(
        self,
        model: BertWithHead,
        tokenizer: Tokenizer,
        rows: Rows,
        targets: Targets,
        held_out: Any,
        seed: int,
        kept: KeptTraining,
        parts: int = 1,
    ) -> None:
        """Train, and take over what came out of it: all or, if the training was stopped, nothing."""
        self._prepare(model, targets)
        batches = self._batches(rows, tokenizer, targets.weights, seed, parts)
        settings = self._settings(model.config, batches.steps_per_epoch, held_out is not None, seed, parts)
        epochs_done = kept.step // batches.steps_per_epoch
        stopping = EarlyStopping(self.n_iter_no_change, kept, epochs_done) if self.early_stopping else None
        history = train(
            model,
            batches,
            self._objective(model.config),
            settings,
            validate=None if held_out is None else self._validator(tokenizer, held_out, stopping),
            on_step=None if stopping is None else stopping.on_step,
            groups=self._groups(model, settings),
            progress=self.progress,
            **kept.options(self, batches.columns, held_out),
        )
        if not history.finished:
            advice = "nothing is kept" if kept.folder is None else f"checkpoint={str(kept.folder)!r} goes on from there"
            raise KeyboardInterrupt(f"fit was stopped after {history.step} of {settings.steps} steps; {advice}")
        if stopping:
            stopping.restore(model)
            self.best_epoch_ = stopping.best_epoch
        self.model_, self.tokenizer_ = model, tokenizer
        self.base_ = None if self.adapter is None else base_record(self.model)
        self.history_: History | None = history
        self.learning_rate_: float | None = settings.learning_rate
        self.n_iter_: int | None = history.step // batches.steps_per_epoch

    def _batches(
        self, rows: Rows, tokenizer: Tokenizer, weights: np.ndarray | None, seed: int, parts: int = 1
    ) -> GroupedBatches:
        """Return the batches; `parts` of them are those of one step on every process."""
        columns = {name: rows[name] for name in (*self.INPUTS, *self.LABELS)}
        if weights is not None:
            columns["weights"] = weights[rows["sample"]] if "sample" in rows else weights
        options: dict[str, Any] = {"seed": seed, "pad_id": tokenizer.pad_id, "world_size": parts * process_count()}
        return GroupedBatches(columns, self.batch_size, **options)

    def _groups(self, model: BertWithHead, settings: TrainingSettings) -> list[dict[str, Any]]:
        """Return what is trained, and how fast each part of it."""
        head = self.head_learning_rate
        return fine_tuning_groups(
            model,
            self.weight_decay,
            freeze=self.freeze,
            layer_decay=self.layer_decay,
            head_scale=1.0 if head is None else head / settings.learning_rate,
        )

    def _settings(
        self, config: BertConfig, steps_per_epoch: int, validated: bool, seed: int, parts: int = 1
    ) -> TrainingSettings:
        rate = self.learning_rate
        if rate is None:
            rate = default_learning_rate(config.hidden_size) * (1 if self.adapter is None else RATE_SCALE)
        return TrainingSettings(
            steps=int(self.epochs) * steps_per_epoch,
            learning_rate=rate,
            warmup_share=self.warmup_share,
            weight_decay=self.weight_decay,
            accumulation=parts,
            seed=seed,
            device=self.device,
            precision=self.precision,
            log_every=1,
            validate_every=steps_per_epoch if validated else 0,
            save_every=min(steps_per_epoch, SAVE_EVERY),
        )

    def _validator(self, tokenizer: Tokenizer, held_out: tuple[list[Any], Targets], stopping: Any) -> Any:
        """Return the function that measures a model on the validation set."""
        items, targets = held_out
        rows = self._encode(tokenizer, items, targets)

        def validate(model: BertWithHead) -> dict[str, float]:
            scores = self._score_validation(targets, self._outputs(model, rows, tokenizer), rows, items)
            if stopping:
                stopping.note(model, scores["validation_loss"])
            return scores

        return validate

    # Predict.

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Return the prediction for every text."""
        return self._decode(*self._predicted(X))

    def _predicted(self, texts: Any) -> tuple[Any, Rows, list[Any]]:
        """Return what the network gives for texts, their rows, and the texts as a list."""
        check_is_fitted(self, "model_", msg=NOT_FITTED)
        integer("batch_size", self.batch_size, 1)
        items = self._read("X", texts)
        self._check_pairs(items)
        rows = self._encode(self.tokenizer_, items)
        self._warn(self.tokenizer_, items, rows)
        return self._outputs(self.model_, rows, self.tokenizer_), rows, items

    def _check_pairs(self, items: list[Any]) -> None:
        given, learned = isinstance(items[0], tuple), getattr(self, "pairs_", None)
        if learned is not None and given != learned:
            names = {True: "pairs of texts", False: "single texts"}
            raise TypeError(f"X holds {names[given]}, but this {type(self).__name__} was fitted on {names[learned]}")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        return tags
