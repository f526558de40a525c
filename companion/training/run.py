"""One run of the training loop, step by step."""

from __future__ import annotations

import json
import math
import operator
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from companion.support.devices import peak_memory, seed_everything
from companion.support.memory import FRAGMENTS_EVERY, give_back_fragments
from companion.training.checkpoint import load_checkpoint, save_checkpoint, settings_as_json
from companion.training.history import History
from companion.training.isolation import Isolation, new_accelerator
from companion.training.loader import Batches, read_batches
from companion.training.objective import Batch, Objective, accuracy_name, check_same_names, counts_of, sums_of
from companion.training.optimisers import moving_average, new_optimizer
from companion.training.schedule import learning_rate_at
from companion.training.settings import TrainingSettings

LOOKED_AT_ONCE = ("cpu",)  # devices whose numbers can be read without waiting for what was queued
OnStep = Callable[[History], bool | None]


def batch_seed(seed: int, number: int) -> int:
    """Return the seed of the random generators for batch `number` of a run with `seed`."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


class Step(nn.Module):
    """The objective as a module, so that DDP, FSDP and `torch.compile` see one forward pass."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the summed losses, and the numbers of correct answers by the name under which they are logged."""
        sums = sums_of(self.objective, self.model, batch)
        losses = {name: one.loss.reshape(()) for name, one in sums.items()}
        return losses, {accuracy_name(name): one.correct for name, one in sums.items() if one.correct is not None}


class Run:
    """One run of `train`: what is trained, how far it is, and what it logged."""

    def __init__(
        self,
        model: nn.Module,
        batches: Batches | Iterable[Batch],
        objective: Objective,
        settings: TrainingSettings,
        groups: Sequence[dict[str, Any]],
        folder: Path | None,
        identity: Mapping[str, Any],
        trackers: Sequence[str],
        provenance: Mapping[str, Any],
    ) -> None:
        self.model, self.batches, self.objective, self.settings = model, batches, objective, settings
        self.folder, self.history = folder, History()
        self.identity, self.provenance = json.loads(json.dumps(identity)), provenance
        self.isolation = Isolation()
        self.unread: list[tuple[int, Sequence[int], Tensor]] = []  # losses and norms not yet seen to be finite
        with self.isolation.section():
            self.accelerator = new_accelerator(settings, folder, trackers, getattr(objective, "leaves_unused", False))
            model.to(self.accelerator.device)
            self.bare = Step(model, objective)
            step = torch.compile(self.bare) if settings.compile else self.bare
            self.step, self.optimizer = self.accelerator.prepare(step, new_optimizer(groups, settings))
            self.average = None
            if settings.ema_decay is not None:
                self.average = AveragedModel(model, multi_avg_fn=moving_average(settings.ema_decay))
                self.accelerator.register_for_checkpointing(self.average)
            # A checkpoint has the names of the bare module: one written under DDP or `compile` loads without.
            self.accelerator.register_save_state_pre_hook(self.unwrap_weights)
            self.accelerator.register_load_state_pre_hook(self.unwrap_models)
            if trackers:
                config = {name: str(value) for name, value in settings_as_json(settings).items()}  # no None and no list
                self.accelerator.init_trackers(folder.name if folder else "run", config=config)
        trained = {id(weight) for group in groups for weight in group["params"]}
        self.trained = [weight for weight in self.step.parameters() if id(weight) in trained]

    @property
    def device(self) -> torch.device:
        """Where the model is trained."""
        return self.accelerator.device

    @property
    def batches_per_step(self) -> int:
        """Batches that all processes together take in a step."""
        return self.settings.accumulation * self.accelerator.num_processes

    @property
    def is_last(self) -> bool:
        """Whether the last step is done."""
        return self.history.step >= self.settings.steps

    def due(self, every: int) -> bool:
        """Return whether something is done after this step that is done `every` so many; 0 means never."""
        return bool(every) and self.history.step % every == 0

    def loop(self, bar: Any, validate: Callable | None, on_step: OnStep | None, stopped: threading.Event) -> None:
        """Take the steps that are left; validate, save and stop where it is due, and put the average in place."""
        if self.is_last:  # resumed after its end
            self.end()
            return
        began, batches = time.perf_counter(), self.read()
        self.history.begin(self.provenance)
        self.step.train()
        asked = interrupted = False
        while not (self.is_last or asked or interrupted):
            numbers = self.numbers(self.history.step)
            record = self.optimise(numbers, [next(batches) for _ in numbers])
            if self.average is not None:
                self.average.update_parameters(self.model)
            self.history.advance(time.perf_counter() - began)
            if self.due(FRAGMENTS_EVERY):
                give_back_fragments(self.device)
            self.log(record, bar)
            validated = self.is_last or self.due(self.settings.validate_every)
            if validated:
                self.validate(validate)
            asked = on_step is not None and bool(on_step(self.history))
            asked, interrupted = self.agreed(asked, self.must_stop(stopped, time.perf_counter() - began))
            if asked and not validated:
                self.validate(validate)
            if self.is_last or asked or interrupted or self.due(self.settings.save_every):
                self.save()
        if self.is_last or asked:
            self.history.stopped_early = not self.is_last
            self.end()

    def end(self) -> None:
        """Put the averaged weights, if they are kept, in the place of the last ones."""
        self.history.finished = True
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())

    def optimise(self, numbers: Sequence[int], batches: Sequence[Batch]) -> dict[str, Any]:
        """Take one step; return what it measured, means over the step."""
        learning_rate = learning_rate_at(self.history.step, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group.get("lr_scale", 1.0)
        batches = [self.to_device(batch) for batch in batches]
        with self.isolation.section():
            labels = [counts_of(self.objective, batch, self.device) for batch in batches]
            counts = {name: count.clamp(min=1) for name, count in self.total(labels).items()}
            parts = []
            for position, (number, batch) in enumerate(zip(numbers, batches, strict=True)):
                seed_everything(batch_seed(self.settings.seed, number))
                last = position == len(batches) - 1
                with nullcontext() if last else self.accelerator.no_sync(self.step):
                    losses, correct = self.step(batch)
                    check_same_names(labels[position], losses)
                    # DDP averages gradients over the processes; the sum over all of them is what is wanted.
                    loss = sum(losses[name] / counts[name] for name in losses) * self.accelerator.num_processes
                    self.accelerator.backward(loss)
                parts.append({name: value.detach() for name, value in (losses | correct).items()})
            means, norm = self.means(parts, counts), self.clip()
            self.note(numbers, _added(means[name] for name in counts), norm)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return {"losses": list(counts), "learning_rate": learning_rate, "means": means, "grad_norm": norm}

    def means(self, parts: Sequence[Mapping[str, Tensor]], counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Divide every sum by the count of its loss."""
        per = {**counts, **{accuracy_name(name): count for name, count in counts.items()}}
        return {name: value / per[name] for name, value in self.total(parts).items()}

    def clip(self) -> Tensor | None:
        """Scale the gradient down to `max_grad_norm`; return its norm before, None where it is not limited."""
        if self.settings.max_grad_norm is None:
            return None
        return self.accelerator.clip_grad_norm_(self.trained, self.settings.max_grad_norm)

    def total(self, parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Add up over batches and processes."""
        names = dict.fromkeys(name for part in parts for name in part)
        sums = {name: _added(part[name] for part in parts if name in part).float() for name in names}
        if self.accelerator.num_processes > 1:
            sums = self.accelerator.reduce(sums, reduction="sum")
        return sums

    def note(self, numbers: Sequence[int], loss: Tensor, norm: Tensor | None) -> None:
        """Remember what must be finite; on a CPU, where nothing waits for it, look at once."""
        if norm is None or self.accelerator.scaler is not None:  # loss scaling leaves out a step that overflows
            norm = torch.zeros_like(loss)
        self.unread.append((self.history.step, numbers, torch.stack([loss, norm.to(loss.device)])))
        if self.device.type in LOOKED_AT_ONCE:
            self.check_finite()

    def check_finite(self) -> None:
        """Raise a FloatingPointError if a loss or a norm of the steps since the last look is not finite."""
        if not self.unread:
            return
        values = torch.stack([pair for _, _, pair in self.unread]).tolist()
        unread, self.unread = self.unread, []
        for (step, numbers, _), pair in zip(unread, values, strict=True):
            for name, value in zip(("loss", "norm of the gradient"), pair, strict=True):
                if not math.isfinite(value):
                    raise FloatingPointError(
                        f"the {name} is {value} at step {step}, batches {list(numbers)} (batches[i] shows one). "
                        "Lower learning_rate, lengthen warmup_share, or look for labels or inputs out of range"
                    )

    def numbers(self, step: int) -> list[int]:
        """Return the numbers of this process's batches of a step."""
        first = step * self.batches_per_step + self.accelerator.process_index
        return [first + i * self.accelerator.num_processes for i in range(self.settings.accumulation)]

    def read(self) -> Iterator[Batch]:
        """Yield the batches of this process from the current step on."""
        numbers = [n for step in range(self.history.step, self.settings.steps) for n in self.numbers(step)]
        on_gpu = self.device.type == "cuda"
        return read_batches(self.batches, numbers, workers=self.settings.workers, pin_memory=on_gpu)

    def to_device(self, batch: Batch) -> dict[str, Tensor]:
        """Return the batch where the model is trained."""
        return {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}

    def log(self, measured: Mapping[str, Any], bar: Any) -> None:
        """Record what a step measured, if it is one of those to be logged: one transfer from the device for all."""
        bar.update(1)
        if not (self.due(self.settings.log_every) or self.is_last):
            return
        self.check_finite()
        means = measured["means"]
        means = dict(zip(means, torch.stack(list(means.values())).tolist(), strict=True))
        record = {"loss": sum(means[name] for name in measured["losses"]), "learning_rate": measured["learning_rate"]}
        record |= means
        if measured["grad_norm"] is not None:
            record["grad_norm"] = float(measured["grad_norm"])
        bar.set_postfix(loss=f"{record['loss']:.3f}")
        self.record(record)

    def record(self, values: Mapping[str, float]) -> None:
        """Append values to the history, under the number of the step, and pass them to the trackers."""
        values = {name: float(value) for name, value in values.items()}  # NumPy's numbers do not go into JSON
        row = {"step": self.history.step, **values, "seconds": round(self.history.seconds, 3)}
        self.history.records.append(row)
        if self.accelerator.trackers:
            with self.isolation.section():
                self.accelerator.log({k: v for k, v in row.items() if k != "step"}, step=self.history.step)

    def validate(self, validate: Callable | None) -> None:
        """Record what `validate` says of the model, or of the average of its weights."""
        if validate is None:
            return
        self.check_finite()
        self.model.eval()
        self.record(validate(self.model if self.average is None else self.average.module.eval()))
        self.step.train()

    def must_stop(self, stopped: threading.Event, seconds: float) -> bool:
        """Return whether this process was told to stop, or its time is over."""
        minutes = self.settings.minutes
        return stopped.is_set() or (minutes is not None and seconds >= 60 * minutes)

    def agreed(self, *requests: bool) -> tuple[bool, ...]:
        """Return the requests of all processes together: one that is told to stop stops all, at the same step."""
        if self.accelerator.num_processes > 1:
            flags = torch.tensor(requests, dtype=torch.float32, device=self.device)
            with self.isolation.section():
                requests = tuple(flag > 0 for flag in self.accelerator.reduce(flags, reduction="sum").tolist())
        return requests

    @contextmanager
    def progress_bar(self, shown: bool) -> Iterator[Any]:
        """Yield a bar that stands at the step of the history; only the main process shows one."""
        from tqdm.auto import tqdm

        shown = shown and self.accelerator.is_main_process
        with tqdm(total=self.settings.steps, initial=self.history.step, disable=not shown, unit="step") as bar:
            yield bar

    def save(self) -> None:
        """Write a checkpoint, if there is a folder for it."""
        self.check_finite()
        if self.folder is None:
            return
        self.history.entries[-1]["peak_memory_bytes"] = peak_memory(self.device)
        progress = {
            "step": self.history.step,
            "seconds": self.history.seconds,
            "batches_per_step": self.batches_per_step,
            "settings": settings_as_json(self.settings),
            "identity": self.identity,
            "records": self.history.records,
            "entries": self.history.entries,
        }
        with self.isolation.section():
            save_checkpoint(self.accelerator, self.folder, progress)

    def load(self, folder: Path) -> None:
        """Go back to the state of the checkpoint, if there is one."""
        with self.isolation.section():
            found = load_checkpoint(self.accelerator, folder, self.settings, self.identity, self.batches_per_step)
        if found is not None:
            self.history = History(found["records"], found["step"], found["seconds"], entries=found["entries"])

    def unwrap_weights(self, models: list[nn.Module], weights: list[dict[str, Tensor]], folder: str) -> None:
        """Save the model under its own names, not those of the wrappers around it."""
        weights[:] = [self.bare.state_dict() for _ in weights]

    def unwrap_models(self, models: list[nn.Module], folder: str) -> None:
        """Load into the model itself, as `unwrap_weights` saved it."""
        models[:] = [self.bare for _ in models]

    def finish_trackers(self) -> None:
        """Let the trackers write what they still hold."""
        with self.isolation.section():
            for tracker in self.accelerator.trackers:  # `end_training` would also part the processes from each other
                tracker.finish()


def _added(values: Iterable[Tensor]) -> Tensor:
    return reduce(operator.add, values)
