"""The losses of sequence classification, one per row, so that rows can have weights."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from companion.model.heads import BertForSequenceClassification
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


def row_losses(logits: Tensor, labels: Tensor, kind: str) -> tuple[Tensor, Tensor | None]:
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
        return F.cross_entropy(logits, labels, reduction="none"), logits.detach().argmax(-1) == labels
    if kind == "multi_label_classification":
        losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(-1)
        return losses, ((logits.detach() >= 0) == labels.bool()).all(-1)
    return F.mse_loss(logits.squeeze(-1), labels.float(), reduction="none"), None
