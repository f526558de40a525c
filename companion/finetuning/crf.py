"""Scores for tags that follow each other, learnt beside those of the words: a linear-chain conditional random field.

Lafferty, McCallum and Pereira (2001), "Conditional random fields". The probability of a whole sequence of tags is the
softmax of its score over all sequences, which `log_partition` adds up without listing them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from companion.finetuning.tags import best_path, transition_scores


class LinearChainCRF(nn.Module):
    """The loss of whole sequences of tags, and the best sequence. Steps that IOB2 forbids have probability 0.

    With a network before it, its scores are those of words, not of pieces: take the first piece of every word out
    first (`scores[first]`), and leave `[CLS]` and `[SEP]` away.

    Parameters
    ----------
    tags : sequence of str
        The names of the columns of the scores.

    Attributes
    ----------
    starts : nn.Parameter, (tags,)
        What the first tag of a text adds; 0 at the beginning.
    steps : nn.Parameter, (tags before, tags)
        What a tag adds after another; 0 at the beginning.

    Examples
    --------
    >>> crf = LinearChainCRF(["O", "B-PER", "I-PER"])
    >>> scores = torch.tensor([[[0.6, 0.3, 0.1], [0.2, 0.1, 0.7]]]).log()
    >>> crf.decode(scores[0])
    ['B-PER', 'I-PER']
    >>> round(crf(scores, torch.tensor([[1, 2]])).exp().item(), 3)  # one over the probability of this sequence
    2.286
    """

    allowed_starts: Tensor
    allowed_steps: Tensor

    def __init__(self, tags: Sequence[str]) -> None:
        super().__init__()
        self.tags = tuple(tags)
        self.starts = nn.Parameter(torch.zeros(len(tags)))
        self.steps = nn.Parameter(torch.zeros(len(tags), len(tags)))
        starts, steps = transition_scores(self.tags)
        self.register_buffer("allowed_starts", torch.tensor(starts == 0), persistent=False)
        self.register_buffer("allowed_steps", torch.tensor(steps == 0), persistent=False)

    def forward(self, scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the mean of minus the log-probability of the labels, per text, in nats.

        Parameters
        ----------
        scores : Tensor, (texts, words, tags)
        labels : Tensor, (texts, words)
            Numbers of tags; anything where the mask is False.
        mask : Tensor, (texts, words), optional
            True for a word, False for padding, which stands at the end; None means that all are words.
        """
        mask = scores.new_ones(scores.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
        starts, steps = self.chain()
        right = path_score(scores, labels.where(mask, 0), starts, steps, mask)
        return (log_partition(scores, starts, steps, mask) - right).mean()

    def chain(self) -> tuple[Tensor, Tensor]:
        """Return the scores of starts and of steps, minus infinity where IOB2 forbids them."""
        infinite = -torch.inf
        starts = self.starts.masked_fill(~self.allowed_starts, infinite)
        return starts, self.steps.masked_fill(~self.allowed_steps, infinite)

    @torch.no_grad()
    def decode(self, scores: Tensor) -> list[str]:
        """Return the best tags of one text whose scores are (words, tags)."""
        starts, steps = (part.double().cpu().numpy() for part in self.chain())
        path = best_path(np.asarray(scores.double().cpu()), starts, steps)
        return [self.tags[place] for place in path]


def path_score(scores: Tensor, labels: Tensor, starts: Tensor, steps: Tensor, mask: Tensor) -> Tensor:
    """Return the score of the labels of every text, (texts,): words, start and steps added up."""
    words = scores.gather(-1, labels[..., None])[..., 0]  # (texts, words)
    before, after = labels[:, :-1], labels[:, 1:]
    chain = torch.cat([starts[labels[:, :1]], steps[before, after]], dim=1)  # (texts, words)
    return (words + chain).masked_fill(~mask, 0).sum(1)


def log_partition(
    scores: Tensor,
    starts: Tensor,
    steps: Tensor,
    mask: Tensor,
) -> Tensor:
    """Return the logarithm of the sum of exp(score) over all sequences of tags, (texts,): the forward algorithm.

    `total` holds the sum over all ways that end in a tag. A step of the chain costs tags × tags operations, where a
    list of all sequences would grow as tags to the power of words.
    """
    total = starts + scores[:, 0]  # (texts, tags)
    for word in range(1, scores.shape[1]):
        ways = total[:, :, None] + steps  # (texts, before, tags)
        longer = ways.logsumexp(1) + scores[:, word]
        total = longer.where(mask[:, word, None], total)
    return total.logsumexp(-1)
