"""What the models return."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class BertModelOutput:
    """What `BertModel` returns.

    Attributes
    ----------
    last_hidden_state : Tensor, (batch, tokens, hidden)
    pooler_output : Tensor, (batch, hidden), or None
    hidden_states : tuple of Tensor, (batch, tokens, hidden), or None
        The embeddings' output, then that of every layer.
    attentions : tuple of Tensor, (batch, heads, tokens, tokens), or None
        The weights of every layer.
    """

    last_hidden_state: Tensor
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class HeadOutput:
    """Output of a model with one head.

    Attributes
    ----------
    loss : Tensor, (), or None
        If labels were given.
    logits : Tensor
        Scores before softmax; the last dimension runs over words or labels.
    hidden_states, attentions : tuple of Tensor, or None
        As in `BertModelOutput`.
    """

    loss: Tensor | None
    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class PreTrainingOutput:
    """Output of `BertForPreTraining`: `prediction_logits` (batch, tokens, vocabulary), `seq_relationship_logits`
    (batch, 2), and the sum of both losses; `hidden_states` and `attentions` as in `BertModelOutput`.
    """

    loss: Tensor | None
    prediction_logits: Tensor
    seq_relationship_logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class SpanOutput:
    """Output of `BertForQuestionAnswering`: `start_logits` and `end_logits` (batch, tokens), and the mean of both
    losses; `hidden_states` and `attentions` as in `BertModelOutput`.
    """

    loss: Tensor | None
    start_logits: Tensor
    end_logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
