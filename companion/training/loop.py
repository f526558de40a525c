"""The one training loop of this package, on accelerate: every chapter that trains anything trains it here.

Three decisions keep it exact. Batches are looked up by number, so that no iterator has a position to lose. The random
generators are seeded anew for every batch, from the run's seed and the batch's number, so that they have no state to
lose either. A loss is a sum divided by the count of what it sums over in the whole step, on all devices, so that
accumulating, or adding processes, changes where a step is computed and not what it computes.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from companion.support.devices import best_device, precision_for, seed_everything
from companion.support.files import atomic_file, recover_folder, replace_folder
from companion.training.checkpoint import CHECKPOINT, plain, read_progress, refuse_other_run
from companion.training.objective import Batch, Objective
from companion.training.optimisers import parameter_groups
from companion.training.schedule import learning_rate_at
from companion.training.settings import TrainingSettings

logger = logging.getLogger(__name__)


@dataclass
class History:
    """What a run logged.

    Attributes
    ----------
    records : list of dict
        One every `log_every` steps: `step`, `loss`, each loss by name, `learning_rate`, `grad_norm`, `seconds`; and
        what validation returned, at the steps where it ran.
    step : int
        Steps done.
    seconds : float
        Time spent in the loop, all starts of the run together.
    finished : bool
        False if the run was stopped before its last step.
    """

    records: list[dict[str, float]] = field(default_factory=list)
    step: int = 0
    seconds: float = 0.0
    finished: bool = False

    def column(self, name: str) -> tuple[list[float], list[float]]:
        """Return the steps at which `name` was recorded, and its values."""
        rows = [record for record in self.records if name in record]
        return [row["step"] for row in rows], [row[name] for row in rows]


def train(
    model: nn.Module,
    batches: Sequence[Batch],
    objective: Objective,
    settings: TrainingSettings,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    validate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    groups: Sequence[dict[str, Any]] | None = None,
    identity: Mapping[str, Any] | None = None,
    progress: bool = True,
    trackers: Sequence[str] = (),
) -> History:
    """Train `model` in place.

    Parameters
    ----------
    model : nn.Module
        Stays on the device it was trained on, in evaluation mode.
    batches : Sequence
        `batches[i]` is batch number i, a dict of tensors, always the same for the same i. Step s takes the
        `accumulation × processes` batches that start at s times that number.
    objective : Objective
    settings : TrainingSettings
    folder : str or Path, optional
        Where the checkpoint (`checkpoint/`) and the log (`log.jsonl`) are kept. None keeps nothing.
    resume : bool
        Go on from the checkpoint in `folder`, if there is one. The result is that of a run never interrupted.
    validate : callable, optional
        Called with the model in evaluation mode every `validate_every` steps and at the end; what it returns is logged.
    groups : sequence of dict, optional
        Parameter groups for the optimiser in place of `parameter_groups`; `lr_scale` in one scales its learning rate.
    identity : mapping, optional
        What else the run is made of, such as its data: values that JSON can hold. A checkpoint of a run with another
        identity is refused.
    progress : bool
        Show a progress bar.
    trackers : sequence of str
        Names that accelerate knows, such as `"tensorboard"` or `"wandb"`.

    Returns
    -------
    History

    Raises
    ------
    FloatingPointError
        If a loss or (but in fp16, where such a step is left out) the gradient is not finite; names the step and its
        batches. The last checkpoint stays as it is.
    OSError
        If a checkpoint cannot be written; the last one is kept.
    ValueError
        If the checkpoint is of another run, `resume` is asked for without a folder, or a folder that holds a
        checkpoint is given without `resume`.
    """
    if resume and folder is None:
        raise ValueError("resume=True needs folder=..., where the checkpoint is")
    if not resume and folder is not None and (Path(folder) / CHECKPOINT).exists():
        raise ValueError(
            f"folder={str(folder)!r} holds the checkpoint of an earlier run; pass resume=True to go on with it, or "
            "another folder, or remove it"
        )
    run = _Run(model, batches, objective, settings, groups, None if folder is None else Path(folder), trackers)
    run.identity = json.loads(json.dumps(identity or {}))
    if resume:
        run.load()
    with _stop_signals() as stopped, run.progress_bar(progress) as bar:
        run.loop(bar, validate, stopped)
    for tracker in run.accelerator.trackers:  # `end_training` would also cut the processes off from each other
        tracker.finish()
    model.eval()
    return run.history


class _Step(nn.Module):
    """The objective as a module, so that DDP, FSDP and `torch.compile` see one forward pass."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self.objective.sums(self.model, batch)


class _Run:
    def __init__(
        self,
        model: nn.Module,
        batches: Sequence[Batch],
        objective: Objective,
        settings: TrainingSettings,
        groups: Sequence[dict[str, Any]] | None,
        folder: Path | None,
        trackers: Sequence[str],
    ) -> None:
        self.model, self.batches, self.objective, self.settings = model, batches, objective, settings
        self.folder, self.history = folder, History()
        self.accelerator = _accelerator(settings, folder, trackers)
        groups = list(groups or parameter_groups(model, settings.weight_decay))
        model.to(self.accelerator.device)
        optimizer = torch.optim.AdamW(groups, lr=0.0, betas=settings.betas, eps=settings.eps, fused=True)
        self.bare = step = _Step(model, objective)
        if settings.compile:
            step = torch.compile(step)
        self.step, self.optimizer = self.accelerator.prepare(step, optimizer)
        self.average = None
        if settings.averaging is not None:
            self.average = AveragedModel(model, multi_avg_fn=moving_average(settings.averaging))
            self.accelerator.register_for_checkpointing(self.average)
        # A checkpoint carries the names of the bare module, so that one written under DDP or `compile` loads without.
        self.accelerator.register_save_state_pre_hook(self.unwrap_weights)
        self.accelerator.register_load_state_pre_hook(self.unwrap_models)
        if trackers:
            config = {name: str(value) for name, value in plain(settings).items()}  # trackers take no None and no list
            self.accelerator.init_trackers(folder.name if folder else "run", config=config)

    @property
    def batches_a_step(self) -> int:
        return self.settings.accumulation * self.accelerator.num_processes

    # --- the loop -------------------------------------------------------------------------------------------------

    def loop(self, bar: Any, validate: Callable | None, stopped: threading.Event) -> None:
        began, before = time.perf_counter(), self.history.seconds
        if self.is_last:  # resumed after its end
            self.history.finished = True
            self.take_average()
            return
        loader = iter(self.loader())
        self.step.train()
        while self.history.step < self.settings.steps:
            numbers = self.numbers(self.history.step)
            record = self.optimise(numbers, [next(loader) for _ in numbers])
            self.history.step += 1
            if self.average is not None:
                self.average.update_parameters(self.model)
            self.history.seconds = before + time.perf_counter() - began
            self.log(record, bar)
            if self.due(self.settings.validate_every) and not self.is_last:
                self.validate(validate)
            if self.due(self.settings.save_every) and not self.is_last:
                self.save()
            if self.must_stop(stopped, time.perf_counter() - began):
                break
        self.history.finished = self.is_last
        if self.is_last:
            self.validate(validate)
        self.save()
        if self.is_last:
            self.take_average()

    def take_average(self) -> None:
        """Put the averaged weights, if they are kept, in the place of the last ones."""
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())

    def optimise(self, numbers: Sequence[int], batches: Sequence[Batch]) -> dict[str, float]:
        """Take one step; return what it measured, means over the step."""
        learning_rate = learning_rate_at(self.history.step, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group.get("lr_scale", 1.0)
        batches = [self.to_device(batch) for batch in batches]
        counts = {k: v.clamp(min=1) for k, v in self.total([self.objective.counts(b) for b in batches]).items()}
        parts = []
        for position, (number, batch) in enumerate(zip(numbers, batches, strict=True)):
            seed_everything(batch_seed(self.settings.seed, number))
            last = position == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.step):
                losses, extras = self.step(batch)
                # DDP averages gradients over the processes; the sum over all of them is what is wanted.
                loss = sum(losses[name] / counts[name] for name in losses) * self.accelerator.num_processes
                self.accelerator.backward(loss)
            parts.append({name: value.detach() for name, value in (losses | extras).items()})
        means = self.means(parts, counts)
        record = {"loss": sum(means[name] for name in losses), "learning_rate": learning_rate} | means
        self.check_finite("loss", record["loss"], numbers)
        if self.settings.max_grad_norm is not None:
            record["grad_norm"] = float(
                self.accelerator.clip_grad_norm_(self.step.parameters(), self.settings.max_grad_norm)
            )
            if self.accelerator.scaler is None:  # loss scaling leaves out a step whose gradient overflows
                self.check_finite("norm of the gradient", record["grad_norm"], numbers)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return record

    def means(self, parts: Sequence[Mapping[str, Tensor]], counts: Mapping[str, Tensor]) -> dict[str, float]:
        """Divide every sum by the count of its loss; one transfer from the device for all of them."""
        sums = self.total(parts)
        values = torch.stack([value / counts[name.partition("_")[0]] for name, value in sums.items()])
        return dict(zip(sums, values.tolist(), strict=True))

    def total(self, parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Add up over batches and processes."""
        sums = {name: sum(part[name] for part in parts).float() for name in parts[0]}
        if self.accelerator.num_processes > 1:
            sums = self.accelerator.reduce(sums, reduction="sum")
        return sums

    def check_finite(self, name: str, value: float, numbers: Sequence[int]) -> None:
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the {name} is {value} at step {self.history.step}, batches {list(numbers)} (batches[i] shows one). "
                "Lower learning_rate, lengthen warmup_share, or look for labels or inputs out of range"
            )

    # --- batches --------------------------------------------------------------------------------------------------

    def numbers(self, step: int) -> list[int]:
        first = step * self.batches_a_step + self.accelerator.process_index
        return [first + i * self.accelerator.num_processes for i in range(self.settings.accumulation)]

    def loader(self) -> DataLoader:
        """Return the batches of this process from the current step on."""
        numbers = [n for step in range(self.history.step, self.settings.steps) for n in self.numbers(step)]
        workers = self.settings.workers
        return DataLoader(self.batches, batch_size=None, sampler=numbers, num_workers=workers, pin_memory=self.on_gpu)

    def to_device(self, batch: Batch) -> dict[str, Tensor]:
        return {name: value.to(self.accelerator.device, non_blocking=True) for name, value in batch.items()}

    @property
    def on_gpu(self) -> bool:
        return self.accelerator.device.type == "cuda"

    # --- log, validation, stop ------------------------------------------------------------------------------------

    @property
    def is_last(self) -> bool:
        return self.history.step >= self.settings.steps

    def due(self, every: int) -> bool:
        return bool(every) and self.history.step % every == 0

    def log(self, record: dict[str, float], bar: Any) -> None:
        bar.update(1)
        if not (self.due(self.settings.log_every) or self.is_last):
            return
        bar.set_postfix(loss=f"{record['loss']:.3f}")
        self.record(record)

    def record(self, values: Mapping[str, float]) -> None:
        values = {name: float(value) for name, value in values.items()}  # NumPy's numbers do not go into JSON
        row = {"step": self.history.step, **values, "seconds": round(self.history.seconds, 3)}
        self.history.records.append(row)
        self.accelerator.log({k: v for k, v in row.items() if k != "step"}, step=self.history.step)

    def validate(self, validate: Callable | None) -> None:
        if validate is None:
            return
        self.model.eval()
        self.record(validate(self.model if self.average is None else self.average.module.eval()))
        self.step.train()

    def must_stop(self, stopped: threading.Event, seconds: float) -> bool:
        minutes = self.settings.minutes
        wish = stopped.is_set() or (minutes is not None and seconds >= 60 * minutes)
        if self.accelerator.num_processes > 1:  # one that is told to stop stops all, at the same step
            wish = bool(self.accelerator.reduce(torch.tensor(float(wish), device=self.accelerator.device)) > 0)
        return wish

    @contextmanager
    def progress_bar(self, shown: bool) -> Iterator[Any]:
        from tqdm.auto import tqdm

        shown = shown and self.accelerator.is_main_process
        with tqdm(total=self.settings.steps, initial=self.history.step, disable=not shown, unit="step") as bar:
            yield bar

    # --- checkpoint and resume ------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the whole state beside the last checkpoint, then put it in its place."""
        if self.folder is None:
            return
        target = self.folder / CHECKPOINT
        temporary = target.with_name(f".{CHECKPOINT}.partial")
        if self.accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        try:
            self.accelerator.save_state(str(temporary))
            self.accelerator.wait_for_everyone()  # every process has written its part
            if self.accelerator.is_main_process:
                self.write_progress(temporary)
                replace_folder(temporary, target)
        except (OSError, RuntimeError, SafetensorError) as error:  # the latter two: torch and safetensors, disk full
            shutil.rmtree(temporary, ignore_errors=True)
            raise OSError(f"no checkpoint could be written to {target} ({error}); the last one is kept") from error
        self.accelerator.wait_for_everyone()

    def write_progress(self, temporary: Path) -> None:
        files = [file for file in temporary.rglob("*") if file.is_file()]
        sizes = {file.relative_to(temporary).as_posix(): file.stat().st_size for file in files}
        progress = {
            "step": self.history.step,
            "seconds": self.history.seconds,
            "batches_a_step": self.batches_a_step,
            "settings": plain(self.settings),
            "identity": self.identity,
            "records": self.history.records,
            "sizes": sizes,
        }
        (temporary / "progress.json").write_text(json.dumps(progress), encoding="utf-8")
        with atomic_file(self.folder / "log.jsonl") as log:
            log.write_text("".join(json.dumps(row) + "\n" for row in self.history.records), encoding="utf-8")

    def load(self) -> None:
        """Go back to the state of the checkpoint, if there is one."""
        target = self.folder / CHECKPOINT
        if self.accelerator.is_main_process:
            recover_folder(target)
        self.accelerator.wait_for_everyone()
        if not target.exists():
            return
        progress = read_progress(target)
        refuse_other_run(progress, self.settings, self.identity, self.batches_a_step, target)
        self.accelerator.load_state(str(target))
        self.history.records, self.history.step = progress["records"], progress["step"]
        self.history.seconds = progress["seconds"]

    def unwrap_weights(self, models: list[nn.Module], weights: list[dict[str, Tensor]], folder: str) -> None:
        weights[:] = [self.bare.state_dict() for _ in weights]

    def unwrap_models(self, models: list[nn.Module], folder: str) -> None:
        models[:] = [self.bare for _ in models]


def moving_average(decay: float) -> Callable[[list[Tensor], list[Tensor], int], None]:
    """Return the update of an exponential moving average of weights, for `torch.optim.swa_utils.AveragedModel`.

    After n updates the decay is the smaller of `decay` and (n + 1) / (n + 10), so that the average forgets the start.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], updates: Tensor | int) -> None:
        share = 1 - min(decay, (int(updates) + 1) / (int(updates) + 10))
        torch._foreach_lerp_(averaged, current, share)

    return update


def batch_seed(seed: int, number: int) -> int:
    """Return the seed of the random generators for batch `number` of a run with `seed`."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _accelerator(settings: TrainingSettings, folder: Path | None, trackers: Sequence[str]) -> Any:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedDataParallelKwargs

    device = best_device(settings.device)
    precision = {"fp32": "no"}.get(name := precision_for(device, settings.precision), name)
    if PartialState._shared_state == {} or PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)  # else the first run of a process would decide for all
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # accelerate takes the current one
    return Accelerator(
        # An objective may leave a part of the model unused, as pre-training without next sentences does the pooler.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        cpu=device.type == "cpu",
        mixed_precision=precision,
        log_with=list(trackers) or None,
        project_dir=None if folder is None else str(folder),
    )


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into a wish to stop after the current step."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    old = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
