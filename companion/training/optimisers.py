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
    """Split the trainable parameters: matrices decay, vectors (biases, LayerNorm) do not.

    So does BERT's published code, by name (`optimization.py`); the paper does not mention it.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
    ]


def muon_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters into those of Muon, marked by `muon`, and the two groups of AdamW.

    Muon is for the matrices between hidden layers (Jordan 2024): the weights of the linear layers inside the parts of
    a model. Embeddings, vectors, and a linear layer that is itself a part, such as a classification head, are AdamW's.
    """
    linear = {id(layer.weight) for name, layer in model.named_modules() if "." in name and isinstance(layer, nn.Linear)}
    hidden = [weight for weight in model.parameters() if weight.requires_grad and id(weight) in linear]
    rest = parameter_groups(model, weight_decay)
    rest[0]["params"] = [weight for weight in rest[0]["params"] if id(weight) not in linear]
    return [{"params": hidden, "weight_decay": weight_decay, "muon": True}, *rest]


@contextmanager
def trained_only(
    model: nn.Module, groups: Sequence[dict[str, Any]] | None, settings: TrainingSettings
) -> Iterator[list[dict[str, Any]]]:
    """Yield the parameter groups of a training, by default those of its optimiser; what is in none is frozen in the
    block.

    Gradients that lie on the model are removed.

    Raises
    ------
    ValueError
        If no parameter is to be trained, one in the groups is not the model's or is frozen, or the optimiser is not to
        be had.
    """
    groups = _own_groups(model, settings) if groups is None else _listed(groups)
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
    """Return AdamW (Loshchilov and Hutter 2019) on parameter groups; those that name no decay have the settings'.

    Groups that are marked by `muon` are Muon's.
    """
    rest = {"betas": settings.betas, "eps": settings.eps, "weight_decay": settings.weight_decay}
    adamw = torch.optim.AdamW([{**rest, **group} for group in groups if "muon" not in group], lr=0.0, fused=True)
    hidden = [group for group in groups if "muon" in group]
    # The update has then the size of AdamW's, so that one learning rate serves both.
    return Joined(torch.optim.Muon(hidden, lr=0.0, adjust_lr_fn="match_rms_adamw"), adamw) if hidden else adamw


class Joined(torch.optim.Optimizer):
    """Several optimisers, each of its own parameters, as one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step of each."""
        for part in self.parts:
            part.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to a state that `state_dict` returned."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        """Let the parts see the groups and the state that are kept here."""
        groups = iter(self.param_groups)
        for part in self.parts:
            part.param_groups, part.state = [next(groups) for _ in part.param_groups], self.state


def _own_groups(model: nn.Module, settings: TrainingSettings) -> list[dict[str, Any]]:
    if settings.optimizer == "adamw":
        return parameter_groups(model, settings.weight_decay)
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(
            f"optimizer='muon' needs PyTorch 2.9 or later, this is {torch.__version__}; update it, or take 'adamw'"
        )
    groups = muon_groups(model, settings.weight_decay)
    if not groups[0]["params"]:
        raise ValueError("optimizer='muon' finds no linear layer inside the parts of this model; take 'adamw'")
    return groups


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
