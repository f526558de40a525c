"""The record of a pre-training run: what it was made of, what came out, and every process and run on the way there."""

from __future__ import annotations

import dataclasses
import json
import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from companion.config import BertConfig
from companion.data.plain import Source
from companion.pretraining.batches import TrainingBatches, batches_per_step
from companion.pretraining.config import PretrainingConfig
from companion.pretraining.streaming import StreamedBatches
from companion.support.devices import process_count
from companion.support.locate import CHECKPOINT, locate
from companion.support.record import hardware_of, provenance
from companion.training.history import History

logger = logging.getLogger(__name__)
KIND, RECORD = "pretraining", "record.json"


def run_record(
    config: PretrainingConfig,
    batches: TrainingBatches | StreamedBatches,
    history: History,
    shape: BertConfig,
) -> dict[str, Any]:
    """Return everything that is needed to judge a run and to repeat it.

    Parameters
    ----------
    config : PretrainingConfig
    batches : TrainingBatches or StreamedBatches
        What the run read.
    history : History
        What it logged.
    shape : BertConfig
        That of the model.

    Returns
    -------
    dict
        `name`, `kind`, `config` (`PretrainingConfig.from_dict` reads it back), `corpus`, `steps`, `positions_seen`,
        `passes_over_the_corpus`, `seconds`, `final` (the last validation), `curve` (what was logged); `entries`, one
        for each process that took steps: `first_step`, `last_step`, `seconds`, `positions`, `peak_memory_bytes` and
        `provenance`; and `earlier`, the records of the runs that led to `initial`, the first of them first.
    """
    counts, passes = batches.text_seen(batches_per_step(config) * history.step)
    name = Path(config.folder).name
    return {
        "name": name,
        "kind": KIND,
        "config": recorded_settings(config, shape),
        "corpus": {name: batches.identity[name] for name in ("source_checksum", "vocabulary_checksum")} | counts,
        "steps": history.step,
        "positions_seen": positions_between(config, 1, history.step),
        "passes_over_the_corpus": None if passes is None else round(passes, 3),
        "seconds": round(history.seconds),
        "final": next((row for row in reversed(history.records) if "validation_mlm" in row), history.records[-1]),
        "entries": [_entry(config, entry) for entry in history.entries],
        "earlier": [] if config.initial is None else earlier_runs(config.initial, name),
        "curve": history.records,
    }


def _entry(config: PretrainingConfig, entry: Mapping[str, Any]) -> dict[str, Any]:
    positions = positions_between(config, entry["first_step"], entry["last_step"])
    return {**entry, "seconds": round(entry["seconds"], 3), "positions": positions}


def run_provenance(config: PretrainingConfig) -> dict[str, Any]:
    """Return when, where and with what this process trains, and the command that repeats the run from its record."""
    hardware = hardware_of(config.training.device, config.training.precision) | {"processes": process_count()}
    return provenance(_command(config), hardware)


def positions_between(config: PretrainingConfig, first: int, last: int) -> int:
    """Return how many positions, tokens and padding, the steps from `first` to `last` read, both included."""
    positions = done = 0
    for phase in config.phases:
        steps = min(last, done + phase.steps) - max(first - 1, done)
        positions += max(0, steps) * phase.batch_size * phase.max_tokens
        done += phase.steps
    return positions * batches_per_step(config)


def earlier_runs(initial: str | Path, name: str) -> list[dict[str, Any]]:
    """Return the records of the runs that led to a checkpoint, the first of them first.

    Parameters
    ----------
    initial : str or Path
        The checkpoint; its record lies in its folder, or beside it as `pretrain` leaves it.
    name : str
        That of the run which goes on from it. A record of the same name gets its place in the chain behind its own.

    Returns
    -------
    list of dict
        Empty if there is no record.
    """
    record = record_of(locate(initial, CHECKPOINT))
    if record is None:
        return []
    chain = [*record.pop("earlier"), record]
    names = {name, *(one["name"] for one in chain[:-1])}
    if record["name"] in names:
        record["name"] = f"{record['name']} ({len(chain)})"
    return chain


def record_of(folder: str | Path) -> dict[str, Any] | None:
    """Return the record of the run that made a checkpoint, None if there is none."""
    places = (Path(folder) / RECORD, Path(folder).absolute().parent / RECORD)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["kind"] == KIND and {"entries", "earlier"} <= record.keys():
            return record
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    logger.warning("%s is no record of a pre-training run of this version; it is not carried on", path)
    return None


def recorded_settings(config: PretrainingConfig, shape: BertConfig) -> dict[str, Any]:
    """Return the settings of a run as its record has them, with names and not the places of files on this machine.

    `PretrainingConfig.from_dict` reads them back.
    """
    settings = dataclasses.asdict(config)
    settings |= {"folder": Path(config.folder).name, "source": source_names(config.source)}
    settings["validation"] = None if config.validation is None else source_names(config.validation)
    for name in ("initial", "tokenizer"):
        settings[name] = None if settings[name] is None else "/".join(Path(settings[name]).parts[-2:])
    if config.initial is not None:  # whose shape the model has, whatever preset stood beside it
        settings["model"] = dataclasses.asdict(shape)
    return settings


def source_names(source: Source) -> list[str] | str:
    """Return the names of a source without the places where files lie; a set of the hub keeps its whole name."""
    if not isinstance(source, str | Path):
        return [str(source_names(part)) for part in source]
    parts = Path(source).parts
    if isinstance(source, str) and source.startswith("hub:"):
        return source
    first = next((index for index, part in enumerate(parts) if "*" in part), len(parts) - 1)
    return "/".join(parts[first:])  # of a pattern all from the first * on


def _command(config: PretrainingConfig) -> str:
    names = source_names(config.source)
    parts = ["companion", "pretrain", RECORD, *([names] if isinstance(names, str) else names)]
    if isinstance(config.validation, str | Path):
        parts += ["--validation", str(source_names(config.validation))]
    return shlex.join([*parts, "--output", Path(config.folder).name])
