"""Losses that rows can have weights in: of sequences, one per row, and of tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from companion.model.heads import (
    IGNORED,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from companion.training.objective import Batch, Sums


class SequenceObjective:
    """Cross-entropy, binary cross-entropy or squared error over the rows of a batch, for `companion.training.train`.

    The batch may hold `weights`, (batch,); a row of weight 2 counts as two.

    Parameters
    ----------
    kind : {"single_label_classification", "multi_label_classification", "regression"}
        The `problem_type` of the network.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.name = "regression" if kind == "regression" else "classification"

    def counts(self, batch: Batch) -> dict[str, Tensor | int]:
        """Return the number of rows, or the sum of their weights."""
        return {self.name: batch["weights"].sum() if "weights" in batch else len(batch["labels"])}

    def sums(self, model: BertForSequenceClassification, batch: Batch) -> dict[str, Sums]:
        """Return the summed loss and, of a classifier, the number of correct answers, both weighted."""
        inputs = {name: value for name, value in batch.items() if name not in ("labels", "weights")}
        logits = model(**inputs).logits.float()  # (batch, labels)
        losses, correct = row_losses(logits, batch["labels"], self.kind)
        weights = batch.get("weights")
        total = losses.sum() if weights is None else (losses * weights).sum()
        if correct is not None:
            correct = correct.sum() if weights is None else (correct * weights).sum()
        return {self.name: Sums(total, correct)}


class TokenObjective:
    """Cross-entropy over the labelled tokens of a batch, for `companion.training.train`.

    `labels` (batch, tokens) are -100 where there is none. The batch may hold `weights`, (batch,); the tokens of a row
    of weight 2 count twice.
    """

    name = "tagging"

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the number of labelled tokens, or the sum of their weights."""
        return {self.name: (batch["labels"] != IGNORED).mul(self._weights(batch)).sum()}

    def sums(self, model: BertForTokenClassification, batch: Batch) -> dict[str, Sums]:
        """Return the summed loss and the number of correct tags, both weighted."""
        inputs = {name: value for name, value in batch.items() if name not in ("labels", "weights")}
        logits, labels, weights = model(**inputs).logits.float(), batch["labels"], self._weights(batch)
        losses = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
        correct = (logits.detach().argmax(-1) == labels).mul(weights)  # (batch, tokens); -100 is no class
        return {self.name: Sums((losses * weights).sum(), correct.sum())}

    def _weights(self, batch: Batch) -> Tensor | int:
        """Return the weight of every row, (batch, 1)."""
        return batch["weights"][:, None] if "weights" in batch else 1


class SpanObjective:
    """Cross-entropy over where an answer starts and ends, their mean, for `companion.training.train`.

    Padding is no place for an answer: the loss of a row does not depend on the batch that it is in.

    The batch holds `start_positions` and `end_positions`, (batch,), and may hold `weights`, (batch,).
    """

    name = "answering"

    def counts(self, batch: Batch) -> dict[str, Tensor | int]:
        """Return the number of rows, or the sum of their weights."""
        return {self.name: batch["weights"].sum() if "weights" in batch else len(batch["start_positions"])}

    def sums(self, model: BertForQuestionAnswering, batch: Batch) -> dict[str, Sums]:
        """Return the summed loss and the number of rows in which both ends are right, both weighted."""
        labels = ("start_positions", "end_positions")
        output = model(**{name: value for name, value in batch.items() if name not in (*labels, "weights")})
        logits = torch.stack([output.start_logits, output.end_logits], dim=-1).float()  # (batch, tokens, 2)
        if "attention_mask" in batch:
            logits = logits.masked_fill(batch["attention_mask"][..., None] == 0, float("-inf"))
        losses, correct = span_losses(logits, *(batch[name] for name in labels))
        weights = batch.get("weights", torch.ones_like(losses))
        return {self.name: Sums((losses * weights).sum(), (correct * weights).sum())}


def span_losses(logits: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of every row, (batch,), the mean of those of its ends, and whether both ends are right.

    Parameters
    ----------
    logits : Tensor, float, (batch, tokens, 2)
    start, end : Tensor, int, (batch,)
        Numbers of tokens.
    """
    wanted = torch.stack([start, end], dim=-1)  # (batch, 2)
    losses = F.cross_entropy(logits, wanted, reduction="none")  # classes are tokens
    return losses.mean(-1), (logits.detach().argmax(1) == wanted).all(-1)


def row_losses(
    logits: Tensor,
    labels: Tensor,
    kind: str,
) -> tuple[Tensor, Tensor | None]:
    """Return the loss of every row, (batch,), and whether its answer is correct, with all of its labels.

    Parameters
    ----------
    logits : Tensor, float, (batch, labels)
    labels : Tensor
        (batch,) numbers of classes; (batch, labels) of 0 and 1; or (batch,) numbers.
    kind : str
        As in `SequenceObjective`.
    """
    if kind == "single_label_classification":
        correct = logits.detach().argmax(-1) == labels
        return F.cross_entropy(logits, labels, reduction="none"), correct
    if kind == "multi_label_classification":
        by_label = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        correct = ((logits.detach() >= 0) == labels.bool()).all(-1)
        return by_label.mean(-1), correct
    return F.mse_loss(logits.squeeze(-1), labels.float(), reduction="none"), None
