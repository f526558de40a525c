"""Muon beside AdamW: which weights each has, the steps that both take, and a checkpoint of the two."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from companion.training.loop import train
from companion.training.optimisers import Joined, muon_groups, new_optimizer
from companion.training.schedule import learning_rate_at
from tests.toys import RUN, Batches, MaskedWords, assert_same_run, assert_same_weights, new_model, run

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon")
MUON = replace(RUN, optimizer="muon")
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def test_the_matrices_between_hidden_layers_are_muons():
    model = new_model()
    model.mlm_head.dense.weight.requires_grad_(False)
    names = {id(weight): name for name, weight in model.named_parameters()}
    hidden, decaying, others = muon_groups(model, 0.1)
    layer = ["attention.query", "attention.key", "attention.value", "attention.output"]
    layer += ["feed_forward.expand", "feed_forward.contract"]
    expected = {f"bert.encoder.layers.{i}.{part}.weight" for i in (0, 1) for part in layer}
    assert {names[id(weight)] for weight in hidden["params"]} == expected
    assert {names[id(weight)].split(".")[1] for weight in decaying["params"]} == {"embeddings"}
    assert all(weight.dim() == 1 for weight in others["params"])
    assert (hidden["weight_decay"], decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.1, 0.0)
    total = sum(len(group["params"]) for group in (hidden, decaying, others))
    assert total == len(names) - 1, "each once, and what is frozen nowhere"


def test_a_head_that_is_a_part_of_its_own_is_not():
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.classifier = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5)), nn.Linear(5, 2)

    model = Classifier()
    hidden, decaying, _ = muon_groups(model, 0.1)
    assert [tuple(weight.shape) for weight in hidden["params"]] == [(4, 3), (5, 4)]
    assert [weight is model.classifier.weight for weight in decaying["params"]] == [True]


@needs_muon
def test_both_take_the_steps_that_they_take_apart():
    settings = replace(MUON, weight_decay=0.2, eps=1e-3)
    expected = new_model(**NO_DROPOUT).train()
    hidden, decaying, others = muon_groups(expected, 0.2)
    parts = [
        torch.optim.Muon(hidden["params"], weight_decay=0.2, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([decaying, others], eps=1e-3),
    ]
    for step in range(settings.steps):
        batch = Batches()[step]
        expected(batch["input_ids"], batch["attention_mask"], labels=batch["labels"]).loss.backward()
        nn.utils.clip_grad_norm_(expected.parameters(), 1.0)
        for part in parts:
            for group in part.param_groups:
                group["lr"] = learning_rate_at(step, settings)
            part.step()
            part.zero_grad()
    model, _ = run(settings, new_model(**NO_DROPOUT))
    # Muon computes in bf16, which makes the rounding of a gradient visible.
    assert_same_weights(model, expected, atol=1e-3, rtol=0)
    other, _ = run(replace(settings, optimizer="adamw"), new_model(**NO_DROPOUT))
    ours, theirs = (one.bert.encoder.layers[0].attention.query.weight for one in (model, other))
    assert (ours - theirs).abs().max() > 5e-3


@needs_muon
def test_a_run_that_is_stopped_after_every_step_goes_on_with_the_state_of_both(tmp_path):
    expected = run(MUON)
    while not (found := run(replace(MUON, minutes=1e-9), folder=tmp_path, resume=True))[1].finished:
        pass
    assert_same_run(found, expected)
    state = torch.load(tmp_path / "checkpoint" / "optimizer.bin", weights_only=True)["state"]
    assert {frozenset(entry) for entry in state.values()} == {
        frozenset({"momentum_buffer"}),
        frozenset({"step", "exp_avg", "exp_avg_sq"}),
    }
    with pytest.raises(ValueError, match="optimizer='adamw' was 'muon'"):
        run(RUN, folder=tmp_path, resume=True)


@needs_muon
def test_the_joined_optimiser_gives_its_state_back():
    model = new_model()
    optimizer = new_optimizer(muon_groups(model, 0.1), MUON)
    assert isinstance(optimizer, Joined)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    batch = Batches()[0]
    model(batch["input_ids"], labels=batch["labels"]).loss.backward()
    optimizer.step()
    again = new_optimizer(muon_groups(model, 0.1), MUON)
    again.load_state_dict(optimizer.state_dict())
    assert [group["lr"] for part in again.parts for group in part.param_groups] == [0.1] * 3
    weight = model.bert.encoder.layers[0].attention.query.weight
    assert torch.equal(again.parts[0].state[weight]["momentum_buffer"], optimizer.state[weight]["momentum_buffer"])
    optimizer.zero_grad()
    assert all(weight.grad is None for weight in model.parameters())


def test_where_muon_is_not_to_be_had_it_is_said_before_the_work(monkeypatch):
    seen = []
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ValueError, match="optimizer='muon' needs PyTorch 2.9 or later, this is"):
        run(MUON, batches=Batches(seen.append))
    assert seen == []


@needs_muon
def test_what_muon_cannot_train_is_refused():
    model = new_model()
    with pytest.raises(ValueError, match="optimizer='muon' chooses its own groups; leave groups out"):
        run(MUON, model, groups=[{"params": [model.mlm_head.bias]}])
    with pytest.raises(ValueError, match="optimizer='muon' finds no linear layer inside the parts of this model"):
        train(nn.Linear(2, 2), Batches(), MaskedWords(), MUON, progress=False)


@needs_muon
def test_muon_learns():
    class One(Batches):
        def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
            return super().__getitem__(1)

    _, history = run(replace(MUON, steps=60, save_every=0), batches=One())
    losses = history.column("loss")[1]
    assert losses[0] > 3.5 and losses[-1] < 1.5
