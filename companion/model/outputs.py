"""What the models return: tensors by name, as Transformers names them, also by position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

Returned = TypeVar("Returned", bound="Output")


@dataclass
class Output:
    """Base of what models return: `output.logits`, `output["logits"]`, and `output[0]`, which skips what is None."""

    def to_tuple(self) -> tuple[Any, ...]:
        """Return what is not None, in the order of the fields."""
        return tuple(value for field in fields(self) if (value := getattr(self, field.name)) is not None)

    def __getitem__(self, key: int | slice | str) -> Any:
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())

    def __len__(self) -> int:
        return len(self.to_tuple())


def exported(cls: type[Returned]) -> type[Returned]:
    """Let `torch.export`, `torch.onnx` and `torch.utils._pytree` look inside this dataclass."""
    torch.export.register_dataclass(cls)
    return cls


def returned(output: Output, return_dict: bool | None) -> Any:
    """Return the output, or with `return_dict=False` its tuple, which Transformers' callers may ask for."""
    return output.to_tuple() if return_dict is False else output


@exported
@dataclass
class BertModelOutput(Output):
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


@exported
@dataclass
class HeadOutput(Output):
    """Output of a model with one head.

    Attributes
    ----------
    loss : Tensor, (), or None
        If labels were given.
    logits : Tensor
        Scores before softmax; the last dimension runs over words, labels or choices.
    hidden_states, attentions : tuple of Tensor, or None
        As in `BertModelOutput`.
    """

    loss: Tensor | None
    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@exported
@dataclass
class PreTrainingOutput(Output):
    """Output of `BertForPreTraining`.

    Attributes
    ----------
    loss : Tensor, (), or None
        The sum of both losses, if both kinds of labels were given.
    prediction_logits : Tensor, (batch, tokens, vocabulary)
    seq_relationship_logits : Tensor, (batch, 2)
    hidden_states, attentions : tuple of Tensor, or None
        As in `BertModelOutput`.
    """

    loss: Tensor | None
    prediction_logits: Tensor
    seq_relationship_logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@exported
@dataclass
class SpanOutput(Output):
    """Output of `BertForQuestionAnswering`.

    Attributes
    ----------
    loss : Tensor, (), or None
        The mean of the losses of start and end, if both positions were given.
    start_logits, end_logits : Tensor, (batch, tokens)
    hidden_states, attentions : tuple of Tensor, or None
        As in `BertModelOutput`.
    """

    loss: Tensor | None
    start_logits: Tensor
    end_logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
