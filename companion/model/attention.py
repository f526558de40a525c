"""Attention: by hand, where the weights can be seen, and through PyTorch's fused kernel, where they need not be."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from companion.config import BertConfig
from companion.model.dropout import Dropout, dropout


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout_p: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return softmax(QKᵀ/√d) V and the weights (Vaswani et al. 2017, equation 1).

    Parameters
    ----------
    query : Tensor, float, (..., queries, d)
    key : Tensor, float, (..., keys, d)
    value : Tensor, float, (..., keys, d_value)
    mask : Tensor, bool, broadcastable to (..., queries, keys), optional
        True where a query may look. A row without a True gets the same weight everywhere.
    dropout_p : float
        Probability with which a weight is dropped.

    Returns
    -------
    context : Tensor, (..., queries, d_value)
    weights : Tensor, (..., queries, keys)
        Before dropout; each row sums to 1.
    """
    query = query / math.sqrt(query.shape[-1])
    scores = query @ key.transpose(-2, -1)  # (..., queries, keys)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = softmax(scores)
    context = dropout(weights, dropout_p) @ value  # (..., queries, d_value)
    return context, weights


def softmax(scores: Tensor) -> Tensor:
    """Softmax over the last dimension, in the dtype of `scores`; the sums inside are kept in fp32.

    Autocast would turn the scores, the largest tensor of a step, into fp32 and the weights back again.
    """
    with torch.autocast(scores.device.type, enabled=False):
        return torch.softmax(scores, dim=-1)


def padding_mask(attention_mask: Tensor) -> Tensor:
    """Turn `attention_mask` (1 = token, 0 = padding) into the boolean mask of all heads and queries.

    Parameters
    ----------
    attention_mask : Tensor, (batch, tokens) or (batch, queries, keys)
        The second form gives every query a mask of its own.

    Returns
    -------
    Tensor, bool, (batch, 1, 1, tokens) or (batch, 1, queries, keys)

    Raises
    ------
    ValueError
        If it has another number of dimensions.
    """
    if attention_mask.dim() == 2:
        return attention_mask.bool()[:, None, None, :]  # (batch, 1, 1, tokens)
    if attention_mask.dim() == 3:
        return attention_mask.bool()[:, None, :, :]  # (batch, 1, queries, keys)
    raise ValueError(
        f"attention_mask has the shape {tuple(attention_mask.shape)}; "
        "it must be (batch, tokens) or (batch, queries, keys)"
    )


def causal_mask(tokens: int) -> Tensor:
    """Return the (tokens, tokens) mask under which a token sees itself and what stands before it.

    BERT does not use it; the chapters on masks and on GPT's kind of training do.
    """
    return torch.ones(tokens, tokens, dtype=torch.bool).tril()  # (tokens, tokens)


class MultiHeadAttention(nn.Module):
    """Self-attention in several heads, each of `hidden / heads` dimensions (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)
        self.weights_dropout = Dropout(config.attention_probs_dropout_prob)

    def forward(
        self, hidden: Tensor, mask: Tensor | None = None, output_attentions: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Return the mixed vectors, and the weights if they are asked for.

        Parameters
        ----------
        hidden : Tensor, float, (batch, tokens, hidden)
        mask : Tensor, bool, broadcastable to (batch, heads, tokens, tokens), optional
        output_attentions : bool
            Compute by hand and return the weights.

        Returns
        -------
        Tensor, float, (batch, tokens, hidden)
        Tensor, float, (batch, heads, tokens, tokens), or None
        """
        # each (batch, heads, tokens, head_dim)
        query, key, value = (self._split(layer(hidden)) for layer in (self.query, self.key, self.value))
        dropout_p = self.weights_dropout.p if self.training else 0.0
        weights = None
        if output_attentions or by_hand_is_faster(query, self.training):
            context, weights = scaled_dot_product_attention(query, key, value, mask, dropout_p)
        else:
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout_p)
        context = context.transpose(1, 2).flatten(2)  # (batch, tokens, hidden)
        return self.output(context), weights if output_attentions else None

    def _split(self, vectors: Tensor) -> Tensor:
        cut = vectors.unflatten(2, (self.num_heads, -1))  # (batch, tokens, heads, head_dim)
        return cut.transpose(1, 2)  # (batch, heads, tokens, head_dim)


def by_hand_is_faster(query: Tensor, training: bool) -> bool:
    """Return whether plain products beat the fused kernel: in training on a CPU, where it has none for dropout."""
    return training and query.device.type == "cpu"
