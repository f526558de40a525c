"""Fine-tuning and prediction beside Trainer, the pipeline and the loop of tutorials: how fast, in how much memory."""

from __future__ import annotations

import dataclasses
import shlex
import statistics
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from companion.finetuning.classifier import TextClassifier
from companion.model.heads import BertForPreTraining
from companion.studies.cases import Contender
from companion.studies.contenders import PASSES, PREDICTIONS
from companion.studies.finetuning_cases import FinetuningCase, made_texts
from companion.studies.interleave import limited_threads
from companion.studies.speed import check_surroundings, comparison_lines, comparisons
from companion.studies.turns import Timed, in_turns
from companion.support.devices import device_name, seed_everything
from companion.support.record import provenance
from companion.text.tokenizer import Tokenizer

WARM_UP = 1  # passes that are not counted


def benchmark_finetuning(case: FinetuningCase, *, progress: bool = True) -> dict[str, Any]:
    """Compare an epoch of `TextClassifier.fit` with Trainer and with the loop of tutorials; return the record of it.

    All train a classifier on the same texts, from the same weights below a new head, with AdamW, the same batch size
    and the same highest learning rate. Everything from the texts to the trained network is timed. Each has a process of
    its own, and they take turns, so that whatever else the machine does meets all of them alike.

    Parameters
    ----------
    case : FinetuningCase
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict
        `name`, `kind` and `entries`, one: `config`, `variants` (of each contender texts per second, the seconds of
        every pass, peak memory in bytes and mean loss), `comparisons` and `provenance`.

    Raises
    ------
    ModuleNotFoundError
        If Transformers is not installed.
    ValueError
        If there are several GPUs, all of which Trainer would take.
    """
    check_surroundings(case.device)
    with TemporaryDirectory() as name, limited_threads(case.threads):
        _write_network(case, Path(name))
        timed = _timed(case, [*case.ours, *case.trainers], PASSES, Path(name), progress)
    return _record("finetuning-speed", "finetune", case, timed, "mean_loss")


def benchmark_prediction(case: FinetuningCase, *, progress: bool = True) -> dict[str, Any]:
    """Compare `TextClassifier.predict` with the pipeline of Transformers; return the record of it.

    Both read the same folder, of a classifier that was trained on the texts for an epoch. Its form is that of
    `benchmark_finetuning`, with `same_answers`, the share of texts with the label that the pipeline finds in fp32, in
    the place of `mean_loss`.
    """
    check_surroundings(case.device)
    theirs = [Contender("pipeline", name) for name in dict.fromkeys(("fp32", *(one.precision for one in case.ours)))]
    with TemporaryDirectory() as name, limited_threads(case.threads):
        folder = Path(name)
        _write_network(case, folder / "pretrained")
        classifier = TextClassifier(folder / "pretrained", epochs=1, max_length=case.max_length, device=case.device)
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of texts that are truncated
            classifier.fit(*made_texts(case)).save(folder / "classifier")
        timed = _timed(case, [*case.ours, *theirs], PREDICTIONS, folder / "classifier", progress)
    reference = timed[Contender("pipeline", "fp32")].result
    for one in timed.values():
        one.result = statistics.fmean(a == b for a, b in zip(one.result, reference, strict=True))
    return _record("prediction-speed", "predict", case, timed, "same_answers")


def _write_network(case: FinetuningCase, folder: Path) -> None:
    """Write a network with random weights, whose speed is that of any other, and the tokenizer."""
    seed_everything(case.seed)
    BertForPreTraining(case.config).save_pretrained(folder)
    Tokenizer.from_pretrained("mini").save_pretrained(folder)


def _timed(
    case: FinetuningCase, contenders: Sequence[Contender], works: Mapping[str, Any], folder: Path, progress: bool
) -> dict[Contender, Timed]:
    makers = {one: partial(works[one.library], case, one, folder) for one in contenders}
    options: dict[str, Any] = {"threads": case.threads, "clock": case.clock, "device": case.device}
    return in_turns(makers, WARM_UP + case.rounds, progress=progress, **options)


def _record(
    name: str, command: str, case: FinetuningCase, timed: Mapping[Contender, Timed], result: str
) -> dict[str, Any]:
    seconds = {one: measured.seconds[WARM_UP:] for one, measured in timed.items()}
    peaks = {one: measured.peak_memory for one, measured in timed.items()}
    hardware = {"device": device_name(case.device), "processor": device_name("cpu")}
    entry = {
        "config": dataclasses.asdict(case) | {"threads": case.threads or torch.get_num_threads()},
        "variants": [
            {
                "name": one.name,
                "library": one.library,
                "precision": one.precision,
                "texts_per_second": statistics.median(case.texts / s for s in seconds[one]),
                "peak_memory_bytes": peaks[one],
                result: measured.result,
                "seconds": [round(s, 4) for s in seconds[one]],
            }
            for one, measured in timed.items()
        ],
        "comparisons": comparisons(seconds, peaks),
        "provenance": provenance(_command(command, case), hardware, packages=("torch", "accelerate", "transformers")),
    }
    return {"name": name, "kind": "speed", "entries": [entry]}


def passes_table(record: Mapping[str, Any]) -> str:
    """Set a record of `benchmark_finetuning` or `benchmark_prediction` as text."""
    return "\n\n".join(map(_entry_table, record["entries"]))


def _entry_table(entry: Mapping[str, Any]) -> str:
    config = entry["config"]
    result = "same_answers" if "same_answers" in entry["variants"][0] else "mean_loss"
    lines = [
        f"{config['model']}, {config['texts']} {config['lengths']} texts in batches of {config['batch_size']}; "
        f"{config['clock']} clock, {config['threads']} thread(s), medians of {config['rounds']} passes",
        f"{'':<32}{'texts/s':>10}{'memory, MB':>12}{result.replace('_', ' '):>15}",
    ]
    for row in entry["variants"]:
        memory = "-" if row["peak_memory_bytes"] is None else f"{row['peak_memory_bytes'] / 1e6:,.0f}"
        lines.append(f"{row['name']:<32}{row['texts_per_second']:>10,.1f}{memory:>12}{row[result]:>15.4f}")
    return "\n".join([*lines, *comparison_lines(entry["comparisons"])])


def _command(name: str, case: FinetuningCase) -> str:
    """Return the command line that measures this case."""
    parts = ["companion", "bench", name]
    for field in dataclasses.fields(case):
        value = getattr(case, field.name)
        if value == field.default or value is None:
            continue
        option = field.name.replace("_", "-")
        if isinstance(value, tuple):
            parts += [f"--{option.replace('precisions', 'precision')}={one}" for one in value]
        else:
            parts.append(f"--{option}" if value is True else f"--{option}={value}")
    return shlex.join(parts)
