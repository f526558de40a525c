"""Texts with choices as they are given to an estimator, as batches of whole questions, and the loss over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from companion.finetuning.texts import encode_texts
from companion.support.containers import as_list
from companion.support.require import shortened
from companion.text.tokenizer import Tokenizer
from companion.training.batching import GroupedBatches, Rows, as_arrays, pad_rows, take_rows
from companion.training.objective import Batch, Sums


class Question(NamedTuple):
    """A text and the choices of which one belongs to it."""

    text: str
    choices: tuple[str, ...]


def read_questions(name: str, questions: Any) -> list[Question]:
    """Return texts with their choices.

    Parameters
    ----------
    name : str
        The argument, as the caller wrote it.
    questions : iterable of (str, sequence of str)
        The number of choices may differ.

    Raises
    ------
    TypeError
        If an item is not of this form; names its index.
    ValueError
        If there are no items, or one has fewer than two choices, or one twice.
    """
    items = as_list(name, questions)
    if not items:
        raise ValueError(f"{name} is empty; at least one text with choices is needed")
    return [_read(f"{name}[{index}]", item) for index, item in enumerate(items)]


def read_choices(name: str, labels: Any, questions: Sequence[Question]) -> list[int]:
    """Return the number of the right choice of every question, given that number or the choice itself.

    Raises
    ------
    ValueError
        If the counts differ, or a label is no choice of its question; names its index.
    """
    given = as_list(name, labels)
    if len(given) != len(questions):
        raise ValueError(f"{name} has {len(given)} labels for {len(questions)} questions; every question needs one")
    return [
        _number(f"{name}[{index}]", label, question.choices)
        for index, (label, question) in enumerate(zip(given, questions, strict=True))
    ]


def pairs_of(questions: Sequence[Question]) -> list[tuple[str, str]]:
    """Return every choice with its text before it."""
    return [(one.text, choice) for one in questions for choice in one.choices]


def encode_choices(tokenizer: Tokenizer, questions: Sequence[Question], max_length: int) -> Rows:
    """Return a row for every choice, the text and the choice as a pair, and `sample`, the index of its question."""
    samples = np.repeat(np.arange(len(questions)), [len(one.choices) for one in questions])
    return {**encode_texts(tokenizer, pairs_of(questions), max_length), "sample": samples}


class ChoiceBatches(GroupedBatches):
    """Batches of whole questions, grouped by the longest choice of each.

    A batch holds the rows of all choices and `places`, (questions, choices): the rows of each question, and -1 where
    it has fewer choices than another; `labels` and, where given, `weights`, (questions,).

    Parameters
    ----------
    rows : mapping
        As `encode_choices` returns them, with `labels` (questions,) and, optionally, `weights`, (questions,).
    batch_size : int
        Questions per batch.
    **options
        As in `GroupedBatches`.
    """

    def __init__(self, rows: Rows, batch_size: int, **options: Any) -> None:
        samples = np.asarray(rows["sample"])
        self.counts = np.bincount(samples)
        self.starts = np.cumsum(self.counts) - self.counts
        self.choices = as_arrays({name: rows[name] for name in ("input_ids", "token_type_ids")})
        lengths = np.array([len(ids) for ids in rows["input_ids"]])
        longest = np.lexsort((lengths, samples))[np.cumsum(self.counts) - 1]
        questions = {name: np.asarray(rows[name]) for name in ("labels", "weights") if name in rows}
        super().__init__(
            {"input_ids": [rows["input_ids"][i] for i in longest], **questions}, batch_size=batch_size, **options
        )

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        indices = self.rows_of(number)
        counts = self.counts[indices]
        rows = np.concatenate([np.arange(self.counts[i]) + self.starts[i] for i in indices])
        batch = pad_rows(take_rows(self.choices, rows), pad_id=self.pad_id, multiple=self.multiple)
        first = (np.cumsum(counts) - counts)[:, None]
        place = np.arange(counts.max())  # of a choice in its question
        batch["places"] = torch.from_numpy(np.where(place < counts[:, None], first + place, -1))
        for name in ("labels", "weights"):
            if name in self.columns:
                batch[name] = torch.from_numpy(self.columns[name][indices])
        return batch


class ChoiceObjective:
    """Cross-entropy over the choices of every question, for `companion.training.train` on `ChoiceBatches`."""

    name = "choosing"

    def counts(self, batch: Batch) -> dict[str, Tensor | int]:
        """Return the number of questions, or the sum of their weights."""
        return {self.name: batch["weights"].sum() if "weights" in batch else len(batch["labels"])}

    def sums(self, model: nn.Module, batch: Batch) -> dict[str, Sums]:
        """Return the summed loss and the number of right choices, both weighted."""
        labels, places = batch["labels"], batch["places"]
        inputs = {name: value for name, value in batch.items() if name not in ("labels", "places", "weights")}
        scores = OneByOne(model)(**inputs).logits.float().squeeze(1)  # (rows,)
        logits = scores[places.clamp(min=0)].masked_fill(places < 0, float("-inf"))  # (questions, choices)
        losses = F.cross_entropy(logits, labels, reduction="none")
        weights = batch.get("weights", torch.ones_like(losses))
        correct = (logits.detach().argmax(-1) == labels) * weights
        return {self.name: Sums((losses * weights).sum(), correct.sum())}


class OneByOne(nn.Module):
    """A `BertForMultipleChoice` that takes every row, (rows, tokens), as a question with one choice."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> Any:
        """Return the output of the model; its `logits` are (rows, 1)."""
        return self.model(**{name: value[:, None] for name, value in inputs.items()})


def _read(name: str, item: Any) -> Question:
    if isinstance(item, str) or not isinstance(item, tuple | list) or len(item) != 2 or not isinstance(item[0], str):
        kind = type(item).__name__
        raise TypeError(f"{name}={shortened(item)} is of type {kind}; it must be a text and its choices: (str, [str])")
    text, choices = item
    if isinstance(choices, str) or not all(isinstance(one, str) for one in choices):
        raise TypeError(f"{name}[1]={shortened(choices)} must be a list of str, the choices")
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise ValueError(f"{name}[1]={shortened(choices)} must hold two or more choices, all different")
    return Question(text, tuple(choices))


def _number(name: str, label: Any, choices: tuple[str, ...]) -> int:
    if isinstance(label, str) and label in choices:
        return choices.index(label)
    if isinstance(label, int | np.integer) and not isinstance(label, bool) and 0 <= label < len(choices):
        return int(label)
    raise ValueError(
        f"{name}={shortened(label)} is no choice of its question; it must be one of its {len(choices)} choices, or "
        f"its number from 0 to {len(choices) - 1}"
    )
