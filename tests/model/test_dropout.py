"""Dropout: its rate, its scale, its independence, and that it is off outside training."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from companion.model.dropout import LEVELS, Dropout, dropout

MANY = 1 << 20


def six_sigma(p: float, n: int = MANY) -> float:
    """Six standard deviations of the share of n draws that are dropped."""
    return 6 * math.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.25, 0.5, 0.9])
def test_the_share_dropped_is_p_and_the_mean_stays(p: float):
    torch.manual_seed(0)
    out = dropout(torch.ones(MANY), p)
    dropped = (out == 0).float().mean().item()
    assert abs(dropped - p) < six_sigma(p) + 0.5 / LEVELS
    assert abs(out.mean().item() - 1) < six_sigma(p) / (1 - p)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_what_is_kept_is_divided_by_the_probability_of_keeping_it_rounded_to_a_65536th(p: float):
    torch.manual_seed(0)
    values = torch.randn(1001)
    out = dropout(values, p)
    kept = out != 0
    expected = values / (1 - round(p * 65536) / 65536)
    torch.testing.assert_close(out[kept], expected[kept], rtol=3e-7, atol=0)


def test_p_below_half_a_65536th_drops_nothing_and_p_next_to_one_keeps_something_finite():
    assert (dropout(torch.ones(MANY), 0.4 / 65536) == 1).all()
    torch.manual_seed(0)
    out = dropout(torch.ones(MANY), 1 - 1e-7)
    assert out.isfinite().all()
    assert 0 < (out != 0).sum() < 100  # 16 are expected


@pytest.mark.parametrize(("i", "j"), [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])
def test_the_four_entries_of_one_draw_are_independent(i: int, j: int):
    torch.manual_seed(1)
    p = 0.3
    dropped = dropout(torch.ones(MANY), p).view(-1, 4) == 0
    both = (dropped[:, i] & dropped[:, j]).float().mean().item()
    assert abs(both - p * p) < six_sigma(p * p, MANY // 4)


def test_neighbouring_draws_are_independent():
    torch.manual_seed(2)
    p = 0.3
    dropped = dropout(torch.ones(MANY), p) == 0
    both = (dropped[:-4] & dropped[4:]).float().mean().item()
    assert abs(both - p * p) < six_sigma(p * p)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 7), (2, 3, 4, 5), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_shape_and_type_is_kept(shape: tuple[int, ...], dtype: torch.dtype):
    torch.manual_seed(0)
    out = dropout(torch.ones(shape, dtype=dtype), 0.5)
    assert (out.shape, out.dtype) == (shape, dtype)
    assert ((out == 0) | (out == 2)).all()


def test_a_tensor_that_does_not_lie_in_one_piece_is_dropped_entry_by_entry():
    values = torch.arange(1.0, 13.0).view(3, 4).T
    torch.manual_seed(0)
    out = dropout(values, 0.5)
    assert ((out == 0) | (out == 2 * values)).all()
    assert 0 < (out == 0).sum() < 12


def test_the_gradient_passes_where_the_value_passed_with_the_same_factor():
    torch.manual_seed(0)
    values = torch.full((1000,), 3.0, requires_grad=True)
    out = dropout(values, 0.25)
    out.sum().backward()
    torch.testing.assert_close(values.grad, out.detach() / 3)


def test_a_seed_repeats_the_mask_and_the_next_call_draws_another():
    values = torch.ones(256)
    torch.manual_seed(3)
    first, second = dropout(values, 0.5), dropout(values, 0.5)
    torch.manual_seed(3)
    assert torch.equal(dropout(values, 0.5), first)
    assert not torch.equal(first, second)


def test_outside_training_and_at_rate_zero_the_values_are_returned_as_they_are():
    values = torch.randn(8)
    assert dropout(values, 0.5, training=False) is values
    assert dropout(values, 0.0) is values


def test_the_layer_is_active_in_training_mode_only():
    layer = nn.Sequential(Dropout(0.5))
    values = torch.ones(1000)
    torch.manual_seed(0)
    assert (layer.train()(values) == 0).any()
    assert torch.equal(layer.eval()(values), values)
    assert "p=0.5" in repr(layer)


@pytest.mark.gpu
def test_on_a_gpu_the_share_and_the_mean_are_the_same():
    torch.manual_seed(0)
    out = dropout(torch.ones(MANY, device="cuda"), 0.1)
    assert abs((out == 0).float().mean().item() - 0.1) < six_sigma(0.1)
    torch.testing.assert_close(out[out != 0].min(), torch.tensor(1 / 0.9, device="cuda"))
