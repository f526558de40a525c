"""The one training loop of this package, on accelerate: every chapter that trains anything trains it here.

Three decisions keep it exact. Batches are looked up by number, so that no iterator has a position to lose. The random
generators are seeded again for every batch, from the run's seed and the batch's number, so that they have no state to
lose either. A loss is a sum divided by the count of what it sums over in the whole step, on all devices, so that
accumulating, or adding processes, changes where a step is computed and not what it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from companion.support.devices import as_current, best_device, process_count
from companion.support.memory import freed_memory_kept
from companion.training.checkpoint import check_folder
from companion.training.history import History as History
from companion.training.isolation import tracker_names
from companion.training.loader import Batches, check_batches
from companion.training.objective import Batch, Objective, check_objective
from companion.training.optimisers import trained_only
from companion.training.run import OnStep, Run
from companion.training.run import batch_seed as batch_seed
from companion.training.settings import TrainingSettings
from companion.training.signals import stop_signals

Model = TypeVar("Model", bound=nn.Module)


def train(
    model: Model,
    batches: Batches | Iterable[Batch],
    objective: Objective[Model],
    settings: TrainingSettings,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    validate: Callable[[Model], Mapping[str, float]] | None = None,
    on_step: OnStep | None = None,
    groups: Sequence[dict[str, Any]] | None = None,
    identity: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: bool = True,
    trackers: str | Sequence[str] = (),
) -> History:
    """Train `model` in place.

    The caller's random generators and Accelerator are left as they were. Several threads may train at the same time;
    they take turns, step by step, and each gets the numbers that it gets alone.

    Parameters
    ----------
    model : nn.Module
        Stays on the device it was trained on, in evaluation mode.
    batches : sequence or iterable
        `batches[i]` is batch number i, a dict of tensors, always the same for the same i. Step s takes the
        `accumulation × processes` batches that start at s times that number. An iterable (a generator, a DataLoader)
        gives its batches in this order; a run on one cannot be resumed.
    objective : Objective
    settings : TrainingSettings
    folder : str or Path, optional
        Where the checkpoint (`checkpoint/`) and the log (`log.jsonl`) are kept. None keeps nothing.
    resume : bool
        Go on from the checkpoint in `folder`, if there is one. The result is that of a run never interrupted.
    validate : callable, optional
        Called with the model in evaluation mode every `validate_every` steps and at the end; what it returns is logged.
    on_step : callable, optional
        Called with the history after every step, after what it logged and its validation. If it returns True, the run
        ends there, as it does after its last step.
    groups : sequence of dict, optional
        Parameter groups for the optimiser in place of `parameter_groups`; `lr_scale` in one scales its learning rate.
        The other parameters are frozen while the model is trained. They are AdamW's.
    identity : mapping, optional
        What else the run is made of, such as its data: values that JSON can hold. A checkpoint of a run with another
        identity is refused.
    provenance : mapping, optional
        When, where and by what this process trains, as `companion.support.record.provenance` tells it. It is kept with
        the steps that the process takes, in `History.entries`, and decides nothing.
    progress : bool
        Show a progress bar.
    trackers : str or sequence of str
        Names that accelerate knows, such as `"tensorboard"` or `"wandb"`.

    Returns
    -------
    History

    Raises
    ------
    FloatingPointError
        If a loss or (but in fp16, where such a step is left out) the gradient is not finite; names the step and its
        batches. The last checkpoint stays as it is. On a CPU the weights do too; a GPU is asked only when something
        is logged, validated or saved, so that it never waits.
    OSError
        If a checkpoint cannot be written; the last one is kept.
    TypeError
        If what is passed, or what the objective returns, is of the wrong kind.
    ValueError
        If the checkpoint is of another run, `resume` is asked for without a folder, a folder that holds a checkpoint
        is given without `resume`, there are too few batches, or nothing is to be trained.
    """
    folder = None if folder is None else Path(folder)
    if groups is not None and settings.optimizer != "adamw":
        raise ValueError(f"optimizer={settings.optimizer!r} chooses its own groups; leave groups out, or take 'adamw'")
    check_objective(objective)
    check_batches(
        batches, settings.steps * settings.accumulation * process_count(), workers=settings.workers, resume=resume
    )
    device = best_device(settings.device)
    check_folder(folder, resume)
    trackers = tracker_names(trackers, folder)
    with as_current(settings.device), freed_memory_kept(device), trained_only(model, groups, settings) as groups:
        run = Run(model, batches, objective, settings, groups, folder, identity or {}, trackers, provenance or {})
        if resume and folder is not None:
            run.load(folder)
        with stop_signals() as stopped, run.progress_bar(progress) as bar:
            run.loop(bar, validate, on_step, stopped)
        run.finish_trackers()
    model.eval()
    return run.history
