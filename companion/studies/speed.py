"""Side by side with Transformers: how fast a step is, how near to what the machine can do, and in how much memory.

The training loops that are compared run one step of each in turn, so that whatever else the machine does meets all of
them alike; what is compared are medians over these rounds. Each has a process of its own, since what one loop does to
the memory of a process would serve or hinder the others.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import shlex
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from companion.config import BertConfig
from companion.model.heads import BertForPreTraining
from companion.studies.cases import Contender, PretrainingCase, model_flops, random_batches, tokens_per_row
from companion.studies.contenders import PretrainingSteps
from companion.studies.interleave import CLOCKS, WARM_UP, limited_threads, seconds_of
from companion.studies.turns import in_turns
from companion.support.devices import DTYPES, best_device, device_name, seed_everything
from companion.support.record import provenance
from companion.training.objective import Batch


def benchmark_pretraining(cases: Sequence[PretrainingCase], *, progress: bool = True) -> dict:
    """Compare pre-training with `transformers.Trainer` and return the record of it.

    Both train the same network from the same weights on the same masked batches, with the same AdamW, learning rates
    and clipping. Trainer keeps its defaults otherwise; what has no part in training is off (its progress bar, saving),
    and its batches are ready-made.

    Parameters
    ----------
    cases : sequence of PretrainingCase
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict
        What `companion bench pretrain --json` prints: `name`, `kind` and `entries`, one for each case: its `config`,
        `matrix_peak` (FLOP/s by precision), `variants`, `comparisons` and `provenance`.

    Raises
    ------
    ModuleNotFoundError
        If Transformers is not installed.
    ValueError
        If there are several GPUs, all of which Trainer would take.
    """
    check_surroundings(cases[0].device)
    # Each case has several precisions, and threads of its own.
    hardware = {"device": device_name(cases[0].device), "processor": device_name("cpu")}
    source = provenance(_command(cases), hardware, packages=("torch", "accelerate", "transformers"))
    entries = [compare_pretraining(case, progress) | {"provenance": source} for case in cases]
    return {"name": "pretraining-speed", "kind": "speed", "entries": entries}


def compare_pretraining(case: PretrainingCase, progress: bool = True) -> dict[str, Any]:
    """Measure one case; return its part of the record (see `benchmark_pretraining`)."""
    device, clock = best_device(case.device), CLOCKS[case.clock]
    with TemporaryDirectory() as name, limited_threads(case.threads):
        folder = Path(name)
        seed_everything(case.seed)
        BertForPreTraining(case.config).save_pretrained(folder)
        precisions = dict.fromkeys(v.precision for v in case.contenders)
        matrix_peak = {precision: measure_matrix_peak(device, precision, clock) for precision in precisions}
        makers = {v: partial(PretrainingSteps, case, v, folder) for v in case.contenders}
        options: dict[str, Any] = {"threads": case.threads, "clock": case.clock, "device": case.device}
        found = in_turns(makers, WARM_UP + case.steps, progress=progress, **options)
        threads = torch.get_num_threads()
    timed = {v: one.seconds[WARM_UP:] for v, one in found.items()}
    peaks = {v: one.peak_memory for v, one in found.items()}
    work = _Work.of(case.config, random_batches(case)[WARM_UP : WARM_UP + case.steps])
    return {
        "config": dataclasses.asdict(case) | {"threads": threads},
        "tokens_per_step": work.mean_tokens,
        "flops_per_token": work.flops_per_token,
        "matrix_peak": matrix_peak,
        "variants": [_figures(v, timed[v], work, matrix_peak, peaks[v], found[v].result) for v in case.contenders],
        "comparisons": comparisons(timed, peaks),
    }


def measure_matrix_peak(
    device: torch.device, precision: str, clock: Callable[[], float] = time.perf_counter, repeats: int = 8
) -> float:
    """Return the FLOP/s that `device` reaches in the product of two large square matrices: the best of `repeats`."""
    size = 2048 if device.type == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device, dtype=DTYPES[precision]) for _ in range(2))
    product = torch.empty_like(left)
    seconds = [seconds_of(lambda: torch.mm(left, right, out=product), clock, device) for _ in range(repeats)]
    return 2 * size**3 / min(seconds)


@dataclass(frozen=True)
class _Work:
    """Tokens and FLOPs of every timed step."""

    tokens: list[int]
    flops: list[int]

    @classmethod
    def of(cls, config: BertConfig, batches: Sequence[Batch]) -> _Work:
        return cls([int(tokens_per_row(batch).sum()) for batch in batches], [model_flops(config, b) for b in batches])

    @property
    def mean_tokens(self) -> float:
        return statistics.fmean(self.tokens)

    @property
    def flops_per_token(self) -> float:
        return sum(self.flops) / sum(self.tokens)


def _figures(
    contender: Contender,
    seconds: Sequence[float],
    work: _Work,
    matrix_peak: Mapping[str, float],
    memory: int | None,
    loss: float,
) -> dict[str, Any]:
    flops = statistics.median(f / s for f, s in zip(work.flops, seconds, strict=True))
    return {
        "name": contender.name,
        "library": contender.library,
        "precision": contender.precision,
        "tokens_per_second": statistics.median(t / s for t, s in zip(work.tokens, seconds, strict=True)),
        "milliseconds_per_step": 1000 * statistics.median(seconds),
        "share_of_matrix_peak": flops / matrix_peak[contender.precision],
        "peak_memory_bytes": memory,
        "mean_loss": loss,
        "seconds": [round(s, 6) for s in seconds],
    }


def comparisons(
    seconds: Mapping[Contender, Sequence[float]], memory: Mapping[Contender, int | None]
) -> list[dict[str, Any]]:
    """Compare every contender of this package with every other.

    Returns
    -------
    list of dict
        `ours`, `theirs`: names. `speed`: the median over the rounds of the other's seconds divided by this package's;
        `speed_quartiles`: their first and third quartile. `memory`: this package's peak divided by the other's, or
        None.
    """
    rows = []
    for ours in (v for v in seconds if v.library == "companion"):
        for theirs in (v for v in seconds if v.library != "companion"):
            peaks = memory[ours], memory[theirs]
            ratios = [slow / fast for slow, fast in zip(seconds[theirs], seconds[ours], strict=True)]
            rows.append(
                {
                    "ours": ours.name,
                    "theirs": theirs.name,
                    "speed": statistics.median(ratios),
                    "speed_quartiles": np.quantile(ratios, (0.25, 0.75)).tolist(),
                    "memory": peaks[0] / peaks[1] if peaks[0] and peaks[1] else None,
                }
            )
    return rows


def pretraining_table(record: Mapping[str, Any]) -> str:
    """Set the record of `benchmark_pretraining` as text."""
    return "\n\n".join(_case_table(case) for case in record["entries"])


def _case_table(case: Mapping[str, Any]) -> str:
    config = case["config"]
    peaks = ", ".join(f"{name} {flops / 1e9:,.0f}" for name, flops in case["matrix_peak"].items())
    size = f"vocabulary {config['vocab_size']:,}, rows of a batch {config['batch_size']} x {config['max_tokens']}"
    timing = f"{config['clock']} clock, {config['threads']} thread(s), medians of {config['steps']} rounds"
    lines = [
        f"{config['model']}, {size}, dropout {config['dropout']}; {timing}",
        f"{case['tokens_per_step']:,.0f} tokens a step, {case['flops_per_token'] / 1e6:,.1f} MFLOP a token; "
        f"matrix products reach, in GFLOP/s: {peaks}",
        f"{'':<32}{'tokens/s':>10}{'ms a step':>11}{'of the peak':>13}{'memory, MB':>12}{'mean loss':>11}",
        *map(_contender_line, case["variants"]),
        *comparison_lines(case["comparisons"]),
    ]
    return "\n".join(lines)


def _contender_line(row: Mapping[str, Any]) -> str:
    memory = "-" if row["peak_memory_bytes"] is None else f"{row['peak_memory_bytes'] / 1e6:,.0f}"
    return (
        f"{row['name']:<32}{row['tokens_per_second']:>10,.0f}{row['milliseconds_per_step']:>11.1f}"
        f"{row['share_of_matrix_peak']:>13.1%}{memory:>12}{row['mean_loss']:>11.4f}"
    )


def comparison_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Set what `comparisons` returned as lines of text under a heading."""
    return [f"{'':<40}{'speed':>10}{'quartiles':>16}{'memory':>10}", *map(_comparison_line, rows)]


def _comparison_line(row: Mapping[str, Any]) -> str:
    low, high = row["speed_quartiles"]
    memory = "-" if row["memory"] is None else f"{row['memory']:.2f}"
    return f"{row['ours'] + ' : ' + row['theirs']:<40}{row['speed']:>9.2f}x{f'{low:.2f} to {high:.2f}':>16}{memory:>10}"


def _command(cases: Sequence[PretrainingCase]) -> str:
    """Return the command line that measures these cases, which differ in their vocabulary only."""
    first, default = cases[0], PretrainingCase(threads=1)
    parts = ["companion", "bench", "pretrain", *(f"--vocab-size={case.vocab_size}" for case in cases)]
    for name in ("model", "batch_size", "max_tokens", "steps", "dropout", "learning_rate", "device", "clock", "seed"):
        if getattr(first, name) != getattr(default, name):
            parts.append(f"--{name.replace('_', '-')}={getattr(first, name)}")
    parts += [f"--threads={first.threads}"] if first.threads else []
    parts += [f"--precision={name}" for name in first.precisions if first.precisions != default.precisions]
    return shlex.join(parts + ([] if first.trainer_bf16 else ["--no-trainer-bf16"]))


def check_surroundings(device: str | None) -> None:
    """Raise an error unless Transformers is installed and Trainer would take one GPU at most."""
    if importlib.util.find_spec("transformers") is None:
        raise ModuleNotFoundError(
            "transformers, which is compared with, is not installed; run: pip install 'bert-companion[bench]'"
        )
    gpus = torch.cuda.device_count() if best_device(device).type == "cuda" else 0
    if gpus > 1:
        raise ValueError(f"Trainer would take all {gpus} GPUs; set CUDA_VISIBLE_DEVICES to the one to measure on")
