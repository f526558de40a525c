"""The training loop written out, which the estimators' documentation shows and their tests compare them with."""

from __future__ import annotations

import torch
from torch import nn

from companion.support.devices import seed_everything
from companion.training.batching import GroupedBatches
from companion.training.loop import batch_seed
from companion.training.optimisers import parameter_groups
from companion.training.schedule import learning_rate_at
from companion.training.settings import TrainingSettings


def bare_loop(
    model: nn.Module, batches: GroupedBatches, settings: TrainingSettings, weight_decay: float
) -> list[float]:
    """Train `model`, whose output has a `loss`; return the loss of every step."""
    optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay))
    losses = []
    model.train()
    for step in range(settings.steps):
        seed_everything(batch_seed(settings.seed, step))
        loss = model(**batches[step]).loss
        loss.backward()
        losses.append(loss.item())
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, settings)
        optimizer.step()
        optimizer.zero_grad()
    return losses
