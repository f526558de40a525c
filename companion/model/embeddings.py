"""From ids to vectors: token, position and segment embeddings, added and normalised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from companion.config import BertConfig
from companion.model.dropout import Dropout
from companion.support.devices import in_working_precision
from companion.support.require import require


class BertEmbeddings(nn.Module):
    """Add token, position and segment vectors, then LayerNorm and dropout (Devlin et al. 2019, figure 2).

    Positions are learned vectors, one for each of `max_position_embeddings`, not sinusoids.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.segments = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Tensor | None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """Return the input of the first encoder layer.

        Parameters
        ----------
        input_ids : Tensor, int64, (batch, tokens)
            None if `inputs_embeds` is given instead.
        token_type_ids : Tensor, int64, (batch, tokens), optional
            Segment of each token; all 0 by default.
        position_ids : Tensor, int64, (batch, tokens) or (1, tokens), optional
            Position of each token; 0, 1, 2 ... by default.
        inputs_embeds : Tensor, float, (batch, tokens, hidden), optional
            Vectors to take in place of the token embeddings.

        Returns
        -------
        Tensor, float, (batch, tokens, hidden)

        Raises
        ------
        TypeError
            If an input is no tensor, or ids are no integers.
        ValueError
            If there are more tokens than positions, neither or both of `input_ids` and `inputs_embeds`, a tensor of
            another form, or, on a CPU, where that costs nothing, an id out of range.
        """
        vectors = self._token_vectors(input_ids, inputs_embeds)  # (batch, tokens, hidden)
        positions = self._position_vectors(position_ids, vectors.shape[1])
        segments = self._segment_vectors(token_type_ids)
        total = vectors + positions + segments  # (batch, tokens, hidden)
        return self.dropout(in_working_precision(self.norm(total)))

    def _token_vectors(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        if input_ids is not None and inputs_embeds is None:
            check_form("input_ids", input_ids, "(batch, tokens)")
            return look_up(self.tokens, "input_ids", input_ids)  # (batch, tokens, hidden)
        if inputs_embeds is not None and input_ids is None:
            check_form("inputs_embeds", inputs_embeds, "(batch, tokens, hidden)")
            return inputs_embeds
        raise ValueError("pass exactly one of input_ids and inputs_embeds")

    def _position_vectors(self, position_ids: Tensor | None, tokens: int) -> Tensor:
        if tokens > self.positions.num_embeddings:
            raise ValueError(
                f"the input has {tokens} tokens, more than the model's {self.positions.num_embeddings} positions; "
                "truncate it (max_length=...) or split it with an overlap (stride=...)"
            )
        if position_ids is None:
            return self.positions.weight[:tokens]  # (tokens, hidden): a slice costs less than a look-up
        return look_up(self.positions, "position_ids", position_ids)  # (batch or 1, tokens, hidden)

    def _segment_vectors(self, token_type_ids: Tensor | None) -> Tensor:
        if token_type_ids is None:
            return self.segments.weight[0]  # (hidden,)
        return look_up(self.segments, "token_type_ids", token_type_ids)  # (batch, tokens, hidden)


def check_form(name: str, values: Tensor, form: str) -> None:
    """Raise an error unless `values` is a tensor with the dimensions that `form` names."""
    if isinstance(values, Mapping):
        raise TypeError(f"{name} is a {type(values).__name__} of inputs; unpack it: model(**batch)")
    if not isinstance(values, Tensor):
        raise TypeError(f"{name} is of type {type(values).__name__}; it must be a tensor {form}")
    if values.dim() != form.count(",") + 1:
        one = "; add a dimension to a single row: ids[None]" if values.dim() == form.count(",") else ""
        raise ValueError(f"{name} has the shape {tuple(values.shape)}; it must be {form}{one}")


def look_up(table: nn.Embedding, name: str, ids: Tensor) -> Tensor:
    """Return the rows of `table`, (..., hidden), that `ids`, (...), name."""
    if ids.is_floating_point() or ids.is_complex():
        wanted = "ids must be integers (torch.int64)"
        raise TypeError(f"{name} is of dtype {ids.dtype}; {wanted}")
    if torch.compiler.is_compiling():
        return table(ids)
    try:
        return table(ids)
    except IndexError:  # raised on a CPU only
        wrong = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
        known = f"this model knows 0 to {table.num_embeddings - 1}"
        advice = "use the tokenizer that belongs to the model"
        raise ValueError(f"{name} holds {wrong}, and {known}; {advice}") from None


class Turning(NamedTuple):
    """How the rows of a table of positions turn; `row @ rotation` is nearly the next row.

    `rows` : (rows, dimensions), the rows that it was found from; `axes` : (dimensions, hidden), the directions that
    turn; `centre` : (hidden,), what they turn around; `rotation` : (dimensions, dimensions). All float64.
    """

    rows: Tensor
    axes: Tensor
    centre: Tensor
    rotation: Tensor


def position_turning(
    vectors: Tensor,
    trained: int,
    *,
    dimensions: int = 16,
    edge: int = 4,
) -> Turning:
    """Return the rotation that leads from each learned position vector nearly to the next, as it does among sines.

    It is looked for in the first principal components of the trained rows, by orthogonal Procrustes (Schönemann 1966).

    Parameters
    ----------
    vectors : Tensor, float, (positions, hidden)
        The table.
    trained : int
        How many rows training has reached, from the first on.
    dimensions : int
        How many principal components turn.
    edge : int
        Trained rows at the end that are left out, as the last positions of full rows have vectors of another kind. The
        first row, that of `[CLS]`, is left out too.

    Raises
    ------
    ValueError
        If there are too few trained rows to find the rotation from.
    """
    _check_trained(vectors, trained, dimensions, edge)
    inner = vectors[1 : trained - edge].detach().double()  # (inner rows, hidden)
    centre = inner.mean(0)
    axes = torch.linalg.svd(inner - centre, full_matrices=False).Vh[:dimensions]
    turned = (inner - centre) @ axes.T  # (inner rows, dimensions)
    left, _, right = torch.linalg.svd(turned[:-1].T @ turned[1:])
    return Turning(turned, axes, centre, left @ right)


def _check_trained(vectors: Tensor, trained: int, dimensions: int, edge: int) -> None:
    """Raise a ValueError unless enough rows of a table of positions are trained to find a rotation from."""
    rows, hidden = vectors.shape
    needed = dimensions + edge + 2
    require("dimensions", dimensions, 0 < dimensions <= hidden, f"from 1 to the {hidden} numbers of a row")
    require("trained", trained, needed < trained <= rows, f"above {needed} (dimensions + edge + 2), up to {rows}")


def continued_positions(vectors: Tensor, trained: int, *, dimensions: int = 16, edge: int = 4) -> Tensor:
    """Return a table of positions whose rows beyond the trained ones go on turning as those do.

    Parameters
    ----------
    vectors, trained, dimensions, edge
        As in `position_turning`. A continued row has the mean of the trained ones outside the `dimensions`.

    Returns
    -------
    Tensor, float, (positions, hidden)
        A copy, with other rows from `trained` on.

    Raises
    ------
    ValueError
        As in `position_turning`.
    """
    turning = position_turning(vectors, trained, dimensions=dimensions, edge=edge)
    continued, row = vectors.detach().clone(), turning.rows[-1]
    for position in range(trained - edge, len(vectors)):
        row = row @ turning.rotation
        if position >= trained:
            continued[position] = row @ turning.axes + turning.centre
    return continued


def sinusoidal_positions(tokens: int, hidden: int) -> Tensor:
    """Return the fixed positions of the original Transformer, (tokens, hidden) (Vaswani et al. 2017, section 3.5).

    BERT does not use them; the chapter on positions compares the two.

    Raises
    ------
    ValueError
        If `hidden` is odd.
    """
    require("hidden", hidden, hidden % 2 == 0, "even: a sine for each cosine")
    rates = 10000.0 ** (-torch.arange(0, hidden, 2) / hidden)  # (hidden / 2,)
    angles = torch.arange(tokens)[:, None] * rates  # (tokens, hidden / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
