"""What BERT is pre-trained for: the words behind the masks, and whether the second segment follows the first."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from companion.model.encoder import Pooler
from companion.model.heads import IGNORED, BertForPreTraining
from companion.training.objective import Batch, Sums

ROWS_ON_CPU = 128  # predictions at a time: fp32 logits of all at once are new memory, page by page, in every step


class PreTrainingObjective:
    """Masked language modelling and next-sentence prediction, added (Devlin et al. 2019, appendix A.2).

    Little is computed that no loss reads: the feed-forward network of the last layer, and the vocabulary projection,
    the largest product of a small model, see the masked tokens and `[CLS]` alone, about one in six. On a CPU the
    projection goes by pieces of 128 tokens.

    Parameters
    ----------
    next_sentence : bool
        Whether to train on the `next_sentence_label` of batches that carry one; others train the first task alone.
    """

    leaves_unused = True  # batches without pairs train neither the pooler nor the next-sentence head

    def __init__(self, next_sentence: bool = True) -> None:
        self.next_sentence = next_sentence

    def has_pairs(self, batch: Batch) -> bool:
        """Return whether this batch trains next-sentence prediction."""
        return self.next_sentence and "next_sentence_label" in batch

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the number of masked tokens (`mlm`) and of pairs (`nsp`)."""
        counts = {"mlm": (batch["labels"] != IGNORED).sum()}
        if self.has_pairs(batch):
            counts["nsp"] = torch.tensor(len(batch["input_ids"]), device=batch["input_ids"].device)
        return counts

    def sums(self, model: BertForPreTraining, batch: Batch) -> dict[str, Sums]:
        """Return summed losses and numbers of correct answers: `mlm` and, where the batch has pairs, `nsp`.

        `batch` holds `input_ids`, `token_type_ids`, `labels` (batch, tokens), `next_sentence_label` (batch,) or none,
        and `attention_mask` (batch, tokens) unless nothing is padded.
        """
        labels = batch["labels"].flatten()
        masked = (labels != IGNORED).nonzero().squeeze(1)  # (masked,)
        rows = len(batch["labels"]) if self.has_pairs(batch) else 0
        first = torch.arange(rows, device=labels.device) * batch["labels"].shape[1]  # (rows,), of [CLS]
        read = torch.cat([first, masked])
        output = model.bert(
            batch["input_ids"],
            batch.get("attention_mask"),
            batch.get("token_type_ids"),
            chosen=lambda states: states.flatten(0, 1)[read],
        )
        pairs, hidden = output.last_hidden_state.split([rows, len(masked)])  # (rows, hidden), (masked, hidden)
        piece = ROWS_ON_CPU if hidden.device.type == "cpu" else max(1, len(hidden))
        parts = [
            _cross_entropy_and_correct(model.predict_tokens(some), answers)  # logits: (piece, vocabulary)
            for some, answers in zip(hidden.split(piece), labels[masked].split(piece), strict=True)
        ]
        sums = {"mlm": Sums(*(sum(values) for values in zip(*parts, strict=True)))}
        if rows:
            pooled = cast(Pooler, model.bert.pooler)(pairs[:, None])  # (batch, hidden)
            logits = model.nsp_head(pooled)  # (batch, 2)
            sums["nsp"] = _cross_entropy_and_correct(logits, batch["next_sentence_label"])
        return sums


def _cross_entropy_and_correct(logits: Tensor, labels: Tensor) -> Sums:
    logits = logits.float()  # for the sums of the loss; the largest entry is found faster in fp32, too
    correct = (logits.detach().argmax(-1) == labels).sum()
    return Sums(F.cross_entropy(logits, labels, reduction="sum"), correct)
