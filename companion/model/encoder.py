"""The encoder: feed-forward network, layer, stack and pooler, put together as `BertModel`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from companion.config import BertConfig
from companion.model.attention import MultiHeadAttention, padding_mask
from companion.model.dropout import Dropout
from companion.model.embeddings import BertEmbeddings
from companion.model.outputs import BertModelOutput, returned
from companion.model.pretrained import PreTrained


def activation(name: str, values: Tensor) -> Tensor:
    """Apply the activation that `BertConfig.hidden_act` names; GELU as in Hendrycks and Gimpel (2016)."""
    if name == "relu":
        return F.relu(values)
    return F.gelu(values, approximate="tanh" if name == "gelu_new" else "none")


class FeedForward(nn.Module):
    """The same two-layer network at every position: expand, GELU, contract (Vaswani et al. 2017, equation 2)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.act = config.hidden_act
        self.expand = nn.Linear(config.hidden_size, config.intermediate_size)
        self.contract = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape, by way of (batch, tokens, intermediate)."""
        inner = self.expand(hidden)  # (batch, tokens, intermediate)
        return self.contract(activation(self.act, inner))  # (batch, tokens, hidden)


Choice = Callable[[Tensor], Tensor]  # picks vectors out of (batch, tokens, hidden), the same ones in every call


def all_tokens(states: Tensor) -> Tensor:
    """Return (batch, tokens, hidden) as it is: the choice where every vector is wanted."""
    return states


def first_token(states: Tensor) -> Tensor:
    """Return the vector of `[CLS]` alone, (batch, 1, hidden), out of (batch, tokens, hidden)."""
    return states[:, :1]


class EncoderLayer(nn.Module):
    """Attention, then feed-forward; after each: dropout, add the input, LayerNorm (post-LN, as published)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor | None = None,
        output_attentions: bool = False,
        chosen: Choice = all_tokens,
    ) -> tuple[Tensor, Tensor | None]:
        """Map (batch, tokens, hidden) to the same shape, or go on after attention with the vectors that are `chosen`.

        See `MultiHeadAttention` for the mask and the weights.
        """
        mixed, weights = self.attention(hidden, mask, output_attentions)
        hidden = self.attention_norm(chosen(hidden + self.dropout(mixed)))
        hidden = self.feed_forward_norm(hidden + self.dropout(self.feed_forward(hidden)))
        return hidden, weights


class Encoder(nn.Module):
    """A stack of layers.

    Attributes
    ----------
    checkpointing : dict, optional
        Options of `torch.utils.checkpoint.checkpoint`, through which layers run in training; None runs all as they are.
    checkpointed_every : int
        1 runs every layer so, 2 every second one.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))
        self.checkpointing: dict[str, Any] | None = None
        self.checkpointed_every = 1

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        chosen: Choice = all_tokens,
    ) -> BertModelOutput:
        """Return the last state and, if asked for, all states (the input's first) and each layer's weights.

        Of the last state only what is `chosen` is computed, as no layer looks at the rest; a layer of a class of yours
        computes it all.
        """
        states, attentions = [hidden] if output_hidden_states else [], []
        last, can_choose = len(self.layers) - 1, type(self.layers[-1]) is EncoderLayer
        for index, layer in enumerate(self.layers):
            run = partial(checkpoint, layer, **(self.checkpointing or {})) if self._saves_memory(index) else layer
            choice = (chosen,) if can_choose and index == last else ()
            hidden, weights = run(hidden, mask, output_attentions, *choice)  # (batch, tokens, hidden)
            if output_hidden_states:
                states.append(hidden)
            if output_attentions:
                attentions.append(weights)
        hidden = hidden if can_choose else chosen(hidden)
        return BertModelOutput(hidden, None, tuple(states) or None, tuple(attentions) or None)

    def _saves_memory(self, index: int) -> bool:
        wanted = self.checkpointing is not None and index % self.checkpointed_every == 0
        return wanted and self.training and torch.is_grad_enabled()


def check_mask(attention_mask: Tensor, batch: int, tokens: int) -> None:
    """Raise a ValueError unless a mask, (batch, tokens) or (batch, queries, keys), fits; its batch may be 1."""
    rows, *others = attention_mask.shape
    if rows not in (1, batch) or any(other != tokens for other in others):
        raise ValueError(
            f"attention_mask has the shape {tuple(attention_mask.shape)}; for this input it must be "
            f"({batch}, {tokens}) or ({batch}, {tokens}, {tokens})"
        )


class Pooler(nn.Module):
    """A dense layer and tanh on the vector of `[CLS]`; trained by next-sentence prediction."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (batch, tokens, hidden) to (batch, hidden)."""
        first = hidden[:, 0]  # (batch, hidden)
        return torch.tanh(self.dense(first))


def initialise(module: nn.Module, std: float) -> None:
    """Draw weights from N(0, std²); set biases to 0, LayerNorm to the identity and the vector of `[PAD]` to 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            nn.init.zeros_(part.weight[part.padding_idx])
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


class BertModel(PreTrained):
    """BERT without a task: ids in, one vector a token out (Devlin et al. 2019, section 3).

    Parameters
    ----------
    config : BertConfig
    pooler : bool
        Whether to have the pooler on `[CLS]`.
    """

    def __init__(self, config: BertConfig, pooler: bool = True) -> None:
        super().__init__(config)
        self.embeddings = BertEmbeddings(config)
        self.encoder = Encoder(config)
        self.pooler = Pooler(config) if pooler else None
        initialise(self, config.initializer_range)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        chosen: Choice | None = None,
    ) -> BertModelOutput:
        """Encode a batch.

        Parameters
        ----------
        input_ids : Tensor, int64, (batch, tokens)
        attention_mask : Tensor, (batch, tokens) or (batch, queries, keys), optional
            1 for tokens, 0 for padding; None if nothing is padded.
        token_type_ids, position_ids, inputs_embeds : Tensor, optional
            As in `BertEmbeddings`.
        output_attentions, output_hidden_states : bool, optional
            Return every layer's weights and states too.
        return_dict : bool, optional
            False returns a tuple.
        chosen : callable, optional
            Picks the tokens whose last states are wanted, out of (batch, tokens, hidden): the last layer then computes
            its feed-forward network, two thirds of its work, for them alone. `first_token` picks what the pooler reads;
            another choice leaves the pooler out.

        Returns
        -------
        BertModelOutput
            `last_hidden_state` has the form that `chosen` gives.

        Raises
        ------
        TypeError, ValueError
            As `BertEmbeddings`, and for a mask of another form.
        """
        mask = None if attention_mask is None else padding_mask(attention_mask)
        hidden = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)  # (batch, tokens, hidden)
        if attention_mask is not None and not torch.compiler.is_compiling():
            check_mask(attention_mask, *hidden.shape[:2])
        asked = (bool(output_attentions), bool(output_hidden_states))
        output = self.encoder(hidden, mask, *asked, chosen or all_tokens)
        if self.pooler is not None and chosen in (None, first_token):
            output.pooler_output = self.pooler(output.last_hidden_state)  # (batch, hidden)
        return returned(output, return_dict)
