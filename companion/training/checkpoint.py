"""What a training leaves on disk to be resumed from, and which run may resume it."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from companion.support.files import atomic_file, finite, recover_folder, replace_folder
from companion.training.schedule import learning_rate_at
from companion.training.settings import TrainingSettings

CHECKPOINT, LOG = "checkpoint", "log.jsonl"
PARTIAL = f".{CHECKPOINT}.partial"

# What may differ between two starts of one run: none of it changes the steps already taken.
_FREE = {"device", "minutes", "log_every", "validate_every", "save_every", "workers", "compile", "accumulation"}
_LENGTH = {"steps", "warmup_share", "decay_share"}
_RENAMED = {"averaging": "ema_decay", "batches_a_step": "batches_per_step"}  # as earlier versions wrote them


def save_checkpoint(accelerator: Any, folder: Path, progress: Mapping[str, Any]) -> None:
    """Write the whole state beside the last checkpoint of a run, then put it in its place.

    Parameters
    ----------
    accelerator : Accelerator
        With the model and the optimiser.
    folder : Path
        Of the run.
    progress : mapping
        What else to keep: `step`, `seconds`, `settings`, `identity`, `records`, `entries`, `batches_per_step`.

    Raises
    ------
    OSError
        On all processes, if it cannot be written on one of them; the last checkpoint is kept.
    """
    target = folder / CHECKPOINT
    temporary = target.with_name(PARTIAL)
    try:
        _together(accelerator, partial(_empty, temporary), main_only=True)
        _together(accelerator, lambda: accelerator.save_state(str(temporary)))
        _together(accelerator, lambda: _put_in_place(temporary, target, progress), main_only=True)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(f"no checkpoint could be written to {target} ({error}); the last one is kept") from error


def load_checkpoint(
    accelerator: Any, folder: Path, settings: TrainingSettings, identity: dict[str, Any], batches_per_step: int
) -> dict[str, Any] | None:
    """Go back to the state of a run's checkpoint; return what else it holds, None if there is no checkpoint.

    Raises
    ------
    ValueError
        If it is damaged, or that of another run.
    """
    target = folder / CHECKPOINT
    if accelerator.is_main_process:
        recover_folder(target)
    accelerator.wait_for_everyone()
    if not target.exists():
        return None
    progress = read_progress(target)
    refuse_other_run(progress, settings, identity, batches_per_step, target)
    accelerator.load_state(str(target))
    return progress


def find_checkpoint(folder: Path) -> Path | None:
    """Return where a run's folder holds a checkpoint, also one whose replacement was interrupted; None if nowhere."""
    return next((place for place in _places(folder) if place.exists()), None)


def has_checkpoint(folder: Path) -> bool:
    """Return whether a run's folder holds a checkpoint, also one whose replacement was interrupted."""
    return find_checkpoint(folder) is not None


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a run and its log, with what interrupted replacements left."""
    for place in (*_places(folder), folder / PARTIAL):
        shutil.rmtree(place, ignore_errors=True)
    (folder / LOG).unlink(missing_ok=True)


def _places(folder: Path) -> tuple[Path, Path]:
    return folder / CHECKPOINT, folder / f".{CHECKPOINT}.old"


def check_folder(folder: Path | None, resume: bool) -> None:
    """Raise a ValueError if a folder is missing to resume from, or holds a checkpoint that would be written over."""
    if resume and folder is None:
        raise ValueError("resume=True needs folder=..., where the checkpoint is")
    if not resume and folder is not None and has_checkpoint(folder):
        raise ValueError(
            f"folder={str(folder)!r} holds the checkpoint of an earlier run; pass resume=True to go on with it, or "
            "another folder, or remove it"
        )


def read_progress(target: Path) -> dict[str, Any]:
    """Return what a checkpoint holds beside weights and optimiser, after checking the sizes of its files.

    Raises
    ------
    ValueError
        If it is none, or a file is not as long as it was written.
    """
    try:
        progress = _renamed(json.loads((target / "progress.json").read_text(encoding="utf-8")))
        progress["settings"] = _with_defaults(progress["settings"])
        progress["records"] = [_with_nan(record) for record in progress["records"]]
        progress.setdefault("entries", [_unknown(progress["step"], progress["seconds"])])
        sizes = progress["sizes"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{target} is no checkpoint of this trainer ({error}); move it away to start again") from error
    for name, size in sizes.items():
        found = (target / name).stat().st_size if (target / name).is_file() else 0
        if found != size:
            raise ValueError(f"{target / name} has {found} bytes, {size} were written; the checkpoint is damaged")
    return progress


def refuse_other_run(
    progress: dict[str, Any],
    settings: TrainingSettings,
    identity: dict[str, Any],
    batches_per_step: int,
    target: Path,
) -> None:
    """Raise a ValueError that names every difference, if a checkpoint is that of another run."""
    old, new = progress["settings"], settings_as_json(settings)
    if old["schedule"] == new["schedule"] and _same_so_far(old, new, progress["step"]):
        old, new = ({k: v for k, v in s.items() if k not in _LENGTH} for s in (old, new))
    names = [name for name in new if name not in _FREE and old.get(name) != new[name]]
    changed = [f"{name}={new[name]!r} was {old.get(name)!r}" for name in names]
    before = progress.get("identity", {})
    others = [name for name in {**before, **identity} if before.get(name) != identity.get(name)]
    changed += [_difference(name, before, identity) for name in others]
    if progress["batches_per_step"] != batches_per_step:
        changed.append(f"{batches_per_step} batches per step were {progress['batches_per_step']}")
    if changed:
        longer = "" if "steps" not in names else " (only a run on a plateau of its schedule can be lengthened)"
        raise ValueError(
            f"{target} is of another run: {'; '.join(changed)}. Set them back{longer}, or use another folder"
        )


def _difference(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if name.endswith("_checksum"):  # says nothing to a reader
        return f"the {name.removesuffix('_checksum')} has changed ({name})"
    return f"{name}={now.get(name)!r} was {before.get(name)!r}"


def settings_as_json(settings: TrainingSettings) -> dict[str, Any]:
    """Return settings as JSON holds them."""
    return json.loads(json.dumps(dataclasses.asdict(settings), default=str))


def _together(accelerator: Any, action: Callable[[], Any], main_only: bool = False) -> None:
    """Do something on all processes, or on the main one; raise an OSError on all if it fails on one."""
    error: Exception | None = None
    try:
        if accelerator.is_main_process or not main_only:
            action()
    except (OSError, RuntimeError, SafetensorError) as caught:  # the latter two: torch and safetensors, disk full
        error = caught
    failed = torch.tensor(float(error is not None), device=accelerator.device)
    if accelerator.num_processes > 1:
        failed = accelerator.reduce(failed, reduction="sum")
    if failed > 0:
        raise OSError(str(error or "another process failed")) from error


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _put_in_place(temporary: Path, target: Path, progress: Mapping[str, Any]) -> None:
    files = [file for file in temporary.rglob("*") if file.is_file()]
    sizes = {file.relative_to(temporary).as_posix(): file.stat().st_size for file in files}
    records = finite(progress["records"])
    text = json.dumps({**progress, "records": records, "sizes": sizes})
    (temporary / "progress.json").write_text(text, encoding="utf-8")
    with atomic_file(target.with_name(LOG)) as log:
        log.write_text("".join(json.dumps(row) + "\n" for row in records), encoding="utf-8")
    replace_folder(temporary, target)


def _same_so_far(old: Mapping[str, Any], new: Mapping[str, Any], step: int) -> bool:
    """Return whether two lengths of a run have the same learning rate in every step already taken."""
    before, after = (TrainingSettings(**s) for s in (old, new))
    return all(learning_rate_at(i, before) == learning_rate_at(i, after) for i in range(step))


def _renamed(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {_RENAMED.get(name, name): value for name, value in entries.items()}


def _with_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of any version with the names of this one; what one did not know yet has its default."""
    fields = dataclasses.fields(TrainingSettings)
    defaults = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    return json.loads(json.dumps({**defaults, **_renamed(settings)}))


def _unknown(step: int, seconds: float) -> dict[str, Any]:
    """Return the entry for the steps of an earlier version, which did not note where they were taken."""
    entry = {"first_step": 1, "last_step": step, "seconds": seconds}
    return {**entry, "peak_memory_bytes": None, "provenance": {}}


def _with_nan(record: Mapping[str, Any]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in record.items()}
