"""Which weights fine-tuning changes, and how fast each of them."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from companion.model.heads import BertWithHead
from companion.support.require import require

LAYER = re.compile(r"bert\.encoder\.layers\.(\d+)\.")


def fine_tuning_groups(
    model: BertWithHead,
    weight_decay: float,
    *,
    freeze: str | int | None = None,
    layer_decay: float = 1.0,
    head_scale: float = 1.0,
) -> list[dict[str, Any]]:
    """Return the parameter groups of a pre-trained network under a head, for `companion.training.loop.train`.

    Parameters
    ----------
    model : BertWithHead
        One of the models of `companion.model.heads`. What its `requires_grad` freezes stays frozen.
    weight_decay : float
        Of matrices; vectors (biases, LayerNorm) have none.
    freeze : {None, "embeddings", "encoder"} or int
        Leave as they are the embeddings; all that was pre-trained; or the embeddings and this many layers from below.
    layer_decay : float
        The learning rate of a layer is this times that of the layer above it; the head and the pooler have the whole
        rate, the embeddings the lowest (Howard and Ruder 2018, section 3.2).
    head_scale : float
        The learning rate of the head, as a multiple of the others.

    Returns
    -------
    list of dict
        Each with `params`, `weight_decay` and `lr_scale`.

    Raises
    ------
    ValueError
        If `freeze` is not allowed, or is more than the layers there are.
    """
    layers = model.config.num_hidden_layers
    lowest = _first_trained(freeze, layers)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        depth = depth_of(name, layers)
        if not parameter.requires_grad or depth < lowest or (freeze == "encoder" and name.startswith("bert.")):
            continue
        scale = layer_decay ** (layers + 1 - depth) * (1.0 if name.startswith("bert.") else head_scale)
        groups.setdefault((scale, weight_decay if parameter.dim() > 1 else 0.0), []).append(parameter)
    return [{"params": p, "weight_decay": decay, "lr_scale": scale} for (scale, decay), p in groups.items()]


def depth_of(name: str, layers: int) -> int:
    """Return how far up a parameter stands: 0 in the embeddings, 1 in the first layer, `layers` + 1 above the last."""
    if name.startswith("bert.embeddings."):
        return 0
    found = LAYER.match(name)
    return int(found[1]) + 1 if found else layers + 1


def check_freeze(freeze: Any) -> None:
    """Raise a ValueError unless `freeze` is None, "embeddings", "encoder" or a number of layers."""
    is_count = isinstance(freeze, int) and not isinstance(freeze, bool) and freeze >= 0
    known = freeze is None or freeze in ("embeddings", "encoder")
    require("freeze", freeze, is_count or known, "None, 'embeddings', 'encoder' or a number of layers from below")


def _first_trained(freeze: str | int | None, layers: int) -> int:
    """Return the depth from which on weights are trained."""
    check_freeze(freeze)
    if isinstance(freeze, int):
        require("freeze", freeze, freeze <= layers, f"at most the {layers} layers of this network")
        return freeze + 1
    return {None: 0, "embeddings": 1, "encoder": 0}[freeze]
