"""Small models with random weights, and comparisons of what they put out."""

from __future__ import annotations

import torch
from torch import nn

from companion.config import BertConfig

IDS = torch.tensor([[2, 7, 30, 9], [4, 4, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def make(cls: type[nn.Module], config: BertConfig, seed: int = 0) -> nn.Module:
    """Build a model whose every parameter is random, biases and norms too."""
    torch.manual_seed(seed)
    model = cls(config)
    for parameter in model.parameters():
        parameter.data = parameter.data + 0.2 * torch.randn(parameter.shape)
    return model.eval()


def outputs(model: nn.Module) -> list[torch.Tensor]:
    """Return every tensor that a model puts out, ours or theirs."""
    ids, mask = (IDS[:, None], MASK[:, None]) if "MultipleChoice" in type(model).__name__ else (IDS, MASK)
    result = model(input_ids=ids, attention_mask=mask)
    values = result.values() if isinstance(result, dict) else vars(result).values()
    return [value for value in values if isinstance(value, torch.Tensor)]


def assert_same_outputs(first: nn.Module, second: nn.Module) -> None:
    for a, b in zip(outputs(first), outputs(second), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
