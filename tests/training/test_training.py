"""The training loop: its numbers against a plain loop, and its checkpoints against every way of being interrupted."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from companion.model.heads import IGNORED, BertForMaskedLM
from companion.training import settings
from companion.training.loop import History, batch_seed, train
from companion.training.objective import Sums
from companion.training.optimisers import parameter_groups
from companion.training.schedule import learning_rate_at
from companion.training.settings import TrainingSettings
from tests.toys import (
    CONFIG,
    RUN,
    STEPS,
    Batches,
    MaskedWords,
    assert_same_run,
    assert_same_weights,
    new_model,
    run,
    without_time,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def uninterrupted() -> tuple[nn.Module, History]:
    return run()


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("linear", [1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        ("cosine", [1 / 3, 2 / 3, *[(1 + math.cos(math.pi * i / 8)) / 2 for i in range(8)]]),
        ("trapezoid", [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1, 2 / 3, 1 / 3]),
        ("constant", [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_every_schedule_by_hand(schedule: str, rates: list[float]):
    settings = TrainingSettings(10, learning_rate=0.5, schedule=schedule, warmup_share=0.2, decay_share=0.3)
    assert [learning_rate_at(step, settings) for step in range(10)] == pytest.approx([0.5 * rate for rate in rates])


@pytest.mark.parametrize("schedule", settings.SCHEDULES)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_schedules_without_and_with_nothing_but_warm_up_stay_between_0_and_the_highest(schedule: str, share: float):
    settings = TrainingSettings(7, schedule=schedule, warmup_share=share, decay_share=share)
    assert all(0 < learning_rate_at(step, settings) <= settings.learning_rate for step in range(7))


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("steps", 0, "an integer above 0"),
        ("accumulation", 0, "an integer above 0"),
        ("save_every", -1, "an integer of at least 0"),
        ("warmup_share", 1.5, r"a share in \[0, 1\]"),
        ("learning_rate", 0.0, "a number above 0"),
        ("learning_rate", math.nan, "a number above 0"),
        ("weight_decay", -0.1, "a number at least 0"),
        ("max_grad_norm", 0.0, "None or a number above 0"),
        ("ema_decay", 1.0, r"None or a number in \(0, 1\)"),
        ("minutes", 0, "None or a number above 0"),
        ("schedule", "step", "one of 'linear', 'cosine', 'trapezoid', 'constant'"),
        ("steps", 2.5, "an integer above 0"),
        ("steps", True, "an integer above 0"),
        ("accumulation", 1.5, "an integer above 0"),
        ("workers", 0.5, "an integer of at least 0"),
        ("log_every", 1.5, "an integer of at least 0"),
        ("seed", None, "an integer of at least 0"),
        ("learning_rate", math.inf, "a number above 0"),
        ("learning_rate", "1e-3", "a number above 0"),
        ("eps", -1e-8, "a number above 0"),
        ("betas", (2, 3), r"two numbers in \[0, 1\)"),
        ("betas", 0.9, r"two numbers in \[0, 1\)"),
        ("betas", (0.9, 0.99, 0.999), r"two numbers in \[0, 1\)"),
        ("precision", "int4", "one of None, 'auto', 'fp32', 'bf16', 'fp16'"),
        ("compile", "no", "True or False"),
        ("max_grad_norm", math.nan, "None or a number above 0"),
    ],
)
def test_a_setting_out_of_range_is_named_with_what_is_allowed(name: str, value: object, allowed: str):
    with pytest.raises(ValueError, match=rf"{name}=.* is not allowed; it must be {allowed}"):
        TrainingSettings(**{"steps": 5, name: value})


def test_an_unknown_device_is_refused_with_the_settings_and_one_that_is_elsewhere_is_not():
    with pytest.raises(ValueError, match="device='gpu' is unknown; it must be 'cpu', 'cuda', 'cuda:0', 'mps' or None"):
        TrainingSettings(steps=1, device="gpu")
    assert TrainingSettings(steps=1, device="cuda:1").device == "cuda:1"


def test_numbers_of_numpy_are_taken_as_pythons():
    settings = TrainingSettings(steps=np.int64(3), learning_rate=np.float32(0.5), betas=[np.float64(0.5), 0])
    assert json.loads(json.dumps(asdict(settings)))["betas"] == [0.5, 0.0]
    assert (type(settings.steps), type(settings.learning_rate), settings.betas) == (int, float, (0.5, 0.0))


def test_matrices_decay_and_biases_and_norms_do_not():
    model = new_model()
    model.mlm_head.dense.weight.requires_grad_(False)
    decaying, others = parameter_groups(model, 0.1)
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)] for p in others["params"]} == {
        name for name in names.values() if name.endswith("bias") or "norm" in name
    }
    total = len(decaying["params"]) + len(others["params"])
    assert total == len(names) - 1, "a frozen parameter is in no group"


def plain_loop(model: nn.Module, settings: TrainingSettings, batches: Batches) -> list[float]:
    """The same in a few lines of PyTorch, one batch a step, dropout aside."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=settings.betas, eps=settings.eps)
    losses = []
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, settings)
        batch = batches[step]
        loss = model(batch["input_ids"], batch["attention_mask"], labels=batch["labels"]).loss
        loss.backward()
        if settings.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
def test_it_takes_the_steps_of_a_plain_loop(max_grad_norm: float | None):
    settings = replace(
        RUN, max_grad_norm=max_grad_norm, weight_decay=0.3, betas=(0.8, 0.95), eps=1e-3, schedule="cosine"
    )
    expected = new_model(**NO_DROPOUT)
    losses = plain_loop(expected.train(), settings, Batches())
    model, history = run(settings, new_model(**NO_DROPOUT))
    assert_same_weights(model, expected, atol=1e-5, rtol=1e-5)
    assert history.column("loss") == (list(range(1, STEPS + 1)), pytest.approx(losses, rel=1e-5))
    assert history.column("learning_rate")[1] == [learning_rate_at(step, settings) for step in range(STEPS)]
    norms = history.column("grad_norm")[1]
    assert len(norms) == (0 if max_grad_norm is None else STEPS)
    assert all(norm > 0.5 for norm in norms), "or nothing was clipped"


def test_what_is_logged_are_means_over_the_labels_of_the_step():
    model = new_model(**NO_DROPOUT)
    _, history = run(replace(RUN, steps=1, accumulation=2), model=new_model(**NO_DROPOUT))
    batches = [Batches()[number] for number in (0, 1)]
    found = [MaskedWords().sums(model, batch) for batch in batches]
    labels = sum(int(MaskedWords().counts(batch)["mlm"]) for batch in batches)
    loss = sum(float(sums["mlm"].loss.detach()) for sums in found) / labels
    accuracy = sum(int(sums["mlm"].correct) for sums in found) / labels
    (record,) = history.records
    assert record["loss"] == record["mlm"] == pytest.approx(loss, rel=1e-6)
    assert record["mlm_accuracy"] == pytest.approx(accuracy)
    assert record["seconds"] > 0 and record["step"] == 1


class Joined:
    """Four batches in one."""

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        parts = [Batches()[4 * number + i] for i in range(4)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def test_accumulating_four_batches_is_one_batch_of_four_times_the_size():
    counts = [int(MaskedWords().counts(Batches()[i])["mlm"]) for i in range(4)]
    assert len(set(counts)) > 2, "with equal counts a mean of means would pass too"
    smooth = replace(RUN, eps=1e-3)  # Adam turns the rounding of a gradient near 0 into a step of full size
    four, history = run(replace(smooth, accumulation=4), new_model(**NO_DROPOUT))
    one, expected = run(smooth, new_model(**NO_DROPOUT), batches=Joined())
    assert_same_weights(four, one, atol=1e-5, rtol=1e-5)
    assert history.column("loss")[1] == pytest.approx(expected.column("loss")[1], rel=1e-5)


def test_a_step_without_any_label_changes_no_weight_through_its_loss():
    class Empty(Batches):
        def __getitem__(self, number: int) -> dict[str, Tensor]:
            return super().__getitem__(number) | {"labels": torch.full((3, 8), IGNORED)}

    model, history = run(replace(RUN, weight_decay=0.0), batches=Empty())
    assert history.column("loss")[1] == [0.0] * STEPS
    assert_same_weights(model, new_model())


def test_dropout_is_on_and_depends_on_the_seed_and_the_number_of_the_batch(uninterrupted):
    still, _ = run(model=new_model(**NO_DROPOUT))
    assert not torch.equal(still.mlm_head.bias, uninterrupted[0].mlm_head.bias)
    other, _ = run(replace(RUN, seed=1))
    assert not torch.equal(other.mlm_head.bias, uninterrupted[0].mlm_head.bias)
    torch.manual_seed(12345)
    assert_same_run(run(), uninterrupted)
    assert len({batch_seed(seed, number) for seed in range(30) for number in range(30)}) == 900


def test_groups_of_ones_own_may_scale_the_learning_rate_and_the_rest_stays_as_it_is():
    model, before = new_model(), new_model()
    bias, dense = model.mlm_head.bias, model.mlm_head.dense.weight
    groups = [{"params": [bias], "weight_decay": 0.0}, {"params": [dense], "lr_scale": 0.1, "weight_decay": 0.0}]
    run(replace(RUN, steps=1, warmup_share=0.0, eps=1e-12), model, groups=groups)
    # The first step of Adam moves every entry that has a gradient by the learning rate.
    moved = (bias - before.mlm_head.bias).detach().abs()
    torch.testing.assert_close(moved.max().item(), 1e-2, rtol=1e-3, atol=0)
    scaled = (dense - before.mlm_head.dense.weight).detach().abs()
    torch.testing.assert_close(scaled.max().item(), 1e-3, rtol=1e-3, atol=0)
    for name, parameter in before.named_parameters():
        if name not in ("mlm_head.bias", "mlm_head.dense.weight"):
            assert torch.equal(parameter, model.get_parameter(name)), name


@pytest.mark.parametrize("names", [["mlm_head.bias"], ["mlm_head.bias", "mlm_head.dense.weight"]])
def test_groups_of_ones_own_are_clipped_by_their_own_gradient(names: list[str]):
    settings = replace(RUN, steps=8, max_grad_norm=0.1, eps=1e-3)
    expected = new_model(**NO_DROPOUT).train()
    trained = [expected.get_parameter(name) for name in names]
    optimizer, norms = torch.optim.AdamW(trained, weight_decay=0.2, eps=1e-3), []
    for step in range(8):
        optimizer.param_groups[0]["lr"] = learning_rate_at(step, settings)
        batch = Batches()[step]
        gradients = torch.autograd.grad(
            expected(batch["input_ids"], batch["attention_mask"], labels=batch["labels"]).loss, trained
        )
        for weight, gradient in zip(trained, gradients, strict=True):
            weight.grad = gradient
        norms.append(float(nn.utils.clip_grad_norm_(trained, 0.1)))
        optimizer.step()
    model = new_model(**NO_DROPOUT)
    groups = [{"params": (model.get_parameter(name) for name in names), "weight_decay": 0.2}]
    _, history = run(settings, model, groups=groups)
    assert_same_weights(model, expected, atol=1e-5, rtol=1e-5)
    assert history.column("grad_norm")[1] == pytest.approx(norms, rel=1e-4)
    assert all(weight.requires_grad for weight in model.parameters()), "frozen for the training alone"
    assert all(weight.grad is None for weight in model.parameters())


def test_a_group_that_names_no_decay_has_that_of_the_settings():
    found = []
    for given in ({}, {"weight_decay": 0.5}):
        model = new_model()
        run(replace(RUN, weight_decay=0.5), model, groups=[{"params": model.mlm_head.dense.weight, **given}])
        found.append(model)
    assert_same_weights(*found)


def test_groups_that_cannot_be_trained_are_refused():
    model = new_model()
    with pytest.raises(ValueError, match="groups holds 1 parameters that are not the model's"):
        run(model=model, groups=[{"params": [new_model().mlm_head.bias]}])
    model.mlm_head.bias.requires_grad_(False)
    with pytest.raises(ValueError, match="groups holds parameters with requires_grad=False; set it to True"):
        run(model=model, groups=[{"params": [model.mlm_head.bias]}])
    with pytest.raises(ValueError, match="no parameter is to be trained"):
        run(model=model, groups=[])
    with pytest.raises(ValueError, match="no parameter is to be trained; set requires_grad=True"):
        run(model=model.requires_grad_(False))


def test_gradients_that_lie_on_the_model_do_not_enter_the_first_step(uninterrupted):
    model = new_model()
    model(Batches()[9]["input_ids"]).logits.sum().backward()
    assert_same_run(run(model=model), uninterrupted)


def test_a_training_after_one_that_failed_is_as_any_other(uninterrupted):
    model = new_model()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(FloatingPointError):
        train(model, OneBad(), Faulty(lambda loss: loss * math.nan), RUN, progress=False)
    model.load_state_dict(weights)
    assert_same_run(run(model=model), uninterrupted)


def test_frozen_parameters_are_not_trained():
    model = new_model()
    model.bert.embeddings.requires_grad_(False)
    run(model=model)
    assert torch.equal(model.bert.embeddings.positions.weight, new_model().bert.embeddings.positions.weight)
    assert not torch.equal(model.mlm_head.bias, new_model().mlm_head.bias)


def test_bf16_runs_near_fp32_with_its_weights_in_fp32(uninterrupted):
    model, history = run(replace(RUN, precision="bf16"))
    losses, expected = history.column("loss")[1], uninterrupted[1].column("loss")[1]
    assert losses != expected
    assert losses == pytest.approx(expected, rel=0.02)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model(Batches()[0]["input_ids"]).logits.dtype == torch.float32, "the model is handed back as it came"


def test_batches_prepared_by_other_processes_are_the_same(uninterrupted):
    assert_same_run(run(replace(RUN, workers=1)), uninterrupted)


def test_training_learns():
    class One(Batches):
        def __getitem__(self, number: int) -> dict[str, Tensor]:
            return super().__getitem__(1)

    _, history = run(replace(RUN, steps=60, save_every=0), batches=One())
    losses = history.column("loss")[1]
    assert losses[0] > 3.5 and losses[-1] < 1.5, "ln 50 = 3.9 is a guess; one batch can be learned by heart"


def test_a_column_of_the_history_has_the_steps_where_it_was_recorded():
    history = History([{"step": 2, "loss": 3.0}, {"step": 2, "f1": 0.5}, {"step": 4, "loss": 1.0}])
    assert history.column("loss") == ([2, 4], [3.0, 1.0])
    assert history.column("f1") == ([2], [0.5])
    assert history.column("other") == ([], [])


def test_records_come_every_so_many_steps_and_at_the_end():
    _, history = run(replace(RUN, steps=7, log_every=3))
    assert history.column("loss")[0] == [3, 6, 7]
    _, history = run(replace(RUN, log_every=0))
    assert history.column("loss")[0] == [STEPS]


def test_validation_sees_the_model_in_evaluation_mode_and_training_goes_on_in_training_mode(uninterrupted):
    modes = []

    def validate(model: nn.Module) -> dict[str, float]:
        modes.append(model.training)
        return {"validation_loss": np.float32(len(modes)), "validation_accuracy": torch.tensor(0.5)}

    model, history = run(replace(RUN, validate_every=2), validate=validate)
    assert modes == [False, False, False]
    assert history.column("validation_loss") == ([2, 4, 6], [1.0, 2.0, 3.0])
    assert not model.training
    assert_same_weights(model, uninterrupted[0])


def test_the_end_and_validation_see_the_moving_average_and_training_does_not():
    seen = []

    def validate(model: nn.Module) -> dict[str, float]:
        seen.append((model.training, {name: value.clone() for name, value in model.state_dict().items()}))
        return {}

    settings = replace(RUN, schedule="constant", ema_decay=0.2)
    model, history = run(replace(settings, steps=3, warmup_share=0.0, validate_every=1), validate=validate)
    plain = [run(replace(settings, steps=n, warmup_share=0.0, ema_decay=None)) for n in (1, 2, 3)]
    expected = {name: value.clone() for name, value in plain[0][0].state_dict().items()}
    for update, (other, _) in enumerate(plain[1:], start=1):  # decays 2/11, then 0.2, as 3/12 is above it
        for name, value in other.state_dict().items():
            expected[name].lerp_(value, 1 - min(0.2, (update + 1) / (update + 10)))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[name])
        assert torch.equal(value, seen[-1][1][name])
    assert history.column("loss") == plain[-1][1].column("loss")
    assert [training for training, _ in seen] == [False] * 3


def test_a_moving_average_is_part_of_the_checkpoint(tmp_path):
    settings = replace(RUN, ema_decay=0.9, save_every=0)
    expected = run(settings)
    while not (found := run(replace(settings, minutes=1e-9), folder=tmp_path, resume=True))[1].finished:
        pass
    assert_same_run(found, expected)
    assert_same_run(run(settings, folder=tmp_path, resume=True), expected)  # resumed after its end


def test_the_log_file_holds_the_records_one_a_line(tmp_path):
    _, history = run(folder=tmp_path, validate=lambda model: {"f1": np.float32(0.5)})
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == history.records
    assert history.records[-1]["f1"] == 0.5


def test_numbers_that_are_not_finite_are_null_in_the_files_and_nan_again_when_resumed(tmp_path):
    settings = replace(RUN, validate_every=2, save_every=0)
    options = {"folder": tmp_path, "validate": lambda model: {"pearson": math.nan, "ratio": math.inf}}
    _, history = run(replace(settings, minutes=1e-9), **options)
    while history.step < 4:
        _, history = run(replace(settings, minutes=1e-9), **options, resume=True)
    text = (tmp_path / "log.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text and '"pearson": null, "ratio": null' in text
    assert "NaN" not in (tmp_path / "checkpoint" / "progress.json").read_text()
    _, history = run(settings, **options, resume=True)
    steps, values = history.column("pearson")
    assert steps == [2, 4, 6] and all(math.isnan(value) for value in values)


@pytest.mark.parametrize("trackers", ["tensorboard", ["tensorboard"]])
def test_a_tracker_that_writes_needs_a_folder(trackers):
    pytest.importorskip("tensorboard")
    with pytest.raises(ValueError, match="trackers='tensorboard' writes files; pass folder="):
        run(trackers=trackers)


def test_a_tracker_that_is_unknown_or_not_installed_is_refused_before_the_work(monkeypatch, tmp_path):
    seen = []
    with pytest.raises(ValueError, match="trackers='t' is not allowed; it must be one of .*'tensorboard'"):
        run(trackers=["t"], batches=Batches(seen.append))
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    with pytest.raises(ModuleNotFoundError, match="trackers='tensorboard' needs a package .* pip install tensorboard"):
        run(trackers="tensorboard", folder=tmp_path, batches=Batches(seen.append))
    assert seen == []


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(replace(RUN, steps=2))
    assert list(tmp_path.iterdir()) == []


def test_progress_is_shown_only_if_wanted(capfd):
    train(new_model(), Batches(), MaskedWords(), replace(RUN, steps=2), progress=False)
    assert capfd.readouterr() == ("", "")
    train(new_model(), Batches(), MaskedWords(), replace(RUN, steps=2), progress=True)
    assert "2/2" in capfd.readouterr().err


@pytest.mark.filterwarnings("default")  # of tensorboard's own parts
def test_tensorboard_is_told_every_record(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, history = run(folder=tmp_path / "run", trackers="tensorboard")
    assert list((tmp_path / "run" / "run").glob("events.out.tfevents*"))
    events = EventAccumulator(str(tmp_path / "run" / "run")).Reload()
    told = {event.step: event.value for event in events.Scalars("loss")}
    assert told == pytest.approx(dict(zip(*history.column("loss"), strict=True)))


class Faulty(MaskedWords):
    """A loss, or the gradient of a finite one, that is not finite in one batch, which holds the id 49 alone."""

    def __init__(self, fault: Callable[[Tensor], Tensor]) -> None:
        self.fault = fault

    def sums(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Sums]:
        sums = super().sums(model, batch)
        if (batch["input_ids"] == 49).all():
            sums["mlm"] = Sums(self.fault(sums["mlm"].loss), sums["mlm"].correct)
        return sums


class OneBad(Batches):
    def __getitem__(self, number: int) -> dict[str, Tensor]:
        batch = super().__getitem__(number)
        return batch | {"input_ids": torch.full_like(batch["input_ids"], 49)} if number == 5 else batch


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda loss: loss * math.nan, "the loss is nan"),
        (lambda loss: loss + math.inf, "the loss is inf"),
        (lambda loss: loss + (loss - loss).sqrt(), "the norm of the gradient is (nan|inf)"),
    ],
    ids=["nan", "infinite", "gradient"],
)
def test_a_number_that_is_not_finite_stops_the_run_before_it_reaches_weights_or_checkpoint(
    tmp_path, fault, message: str
):
    model = new_model()
    with pytest.raises(FloatingPointError, match=rf"{message} at step 2, batches \[4, 5\]"):
        train(model, OneBad(), Faulty(fault), replace(RUN, accumulation=2), folder=tmp_path, progress=False)
    two_steps, _ = run(replace(RUN, accumulation=2), folder=tmp_path / "other", batches=stopping_before(4))
    assert_same_weights(model, two_steps)
    assert json.loads((tmp_path / "checkpoint" / "progress.json").read_text())["step"] == 2


@pytest.mark.parametrize(("log_every", "save_every", "done"), [(0, 4, 4), (2, 0, 3), (0, 0, 5)])
def test_a_device_that_computes_ahead_is_asked_only_when_something_is_logged_or_saved(
    tmp_path, monkeypatch, log_every: int, save_every: int, done: int
):
    monkeypatch.setattr("companion.training.run.LOOKED_AT_ONCE", ())
    steps = []
    settings = replace(RUN, accumulation=2, log_every=log_every, save_every=save_every)
    objective = Faulty(lambda loss: loss * math.nan)
    options = {"folder": tmp_path, "progress": False, "on_step": lambda history: steps.append(history.step)}
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 2, batches \[4, 5\]"):
        train(new_model(), OneBad(), objective, settings, **options)
    assert steps == list(range(1, done + 1))
    assert not (tmp_path / "checkpoint").exists()
    assert_same_run(run(), run(replace(RUN, log_every=1)))


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device='cuda' is not on this machine"):
        run(replace(RUN, device="cuda"))


def test_to_resume_there_must_be_a_folder():
    with pytest.raises(ValueError, match="resume=True needs folder="):
        run(resume=True)


def test_an_earlier_run_is_not_written_over(tmp_path):
    run(replace(RUN, steps=1), folder=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="holds the checkpoint of an earlier run; pass resume=True"):
        run(folder=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


class CrashError(Exception):
    pass


def crash_at(batch: int) -> Batches:
    def before(number: int) -> None:
        if number == batch:
            raise CrashError

    return Batches(before)


def stopping_before(batch: int) -> Batches:
    """Tell the process to stop while batch number `batch - 1` is prepared."""
    return Batches(lambda number: os.kill(os.getpid(), signal.SIGTERM) if number == batch - 1 else None)


@pytest.mark.parametrize("steps_done", range(STEPS))
def test_a_run_that_crashed_after_any_step_and_is_resumed_equals_one_that_did_not(
    tmp_path, uninterrupted, steps_done: int
):
    with pytest.raises(CrashError):
        run(folder=tmp_path, batches=crash_at(steps_done))
    assert (tmp_path / "checkpoint").exists() == (steps_done > 0)
    torch.manual_seed(999)  # nothing may depend on the generators of the new process
    seen = []
    other = BertForMaskedLM(CONFIG)  # nor on the weights it starts from
    for parameter in other.parameters() if steps_done else ():
        parameter.data.normal_()
    found = run(model=other if steps_done else None, folder=tmp_path, resume=True, batches=Batches(seen.append))
    assert seen == list(range(steps_done, STEPS))
    assert_same_run(found, uninterrupted)


@pytest.mark.parametrize("save_every", [2, 4])
def test_a_crash_between_two_checkpoints_goes_back_to_the_last(tmp_path, uninterrupted, save_every: int):
    settings = replace(RUN, save_every=save_every)
    with pytest.raises(CrashError):
        run(settings, folder=tmp_path, batches=crash_at(5))
    seen = []
    found = run(settings, folder=tmp_path, resume=True, batches=Batches(seen.append))
    assert seen == list(range(4, STEPS))
    assert_same_run(found, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_saves_and_hands_the_signals_back(tmp_path, uninterrupted, number: int):
    before = signal.getsignal(number)
    batches = Batches(lambda i: os.kill(os.getpid(), number) if i == 3 else None)
    _, history = run(replace(RUN, save_every=0), folder=tmp_path, batches=batches)
    assert (history.step, history.finished) == (4, False)
    assert signal.getsignal(number) is before
    assert_same_run(run(replace(RUN, save_every=0), folder=tmp_path, resume=True), uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_at_once_what_it_did_before(tmp_path, number: int):
    class AtOnceError(Exception):
        pass

    def handler(*_: object) -> None:
        raise AtOnceError

    def press_twice(history: History) -> None:
        if history.step == 3:
            os.kill(os.getpid(), number)
            assert signal.getsignal(number) is handler
            os.kill(os.getpid(), number)
            time.sleep(60)

    old = signal.signal(number, handler)
    try:
        with pytest.raises(AtOnceError):
            run(folder=tmp_path, on_step=press_twice)
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, old)
    assert json.loads((tmp_path / "checkpoint" / "progress.json").read_text())["step"] == 2


def test_a_handler_that_is_not_pythons_is_left_alone(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(signal, "getsignal", lambda number: None)  # as Python says of one set by a C library
    _, history = run(replace(RUN, steps=2))
    monkeypatch.undo()
    assert history.finished and signal.getsignal(signal.SIGTERM) is before


def test_minutes_stop_a_run_again_and_again_until_it_is_done(tmp_path, uninterrupted):
    hasty, starts = replace(RUN, save_every=0, minutes=1e-9), 0
    seconds = [0.0]
    while True:
        model, history = run(hasty, folder=tmp_path, resume=True)
        starts += 1
        assert history.step == starts and history.seconds > seconds[-1]
        seconds.append(history.seconds)
        if history.finished:
            break
    assert starts == STEPS
    assert_same_run((model, history), uninterrupted)


def test_resuming_a_finished_run_does_nothing_but_load_it(tmp_path):
    calls = []
    options = {"folder": tmp_path, "validate": lambda model: calls.append(1) or {"f1": 0.5}}
    first = run(**options)
    stamp = (tmp_path / "checkpoint" / "progress.json").stat().st_mtime_ns
    again = run(**options, resume=True, batches=crash_at(STEPS))
    assert_same_run(again, first)
    assert calls == [1]
    assert (tmp_path / "checkpoint" / "progress.json").stat().st_mtime_ns == stamp


def test_a_folder_without_checkpoint_starts_from_the_beginning(tmp_path, uninterrupted):
    assert_same_run(run(folder=tmp_path / "new", resume=True), uninterrupted)


def test_a_checkpoint_between_its_two_renames_is_found(tmp_path, uninterrupted):
    with pytest.raises(CrashError):
        run(folder=tmp_path, batches=crash_at(3))
    (tmp_path / "checkpoint").rename(tmp_path / ".checkpoint.old")
    seen = []
    assert_same_run(run(folder=tmp_path, resume=True, batches=Batches(seen.append)), uninterrupted)
    assert seen == [3, 4, 5]


def test_optimiser_state_is_part_of_the_checkpoint(tmp_path, uninterrupted):
    with pytest.raises(CrashError):
        run(folder=tmp_path, batches=crash_at(3))
    state = torch.load(tmp_path / "checkpoint" / "optimizer.bin", weights_only=True)
    assert {float(entry["step"]) for entry in state["state"].values()} == {3.0}
    for entry in state["state"].values():
        entry["exp_avg"].zero_()
    torch.save(state, tmp_path / "checkpoint" / "optimizer.bin")
    progress = json.loads((tmp_path / "checkpoint" / "progress.json").read_text())
    progress["sizes"]["optimizer.bin"] = (tmp_path / "checkpoint" / "optimizer.bin").stat().st_size
    (tmp_path / "checkpoint" / "progress.json").write_text(json.dumps(progress))
    found, _ = run(folder=tmp_path, resume=True)
    assert not torch.equal(found.mlm_head.bias, uninterrupted[0].mlm_head.bias)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of dynamo, about itself
def test_a_checkpoint_under_torch_compile_loads_without_and_back(tmp_path, monkeypatch, uninterrupted):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # needs no compiler
    compiled = replace(RUN, compile=True)
    with pytest.raises(CrashError):
        run(compiled, folder=tmp_path, batches=crash_at(2))
    with pytest.raises(CrashError):
        run(RUN, folder=tmp_path, resume=True, batches=crash_at(4))
    found = run(compiled, folder=tmp_path, resume=True)
    assert_same_weights(found[0], uninterrupted[0], atol=1e-6, rtol=1e-5)


@pytest.fixture
def half_done(tmp_path: Path) -> Path:
    """Return the folder of a run that stopped after three steps of six."""
    run(folder=tmp_path, batches=stopping_before(3))
    return tmp_path


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.bin"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_checkpoint_is_refused_by_the_name_of_the_file(half_done: Path, name: str, damage: str):
    file = half_done / "checkpoint" / name
    size = file.stat().st_size
    content = file.read_bytes()
    file.unlink()
    if damage == "truncated":
        file.write_bytes(content[:-100])
    found = size - 100 if damage == "truncated" else 0
    with pytest.raises(ValueError, match=rf"{name} has {found} bytes, {size} were written; the checkpoint is damaged"):
        run(folder=half_done, resume=True)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"sizes": 1', '{"step": 3}'])
def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path, text: str | None):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "thesis.txt").write_text("three years of work")
    if text is not None:
        (tmp_path / "checkpoint" / "progress.json").write_text(text)
    with pytest.raises(ValueError, match=r"checkpoint is no checkpoint of this trainer \(.*\); move it away"):
        run(folder=tmp_path, resume=True)
    assert (tmp_path / "checkpoint" / "thesis.txt").read_text() == "three years of work"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.02}, "learning_rate=0.02 was 0.01"),
        ({"seed": 3}, "seed=3 was 0"),
        ({"schedule": "cosine"}, "schedule='cosine' was 'linear'"),
        ({"steps": 9}, "steps=9 was 6"),
        ({"max_grad_norm": None}, "max_grad_norm=None was 1.0"),
        ({"betas": (0.5, 0.999)}, r"betas=\[0.5, 0.999\] was \[0.9, 0.999\]"),
        ({"accumulation": 2}, "2 batches per step were 1"),
        ({"seed": 3, "eps": 1e-6}, "eps=1e-06 was 1e-08; seed=3 was 0"),
    ],
)
def test_a_changed_setting_is_refused_with_both_values(half_done: Path, change: dict[str, object], message: str):
    with pytest.raises(ValueError, match=rf"checkpoint is of another run: {message}\. Set them back"):
        run(replace(RUN, **change), folder=half_done, resume=True)


def test_other_data_is_refused_and_the_same_is_not(tmp_path, uninterrupted):
    identity = {"corpus": "a1b2", "rows": (3, 8)}
    with pytest.raises(CrashError):
        run(folder=tmp_path, identity=identity, batches=crash_at(3))
    with pytest.raises(ValueError, match="is of another run: corpus='c3d4' was 'a1b2'; vocabulary=5 was None"):
        run(folder=tmp_path, identity=identity | {"corpus": "c3d4", "vocabulary": 5}, resume=True)
    with pytest.raises(ValueError, match=r"is of another run: corpus=None was 'a1b2'; rows=None was \[3, 8\]"):
        run(folder=tmp_path, resume=True)
    assert_same_run(run(folder=tmp_path, identity=identity, resume=True), uninterrupted)


def test_a_setting_that_changes_no_step_may_change(half_done: Path, uninterrupted):
    changed = replace(RUN, log_every=1, save_every=2, validate_every=1, minutes=100.0, workers=1)
    assert_same_run(run(changed, folder=half_done, resume=True), uninterrupted)


def test_a_checkpoint_of_an_earlier_version_goes_on(half_done: Path, uninterrupted):
    file = half_done / "checkpoint" / "progress.json"
    progress = json.loads(file.read_text())
    progress["batches_a_step"] = progress.pop("batches_per_step")
    progress["settings"]["averaging"] = progress["settings"].pop("ema_decay")
    file.write_text(json.dumps(progress))
    with pytest.raises(ValueError, match=r"ema_decay=0.5 was None"):
        run(replace(RUN, ema_decay=0.5), folder=half_done, resume=True)
    assert_same_run(run(folder=half_done, resume=True), uninterrupted)


def test_a_model_of_another_shape_is_refused(half_done: Path):
    torch.manual_seed(0)
    other = BertForMaskedLM(CONFIG.replace(intermediate_size=64))
    with pytest.raises(RuntimeError, match="size mismatch"):
        run(folder=half_done, resume=True, model=other)


def test_a_trapezoid_run_that_is_lengthened_equals_the_long_run(tmp_path):
    short = replace(RUN, schedule="trapezoid", steps=10, warmup_share=0.2, decay_share=0.3)
    long = replace(short, steps=20, warmup_share=0.1, decay_share=0.25)
    with pytest.raises(CrashError):
        run(short, folder=tmp_path, batches=crash_at(8))
    assert_same_run(run(long, folder=tmp_path, resume=True), run(long))


@pytest.mark.parametrize("change", [{"warmup_share": 0.3}, {"warmup_share": 0.1, "steps": 20, "seed": 5}])
def test_a_trapezoid_run_with_another_past_is_refused(tmp_path, change: dict[str, object]):
    short = replace(RUN, schedule="trapezoid", steps=10, warmup_share=0.2, decay_share=0.3)
    with pytest.raises(CrashError):
        run(short, folder=tmp_path, batches=crash_at(5))
    with pytest.raises(ValueError, match="is of another run: .*(warmup_share|seed)="):
        run(replace(short, **change), folder=tmp_path, resume=True)


def test_a_trapezoid_run_that_has_begun_to_fall_cannot_be_lengthened(tmp_path):
    short = replace(RUN, schedule="trapezoid", steps=10, warmup_share=0.2, decay_share=0.3)
    run(short, folder=tmp_path)
    with pytest.raises(ValueError, match="is of another run: steps=20 was 10"):
        run(replace(short, steps=20, warmup_share=0.1), folder=tmp_path, resume=True)


def limited_files(save_state: Callable, size: int) -> Callable:
    """Let the operating system refuse to write files beyond `size` bytes, as a full disk does."""
    resource = pytest.importorskip("resource")

    def call(self: object, *args: object, **options: object) -> object:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            return save_state(self, *args, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return call


def failing(self: object, folder: str, **options: object) -> None:
    (Path(folder) / "model.safetensors").write_bytes(b"half")
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("where", ["at once", "in the weights", "in the optimiser's state"])
def test_a_full_disk_keeps_the_old_checkpoint_and_says_so(half_done: Path, monkeypatch, uninterrupted, where: str):
    from accelerate import Accelerator

    before = {file.name: file.read_bytes() for file in (half_done / "checkpoint").iterdir()}
    sizes = {name: len(content) for name, content in before.items()}
    assert sizes["model.safetensors"] + 2000 < sizes["optimizer.bin"]
    limits = {"in the weights": 2000, "in the optimiser's state": sizes["model.safetensors"] + 1000}
    broken = failing if where == "at once" else limited_files(Accelerator.save_state, limits[where])
    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "save_state", broken)
        with pytest.raises(OSError, match="no checkpoint could be written to .*checkpoint .*; the last one is kept"):
            run(folder=half_done, resume=True)
    assert {file.name: file.read_bytes() for file in (half_done / "checkpoint").iterdir()} == before
    assert {entry.name for entry in half_done.iterdir()} == {"checkpoint", "log.jsonl"}
    assert_same_run(run(folder=half_done, resume=True), uninterrupted)


SCRIPT = """
import json, os, sys, time
sys.path.insert(0, {tests!r})
import torch
from dataclasses import asdict, replace
from test_training import RUN, Batches, run, without_time
torch.set_num_threads({threads})
"""


def script(code: str) -> list[str]:
    head = SCRIPT.format(tests=str(Path(__file__).parent), threads=torch.get_num_threads())
    return [sys.executable, "-c", head + code]


def until(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "the process got nowhere"
        time.sleep(0.002)


@pytest.mark.slow
def test_a_process_that_is_killed_at_any_moment_leaves_a_checkpoint_that_goes_on(tmp_path):
    long = replace(RUN, steps=40)
    checkpoint = tmp_path / "checkpoint" / "progress.json"
    wait = np.random.default_rng().uniform(0, 0.3)  # another moment in every run of the tests

    def steps_done() -> int:
        try:
            return json.loads(checkpoint.read_text())["step"]
        except (OSError, ValueError):
            return 0

    code = f"run(replace(RUN, steps=40), folder={str(tmp_path)!r}, batches=Batches(lambda n: time.sleep(0.03)))"
    process = subprocess.Popen(script(code), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    until(lambda: steps_done() >= 2, process)
    time.sleep(wait)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    seen = []
    found = run(long, folder=tmp_path, resume=True, batches=Batches(seen.append))
    assert 2 <= seen[0] < 40, f"killed {wait:.3f} s after the second checkpoint"
    assert_same_run(found, run(long))


@pytest.mark.slow
def test_a_process_that_is_asked_to_end_saves_and_ends_well(tmp_path):
    code = f"""
model, history = run(replace(RUN, steps=10**6, save_every=0, schedule="constant"), folder={str(tmp_path)!r},
                     batches=Batches(lambda n: open({str(tmp_path / "started")!r}, "w")))
print(history.step, history.finished)
"""
    process = subprocess.Popen(script(code), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until((tmp_path / "started").exists, process)
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    step, finished = out.split()
    assert finished == "False"
    assert json.loads((tmp_path / "checkpoint" / "progress.json").read_text())["step"] == int(step) > 0


TWO = """
from companion.model.heads import BertForPreTraining
from test_training import CONFIG, MaskedWords, Sums, stopping_before, train
folder, rank = sys.argv[1], int(os.environ["RANK"])
two = replace(RUN, accumulation=1)
results = {"plain": run(two)[1]}                                     # batches 2s + rank
first = run(two, folder=folder, batches=stopping_before(5) if rank == 0 else Batches())[1]  # one is told, both stop
assert (first.step, first.finished) == (3, False)
results["resumed"] = run(two, folder=folder, resume=True)[1]
torch.manual_seed(0)
class Encoded(MaskedWords):                                          # leaves the pooler and the NSP head unused
    leaves_unused = True
    def sums(self, model, batch):
        logits = model(batch["input_ids"], batch["attention_mask"]).prediction_logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="sum")
        return {"mlm": Sums(loss)}
half, whole = folder + "-half", replace(two, save_every=0)
run(whole, folder=half, batches=stopping_before(5) if rank == 0 else Batches())
from accelerate import Accelerator
save_state = Accelerator.save_state
def broken(self, *args, **options):
    if rank == 1:
        raise OSError(28, "No space left on device")
    return save_state(self, *args, **options)
Accelerator.save_state = broken
try:
    run(whole, folder=half, resume=True)
except OSError as error:
    open(half + f"/error-{rank}", "w").write(str(error))
Accelerator.save_state = save_state
results["after a failed save"] = run(whole, folder=half, resume=True)[1]
results["unused"] = train(BertForPreTraining(CONFIG), Batches(), Encoded(), two, progress=False)
if rank == 0:
    print(json.dumps({name: without_time(history) for name, history in results.items()}), flush=True)
torch.distributed.destroy_process_group()  # else its threads may still run when the interpreter ends, and abort it
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this build of PyTorch has no torch.distributed")
def test_two_processes_compute_what_one_computes_with_twice_the_accumulation(tmp_path):
    program = tmp_path / "two.py"
    head = SCRIPT.format(tests=str(Path(__file__).parent), threads=1)
    program.write_text(head + TWO)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(program)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [*launch, str(tmp_path / "run")], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    alone = replace(RUN, accumulation=2)
    _, expected = run(alone)
    for name in ("plain", "resumed", "after a failed save"):
        for mine, other in zip(found[name], without_time(expected), strict=True):
            assert mine == pytest.approx(other, rel=1e-4), name
    assert [row["step"] for row in found["unused"]] == list(range(1, STEPS + 1))
    errors = [(tmp_path / "run-half" / f"error-{rank}").read_text() for rank in (0, 1)]
    assert all("no checkpoint could be written to" in error for error in errors), "what fails on one, fails on all"
    assert "another process failed" in errors[0] and "No space left on device" in errors[1]
    progress = json.loads((tmp_path / "run" / "checkpoint" / "progress.json").read_text())
    assert progress["batches_per_step"] == 2
    assert {"random_states_0.pkl", "random_states_1.pkl"} <= progress["sizes"].keys()
    _, history = run(alone, folder=tmp_path / "run", resume=True)  # one process opens what two have written
    assert history.finished and without_time(history) == found["resumed"]


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.03), ("fp16", 0.03)])
def test_a_gpu_takes_the_steps_of_a_cpu(precision: str, tolerance: float):
    _, expected = run(model=new_model(**NO_DROPOUT))
    model, history = run(replace(RUN, device="cuda", precision=precision), new_model(**NO_DROPOUT))
    assert history.column("loss")[1] == pytest.approx(expected.column("loss")[1], rel=tolerance)
    assert next(model.parameters()).device.type == "cuda"
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_on_a_gpu_is_resumed_with_the_same_losses(tmp_path, precision: str):
    settings = replace(RUN, device="cuda", precision=precision)
    expected = run(settings)[1]
    with pytest.raises(CrashError):
        run(settings, folder=tmp_path, batches=crash_at(3))
    found = run(settings, folder=tmp_path, resume=True)[1]
    # Sums of gradients of embeddings are not ordered on a GPU, so that the last digits may differ.
    assert found.column("loss")[1] == pytest.approx(expected.column("loss")[1], rel=1e-4)


@pytest.mark.gpu
def test_a_numbered_gpu_is_taken():
    model, _ = run(replace(RUN, device=f"cuda:{torch.cuda.device_count() - 1}"))
    assert next(model.parameters()).device.index == torch.cuda.device_count() - 1
