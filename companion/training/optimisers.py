"""Which weights are trained, which of them decay, and the optimiser that changes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from companion.training.settings import TrainingSettings

Weights = tuple[Tensor, ...] | list[Tensor]


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters: matrices decay, vectors (biases, LayerNorm) do not (Devlin et al. 2019, A.2)."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
    ]


@contextmanager
def trained_only(
    model: nn.Module, groups: Sequence[dict[str, Any]] | None, weight_decay: float
) -> Iterator[list[dict[str, Any]]]:
    """Yield the parameter groups of a training, by default `parameter_groups`; what is in none is frozen in the block.

    Gradients that lie on the model are removed.

    Raises
    ------
    ValueError
        If no parameter is to be trained, or one in the groups is not the model's or is frozen.
    """
    groups = parameter_groups(model, weight_decay) if groups is None else _listed(groups)
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    own = {id(parameter): parameter for parameter in model.parameters()}
    if not trained:
        raise ValueError("no parameter is to be trained; set requires_grad=True on some, or pass them in groups")
    if foreign := trained - own.keys():
        raise ValueError(f"groups holds {len(foreign)} parameters that are not the model's")
    if any(not own[key].requires_grad for key in trained):
        raise ValueError("groups holds parameters with requires_grad=False; set it to True, or leave them out")
    rest = [parameter for key, parameter in own.items() if key not in trained and parameter.requires_grad]
    model.zero_grad(set_to_none=True)
    for parameter in rest:
        parameter.requires_grad_(False)
    try:
        yield groups
    finally:
        for parameter in rest:
            parameter.requires_grad_(True)


def new_optimizer(groups: Sequence[dict[str, Any]], settings: TrainingSettings) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov and Hutter 2019) on parameter groups; those that name no decay have the settings'."""
    rest = {"betas": settings.betas, "eps": settings.eps, "weight_decay": settings.weight_decay}
    return torch.optim.AdamW([{**rest, **group} for group in groups], lr=0.0, fused=True)


def moving_average(decay: float) -> Callable[[Weights, Weights, Tensor | int], None]:
    """Return the update of an exponential moving average of weights, for `torch.optim.swa_utils.AveragedModel`.

    After n updates the decay is the smaller of `decay` and (n + 1) / (n + 10), so that the average forgets the start.
    """

    @torch.no_grad()
    def update(averaged: Weights, current: Weights, updates: Tensor | int) -> None:
        share = 1 - min(decay, (int(updates) + 1) / (int(updates) + 10))
        torch._foreach_lerp_(averaged, current, share)

    return update


def _listed(groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups with lists of parameters in them: a generator could be read but once."""
    return [{**group, "params": _parameters(group["params"])} for group in groups]


def _parameters(params: Any) -> list[Tensor]:
    return [params] if isinstance(params, Tensor) else list(params)
