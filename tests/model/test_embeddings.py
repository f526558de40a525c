"""Embeddings: three vectors added, then LayerNorm, by numbers; and the sinusoids that BERT does not use."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from companion.config import BertConfig
from companion.model.embeddings import BertEmbeddings, continued_positions, position_turning, sinusoidal_positions


@pytest.fixture
def embeddings(small_config: BertConfig) -> BertEmbeddings:
    torch.manual_seed(0)
    layer = BertEmbeddings(small_config)
    torch.nn.init.normal_(layer.norm.weight)
    torch.nn.init.normal_(layer.norm.bias)
    return layer.eval()


def layer_norm(values: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """The formula: the biased variance, and eps under the root."""
    centred = values - values.mean(-1, keepdim=True)
    return weight * centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps) + bias


IDS = torch.tensor([[3, 7, 7, 0], [49, 1, 2, 3]])
SEGMENTS = torch.tensor([[0, 0, 1, 2], [2, 1, 1, 0]])
PLACES = torch.tensor([[0, 1, 2, 3], [15, 0, 4, 4]])


def expected(layer: BertEmbeddings, ids: Tensor, segments: Tensor, places: Tensor, eps: float) -> Tensor:
    summed = layer.tokens.weight[ids] + layer.positions.weight[places] + layer.segments.weight[segments]
    return layer_norm(summed, layer.norm.weight, layer.norm.bias, eps)


def test_the_three_vectors_are_added_and_normalised(embeddings: BertEmbeddings):
    out = embeddings(IDS, SEGMENTS, PLACES)
    torch.testing.assert_close(out, expected(embeddings, IDS, SEGMENTS, PLACES, eps=1e-12), atol=1e-5, rtol=1e-5)


def test_segments_are_0_and_positions_count_from_0_unless_given(embeddings: BertEmbeddings):
    counted = torch.arange(4).expand(2, 4)
    torch.testing.assert_close(embeddings(IDS), embeddings(IDS, torch.zeros_like(IDS), counted), atol=0, rtol=0)
    assert not torch.allclose(embeddings(IDS, SEGMENTS)[0, 2], embeddings(IDS)[0, 2])
    assert not torch.allclose(embeddings(IDS, position_ids=PLACES)[1], embeddings(IDS)[1])


def test_one_row_of_positions_serves_the_whole_batch(embeddings: BertEmbeddings):
    places = torch.tensor([[4, 3, 2, 1]])
    torch.testing.assert_close(embeddings(IDS, position_ids=places), embeddings(IDS, position_ids=places.expand(2, 4)))


def test_the_eps_is_that_of_the_config(small_config: BertConfig):
    torch.manual_seed(0)
    layer = BertEmbeddings(dataclasses.replace(small_config, layer_norm_eps=0.5)).eval()
    zeros = torch.zeros_like(IDS)
    torch.testing.assert_close(
        layer(IDS, zeros, zeros), expected(layer, IDS, zeros, zeros, eps=0.5), atol=1e-5, rtol=1e-5
    )


def test_vectors_may_take_the_place_of_ids(embeddings: BertEmbeddings):
    vectors = embeddings.tokens(IDS)
    torch.testing.assert_close(embeddings(None, SEGMENTS, inputs_embeds=vectors), embeddings(IDS, SEGMENTS))


def test_the_vector_of_padding_is_never_trained(small_config: BertConfig):
    layer = BertEmbeddings(small_config.replace(pad_token_id=7))
    layer(IDS).square().sum().backward()
    assert (layer.tokens.weight.grad[7] == 0).all()
    assert (layer.tokens.weight.grad[3] != 0).any()


def test_dropout_acts_in_training_after_the_norm(embeddings: BertEmbeddings):
    torch.manual_seed(0)
    out = embeddings.train()(IDS)
    kept = out != 0
    assert 0 < (~kept).sum() < out.numel() / 2
    torch.testing.assert_close(out[kept], embeddings.eval()(IDS)[kept] / 0.9, rtol=1e-4, atol=1e-6)


def test_more_tokens_than_positions_are_refused_with_what_to_do(embeddings: BertEmbeddings):
    assert embeddings(torch.ones(1, 16, dtype=torch.long)).shape == (1, 16, 24)
    with pytest.raises(ValueError, match=r"17 tokens, more than the model's 16 positions; truncate .*stride="):
        embeddings(torch.ones(1, 17, dtype=torch.long))


def test_neither_and_both_inputs_are_refused(embeddings: BertEmbeddings):
    for given in ({"input_ids": None}, {"input_ids": IDS, "inputs_embeds": torch.zeros(2, 4, 24)}):
        with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
            embeddings(**given)


def test_sinusoids_at_places_worked_by_hand():
    places = sinusoidal_positions(101, 4)
    assert places.shape == (101, 4)
    torch.testing.assert_close(places[0], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    by_hand = [
        math.sin(1),
        math.cos(1),
        math.sin(0.01),
        math.cos(0.01),
    ]  # the second pair turns 10000^(2/4) = 100 slower
    torch.testing.assert_close(places[1], torch.tensor(by_hand))
    torch.testing.assert_close(places[100, 2:], torch.tensor([math.sin(1), math.cos(1)]), atol=1e-5, rtol=0)


def test_an_odd_width_has_no_pairs_of_sine_and_cosine():
    with pytest.raises(ValueError, match="hidden=5 is not allowed; it must be even"):
        sinusoidal_positions(3, 5)


def turning_table(rows: int) -> Tensor:
    """Whole turns in 120 rows, in 16 of 40 dimensions that no axis follows, around a centre; row 0 is of its own."""
    steps = torch.arange(rows).double()[:, None] - 1
    angles = 2 * math.pi / 120 * steps * torch.arange(1, 9)
    plane = torch.linalg.qr(torch.randn(40, 16, generator=torch.Generator().manual_seed(0)).double()).Q
    table = torch.cat([angles.sin(), angles.cos()], 1) @ plane.T + 0.3
    table[0] = 5.0
    return table


def test_positions_that_turn_go_on_turning():
    whole = turning_table(300)
    cut = whole.clone()
    cut[125:] = 7.0
    cut[121:125] = 9.0  # the edge is not asked
    continued = continued_positions(cut, 125)
    torch.testing.assert_close(continued[125:], whole[125:])
    assert torch.equal(continued[:125], cut[:125]) and cut[125].eq(7.0).all()


def test_the_angles_of_the_rotation_are_those_of_the_turns():
    angles = torch.linalg.eigvals(position_turning(turning_table(300), 300).rotation).angle().sort().values
    expected = 2 * math.pi / 120 * torch.tensor([*range(-8, 0), *range(1, 9)])
    torch.testing.assert_close(angles, expected.double(), atol=1e-2, rtol=0)


def test_a_table_that_is_trained_whole_stays_as_it_is():
    table = turning_table(300).float().requires_grad_()
    continued = continued_positions(table, 300)
    assert torch.equal(continued, table) and continued is not table and not continued.requires_grad


@pytest.mark.parametrize("trained", [22, 301])
def test_a_rotation_needs_trained_rows(trained: int):
    with pytest.raises(ValueError, match=f"trained={trained} .* above 22 .* up to 300"):
        continued_positions(turning_table(300), trained)
    with pytest.raises(ValueError, match="dimensions=41 .* 1 to the 40 numbers"):
        position_turning(turning_table(300), 300, dimensions=41)
