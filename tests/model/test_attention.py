"""Attention: a number worked by hand, masks in every form, heads, and both ways of computing it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from companion.config import BertConfig
from companion.model import attention
from companion.model.attention import (
    MultiHeadAttention,
    by_hand_is_faster,
    causal_mask,
    padding_mask,
    scaled_dot_product_attention,
    softmax,
)


@pytest.fixture
def layer(small_config: BertConfig) -> MultiHeadAttention:
    torch.manual_seed(0)
    layer = MultiHeadAttention(small_config)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer.eval()


@pytest.fixture
def hidden() -> Tensor:
    return torch.randn(3, 6, 24, generator=torch.Generator().manual_seed(1))


def inputs(seed: int, *shape: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, generator=generator) for _ in range(3))


def test_a_number_worked_by_hand():
    # Scores (1, 0) / √2 = (0.7071, 0); weights e^0.7071 / (e^0.7071 + 1) = 2.0281 / 3.0281 = 0.6698 and 0.3302;
    # their mean of the values 1 and 3 is 0.6698 + 3 · 0.3302 = 1.6605.
    context, weights = scaled_dot_product_attention(
        torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0], [3.0]])
    )
    torch.testing.assert_close(weights, torch.tensor([[0.6698, 0.3302]]), atol=5e-5, rtol=0)
    torch.testing.assert_close(context, torch.tensor([[1.6605]]), atol=5e-5, rtol=0)


@given(
    st.integers(0, 999), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)
)
def test_it_equals_the_fused_kernel_on_every_shape(seed, heads, queries, keys, width, value_width):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(2, heads, queries, width, generator=generator)
    key = torch.randn(2, heads, keys, width, generator=generator)
    value = torch.randn(2, heads, keys, value_width, generator=generator)
    mask = torch.rand(2, 1, queries, keys, generator=generator) < 0.6
    mask[..., 0] = True
    context, weights = scaled_dot_product_attention(query, key, value, mask)
    torch.testing.assert_close(context, F.scaled_dot_product_attention(query, key, value, mask), atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, heads, queries))
    assert (weights.masked_select(~mask) == 0).all()


def test_a_boolean_mask_equals_an_additive_one():
    query, key, value = inputs(0, 2, 5, 8)
    mask = torch.tensor([True, True, False, True, False])
    context, weights = scaled_dot_product_attention(query, key, value, mask)
    added = torch.zeros(5).masked_fill(~mask, -math.inf)
    torch.testing.assert_close(weights, torch.softmax(query @ key.transpose(1, 2) / math.sqrt(8) + added, dim=-1))
    torch.testing.assert_close(context, weights @ value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_row_that_may_look_nowhere_looks_everywhere_alike_and_is_no_nan(dtype: torch.dtype):
    query, key, value = (part.to(dtype).requires_grad_() for part in inputs(0, 4, 8))
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[2] = False
    context, weights = scaled_dot_product_attention(query, key, value, mask)
    torch.testing.assert_close(weights[2], torch.full((4,), 0.25, dtype=dtype))
    context.sum().backward()
    assert context.isfinite().all() and query.grad.isfinite().all() and key.grad.isfinite().all()


def test_dropped_weights_change_the_context_and_not_the_weights_returned():
    query, key, value = inputs(0, 40, 8)
    plain, _ = scaled_dot_product_attention(query, key, torch.ones(40, 1))
    torch.manual_seed(0)
    context, weights = scaled_dot_product_attention(query, key, torch.ones(40, 1), dropout_p=0.5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(40))
    assert not torch.allclose(context, plain)
    assert abs(context.mean().item() - 1) < 0.15


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_softmax_keeps_its_type_under_autocast_and_sums_in_fp32(device: str):
    scores = (8 * torch.randn(4, 512, generator=torch.Generator().manual_seed(0))).bfloat16().to(device)
    with torch.autocast(device, dtype=torch.bfloat16):
        weights = softmax(scores)
    assert weights.dtype == torch.bfloat16
    torch.testing.assert_close(weights, torch.softmax(scores.float(), dim=-1).bfloat16())


def test_a_padding_mask_is_true_where_there_is_a_token():
    mask = padding_mask(torch.tensor([[1, 1, 0], [1, 0, 0]]))
    assert (mask.shape, mask.dtype) == ((2, 1, 1, 3), torch.bool)
    assert mask[:, 0, 0].tolist() == [[True, True, False], [True, False, False]]


def test_a_mask_for_every_query_is_broadcast_over_the_heads():
    asked = torch.arange(12).view(1, 3, 4) % 2
    mask = padding_mask(asked)
    assert mask.shape == (1, 1, 3, 4)
    assert torch.equal(mask[:, 0], asked == 1)


@pytest.mark.parametrize("shape", [(3,), (1, 1, 1, 3)])
def test_a_mask_of_another_form_is_refused_with_its_shape(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"shape \(.*\); it must be \(batch, tokens\) or \(batch, queries, keys\)"):
        padding_mask(torch.ones(shape))


def test_a_causal_mask_shows_a_token_itself_and_what_stands_before():
    assert causal_mask(3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]


def head_by_head(layer: MultiHeadAttention, hidden: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The definition: every head on its own slice of the weight matrices, the results side by side."""
    width = layer.query.out_features // layer.num_heads
    contexts, weights = [], []
    for head in range(layer.num_heads):
        rows = slice(head * width, (head + 1) * width)
        query, key, value = (
            hidden @ part.weight[rows].T + part.bias[rows] for part in (layer.query, layer.key, layer.value)
        )
        scores = query @ key.transpose(1, 2) / math.sqrt(width)
        if mask is not None:
            scores = scores.masked_fill(~mask.expand(-1, 1, hidden.shape[1], -1)[:, 0], -math.inf)
        weights.append(scores.softmax(-1))
        contexts.append(weights[-1] @ value)
    return layer.output(torch.cat(contexts, dim=-1)), torch.stack(weights, dim=1)


MASKS = {
    "none": None,
    "padding": padding_mask(torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 0]])),
    "causal": padding_mask(causal_mask(6).expand(3, 6, 6)),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shown", [True, False])
def test_both_ways_equal_the_definition_head_by_head(layer, hidden, mask: str, training: bool, shown: bool):
    layer.train(training)
    layer.weights_dropout.p = 0.0
    mixed, weights = layer(hidden, MASKS[mask], output_attentions=shown)
    expected, expected_weights = head_by_head(layer, hidden, MASKS[mask])
    torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=1e-5)
    if shown:
        torch.testing.assert_close(weights, expected_weights, atol=1e-6, rtol=1e-5)
    else:
        assert weights is None


def test_by_hand_is_taken_on_a_cpu_in_training_and_where_weights_are_asked_for(layer, hidden, monkeypatch):
    assert by_hand_is_faster(hidden, training=True)
    assert not by_hand_is_faster(hidden, training=False)
    assert not by_hand_is_faster(hidden.to("meta"), training=True)
    ways = []
    real = attention.scaled_dot_product_attention
    monkeypatch.setattr(attention, "scaled_dot_product_attention", lambda *a: (ways.append("by hand"), real(*a))[1])
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: (ways.append("fused"), fused(*a, **k))[1])
    layer.eval()(hidden)
    layer(hidden, output_attentions=True)
    layer.train()(hidden)
    assert ways == ["fused", "by hand", "by hand"]


def test_a_row_without_tokens_is_finite_either_way_and_leaves_the_others_as_they_are(layer, hidden):
    mask = padding_mask(torch.tensor([[1, 1, 1, 1, 0, 0], [0] * 6, [1] * 6]))
    by_hand, fused = layer(hidden, mask, output_attentions=True)[0], layer(hidden, mask)[0]
    assert by_hand.isfinite().all() and fused.isfinite().all()
    for row in (0, 2):
        torch.testing.assert_close(by_hand[row], fused[row], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(layer(hidden[row : row + 1], mask[row : row + 1])[0][0], fused[row])


def test_without_positions_a_permutation_of_the_tokens_permutes_the_output(layer, hidden):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    mask = MASKS["padding"]
    torch.testing.assert_close(layer(hidden[:, order], mask[..., order])[0], layer(hidden, mask)[0][:, order])


def test_under_a_causal_mask_nothing_depends_on_what_comes_later(layer, hidden):
    changed = hidden.clone()
    changed[:, 4:] += 1
    before, after = (layer(vectors, MASKS["causal"])[0] for vectors in (hidden, changed))
    torch.testing.assert_close(after[:, :4], before[:, :4], atol=0, rtol=0)
    assert not torch.allclose(after[:, 4:], before[:, 4:])


@pytest.mark.parametrize("shown", [True, False])
def test_weights_are_dropped_in_training_only(layer, hidden, shown: bool):
    layer.weights_dropout.p = 0.5
    still = [layer.eval()(hidden, None, shown)[0] for _ in range(2)]
    assert torch.equal(*still)
    torch.manual_seed(0)
    moving = [layer.train()(hidden, None, shown)[0] for _ in range(2)]
    assert not torch.allclose(moving[0], moving[1])
    assert not torch.allclose(moving[0], still[0])


@pytest.mark.gpu
@pytest.mark.parametrize("mask", MASKS)
def test_on_a_gpu_both_ways_give_what_the_cpu_gives(layer, hidden, mask: str):
    expected = layer(hidden, MASKS[mask])[0]
    layer, hidden = layer.cuda(), hidden.cuda()
    place = None if MASKS[mask] is None else MASKS[mask].cuda()
    for shown in (True, False):
        torch.testing.assert_close(layer(hidden, place, shown)[0].cpu(), expected, atol=1e-5, rtol=1e-4)
