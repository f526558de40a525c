"""What a classifier of relations reads: the text, the names, their types, and where it looks, over several seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from companion.config import BertConfig
from companion.data.labelled import load_dataset
from companion.finetuning.classifier import TextClassifier
from companion.finetuning.markers import HEAD, TAIL, mark_names
from companion.model.encoder import all_tokens
from companion.model.heads import BertForSequenceClassification, classifier_dropout
from companion.model.outputs import BertModelOutput, HeadOutput
from companion.studies.tasks import bench_source, data_checksum, open_record
from companion.support.require import choice, integer
from companion.text.tokenizer import Tokenizer

TYPES = {"PER": "person", "ORG": "company", "LOC": "place", "WORK": "book"}
BETWEEN = {
    "works_for": {("PER", "ORG")},
    "founded": {("PER", "ORG")},
    "plays_for": {("PER", "ORG")},
    "born_in": {("PER", "LOC")},
    "author_of": {("PER", "WORK")},
    "acquired": {("ORG", "ORG")},
    "located_in": {("ORG", "LOC"), ("LOC", "LOC")},
}
"""The types of head and tail between which each relation of the bundled set can hold."""


def names_of(row: Mapping[str, Any]) -> tuple[tuple[int, int, str], tuple[int, int, str]]:
    """Return head and tail of a row of `relations`: start, end and type."""
    return (*row["head"], row["head_type"]), (*row["tail"], row["tail_type"])


def names_alone(row: Mapping[str, Any]) -> str:
    """Return the two names in their marks, without the sentence."""
    head, tail = (row["text"][slice(*row[end])] for end in ("head", "tail"))
    return f"{HEAD} {head} {HEAD} {TAIL} {tail} {TAIL}"


def marked(row: Mapping[str, Any], **options: Any) -> str:
    """Return the text of a row with its two names marked, as `mark_names` does."""
    return mark_names(row["text"], *names_of(row), **options)


VIEWS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "plain text": lambda row: row["text"],
    "names alone": names_alone,
    "marks": marked,
    "marks and types": partial(marked, types=TYPES),
    "types for names": partial(marked, types=TYPES, names=False),
}


class MarkModel(BertForSequenceClassification):
    """A classifier on the last vectors of two tokens, the first `@` and the first `#`, side by side.

    Baldini Soares et al. (2019, section 3.3) call this "entity start".

    Attributes
    ----------
    marks : (int, int)
        The ids of the two tokens; a text without one of them is refused.
    """

    pooler = False
    reads = staticmethod(all_tokens)
    marks: tuple[int, int] = (-1, -1)

    def add_heads(self, config: BertConfig) -> None:
        """Make one output for each label."""
        self.dropout = classifier_dropout(config)
        self.classifier = nn.Linear(2 * config.hidden_size, config.num_labels)

    def forward(self, input_ids: Tensor | None = None, *others: Any, **named: Any) -> HeadOutput:
        """Return logits (batch, num_labels), as `BertForSequenceClassification` does."""
        if input_ids is None:
            raise ValueError("pass input_ids; the marks are found among them")
        found = torch.stack([input_ids == mark for mark in self.marks], dim=1)  # (batch, 2, tokens)
        if not found.any(2).all():
            raise ValueError(
                f"a text lacks {HEAD!r} or {TAIL!r}: mark it with companion.finetuning.markers.mark_names, or raise "
                "max_length, which truncates it"
            )
        self.places = found.int().argmax(2)  # (batch, 2)
        return super().forward(input_ids, *others, **named)

    def pooled(self, output: BertModelOutput, attention_mask: Tensor | None) -> Tensor:
        """Return the two vectors of every text in one, (batch, 2 · hidden)."""
        hidden = output.last_hidden_state  # (batch, tokens, hidden)
        found = hidden.gather(1, self.places[..., None].expand(-1, -1, hidden.shape[-1]))  # (batch, 2, hidden)
        return found.flatten(1)


class MarkClassifier(TextClassifier):
    """`TextClassifier` on the vectors of the two marks."""

    MODEL = MarkModel

    def _start(self, seed: int, **changes: Any) -> Any:
        model, tokenizer = super()._start(seed, **changes)
        return _with_marks(model, tokenizer), tokenizer

    @classmethod
    def _opened(cls, folder: str, path: Path, saved: Mapping[str, Any], device: str | None) -> Self:
        estimator = super()._opened(folder, path, saved, device)
        _with_marks(estimator.model_, estimator.tokenizer_)
        return estimator


def _with_marks(model: Any, tokenizer: Tokenizer) -> Any:
    model.marks = tokenizer.token_to_id(HEAD), tokenizer.token_to_id(TAIL)
    return model


TRAININGS: dict[str, tuple[type[TextClassifier], str]] = {
    "plain text": (TextClassifier, "plain text"),
    "names alone": (TextClassifier, "names alone"),
    "types for names": (TextClassifier, "types for names"),
    "marks": (TextClassifier, "marks"),
    "marks and types": (TextClassifier, "marks and types"),
    "marks, read there": (MarkClassifier, "marks"),
    "marks and types, read there": (MarkClassifier, "marks and types"),
}
"""What is read of a row, a key of `VIEWS`, and by which estimator."""


def measure_relations(
    model: str | Path,
    output: str | Path,
    *,
    trainings: Sequence[str] | None = None,
    seeds: int = 3,
    progress: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Fine-tune a checkpoint on the bundled set `relations` in the ways of `TRAININGS`, and keep its answers.

    Parameters
    ----------
    model : str or Path
        As in `TextClassifier`.
    output : str or Path
        The record, a JSON file, written after each network; those that it holds are not trained again.
    trainings : sequence of str, optional
        Keys of `TRAININGS`; all by default.
    seeds : int
        The seeds are 0, 1, ...
    progress : bool
        Show a progress bar.
    **options
        Other parameters of `TextClassifier`; 10 epochs by default.

    Returns
    -------
    dict
        `config` with the `labels`, sorted, `data` and `entries`, one for each `training` and `seed`: under `answers` a
        string of one digit for each test pair, the place of the answer in `labels`.

    Raises
    ------
    ValueError
        If a training is unknown, `seeds` is below 1, or the record is of another measurement.
    """
    from tqdm.auto import tqdm

    integer("seeds", seeds, minimum=1)
    for name in trainings or ():
        choice("training", name, TRAININGS)
    splits = load_dataset("relations")
    options = {"epochs": 10} | options
    labels = sorted(set(splits["train"]["relation"]))
    data = {"relations": data_checksum(splits, ("train", "test"))}
    record = open_record("relations", model, output, options, {"labels": labels}, data)
    runs = [{"training": name, "seed": seed} for name in trainings or TRAININGS for seed in range(seeds)]
    for run in tqdm([run for run in runs if record.find(**run) is None], disable=not progress, unit="network"):
        kind, view = TRAININGS[run["training"]]
        texts = {part: [VIEWS[view](row) for row in splits[part]] for part in ("train", "test")}
        estimator = kind(model, random_state=run["seed"], **options).fit(texts["train"], splits["train"]["relation"])
        digits = "".join(str(labels.index(answer)) for answer in estimator.predict(texts["test"]).tolist())
        command = {"training": run["training"], "seeds": seeds} | options
        record.add(run | {"answers": digits}, bench_source("relations", model, output, command))
    return record.to_dict()


def answers(record: Mapping[str, Any], training: str) -> np.ndarray:
    """Return the answers of a record as labels, (seeds, test pairs).

    Parameters
    ----------
    record : mapping
        As `measure_relations` returns it.
    training : str
        A key of `TRAININGS`.
    """
    entries = sorted((e for e in record["entries"] if e["training"] == training), key=lambda e: e["seed"])
    return np.array(record["config"]["labels"])[[[int(digit) for digit in entry["answers"]] for entry in entries]]


def relation_f1(truth: np.ndarray, found: np.ndarray, outside: str = "none") -> float:
    """Return the F1 over all relations together, `outside` being no answer: the score of TACRED.

    Parameters
    ----------
    truth, found : array of str, (pairs,)
    outside : str
        The label of a pair without a relation.

    Examples
    --------
    >>> relation_f1(np.array(["founded", "none", "none"]), np.array(["founded", "founded", "none"])) == 2 / 3
    True
    """
    given, true = found != outside, truth != outside
    right = (given & (found == truth)).sum()
    return float(2 * right / max(given.sum() + true.sum(), 1))


def relations_table(record: Mapping[str, Any]) -> str:
    """Set the record of `measure_relations` as text: F1 of the test part in percent, a column for each seed."""
    truth = np.array(load_dataset("relations")["test"]["relation"])
    trained = {entry["training"] for entry in record["entries"]}
    lines = []
    for name in (name for name in TRAININGS if name in trained):
        values = [100 * relation_f1(truth, one) for one in answers(record, name)]
        lines.append(f"{name:<30}" + "".join(f"{value:>7.1f}" for value in values))
    return "\n".join(lines)
