"""What a training leaves on disk to be resumed from, and which run may resume it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from companion.training.schedule import learning_rate_at
from companion.training.settings import TrainingSettings

CHECKPOINT = "checkpoint"

# What may differ between two starts of one run: none of it changes the steps already taken.
_FREE = {"device", "minutes", "log_every", "validate_every", "save_every", "workers", "compile", "accumulation"}


def read_progress(target: Path) -> dict[str, Any]:
    try:
        progress = json.loads((target / "progress.json").read_text(encoding="utf-8"))
        sizes = progress["sizes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{target} is no checkpoint of this trainer ({error}); move it away to start anew") from error
    for name, size in sizes.items():
        found = (target / name).stat().st_size if (target / name).is_file() else 0
        if found != size:
            raise ValueError(f"{target / name} has {found} bytes, {size} were written; the checkpoint is damaged")
    return progress


def refuse_other_run(
    progress: dict[str, Any],
    settings: TrainingSettings,
    identity: dict[str, Any],
    batches_a_step: int,
    target: Path,
) -> None:
    old, new = progress["settings"], plain(settings)
    if old["schedule"] == new["schedule"] and _same_so_far(old, new, progress["step"]):
        old, new = ({k: v for k, v in s.items() if k not in _LENGTH} for s in (old, new))
    names = [name for name in new if name not in _FREE and old.get(name) != new[name]]
    changed = [f"{name}={new[name]!r} was {old.get(name)!r}" for name in names]
    before = progress.get("identity", {})
    others = [name for name in {**before, **identity} if before.get(name) != identity.get(name)]
    changed += [f"{name}={identity.get(name)!r} was {before.get(name)!r}" for name in others]
    if progress["batches_a_step"] != batches_a_step:
        changed.append(f"{batches_a_step} batches a step were {progress['batches_a_step']}")
    if changed:
        raise ValueError(f"{target} is of another run: {'; '.join(changed)}. Set them back, or use another folder")


_LENGTH = {"steps", "warmup_share", "decay_share"}


def _same_so_far(old: Mapping[str, Any], new: Mapping[str, Any], step: int) -> bool:
    """Say whether two lengths of a run have the same learning rate in every step already taken."""
    before, after = (TrainingSettings(**{k: tuple(v) if k == "betas" else v for k, v in s.items()}) for s in (old, new))
    return all(learning_rate_at(i, before) == learning_rate_at(i, after) for i in range(step))


def plain(settings: TrainingSettings) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(settings)))
