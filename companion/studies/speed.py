"""Side by side with Transformers: how fast a step is, how near to what the machine can do, and in how much memory.

The training loops that are compared run in one process, one step of each in turn, so that whatever else the machine
does meets all of them alike; what is compared are medians over these rounds. Memory is measured apart, each loop in a
fresh process of its own, since a process keeps the peak of everything it ran.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import multiprocessing
import shlex
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from companion.config import PRESETS, BertConfig
from companion.model.heads import IGNORED, BertForPreTraining
from companion.pretraining.masking import mask_tokens
from companion.pretraining.objectives import PreTrainingObjective
from companion.studies.costs import training_flops
from companion.studies.interleave import CLOCKS, WARM_UP, Loop, limited_threads, seconds_of, step_in_turns
from companion.support.devices import DTYPES, best_device, device_name, peak_memory, precision_for, seed_everything
from companion.support.record import provenance
from companion.support.require import require
from companion.training.loop import train
from companion.training.objective import Batch
from companion.training.settings import TrainingSettings

MEMORY_STEPS = 4  # the peak is reached in the second, which holds the optimiser's state beside the activations
PAD_ID, CLS_ID, SEP_ID, MASK_ID, FIRST_ORDINARY = 0, 2, 3, 4, 5  # ids as in this package's vocabularies; 1 is [UNK]
SHORT_ROWS = 0.1  # share of rows that are not full, as in the published code's data


@dataclass(frozen=True)
class Variant:
    """One of the loops that are compared: a library (`"companion"` or `"Trainer"`) in a precision."""

    library: str
    precision: str

    @property
    def name(self) -> str:
        """Both in one word pair, such as `"Trainer fp32"`."""
        return f"{self.library} {self.precision}"


@dataclass(frozen=True)
class PretrainingCase:
    """What is pre-trained in a comparison, and how it is timed.

    Parameters
    ----------
    model : str
        A preset of `BertConfig`.
    vocab_size, batch_size, max_tokens : int
        Size of the vocabulary, rows of a batch, tokens of a row.
    steps : int
        Steps of each loop that are timed, after a few that are not.
    dropout, learning_rate : float
    precisions : tuple of str
        This package's, as in `companion.support.devices.precision_for`.
    trainer_bf16 : bool
        Compare with Trainer under `bf16=True` too, beside its default, fp32.
    device : str, optional
        As in `companion.support.devices.best_device`.
    threads : int, optional
        Of PyTorch on the CPU; None takes its default.
    clock : {"wall", "cpu"}
        `"cpu"` counts the processor time of the process: with one thread, that is a step's time on a machine with
        nothing else to do, whatever else it is doing.
    seed : int
        Of weights and data.

    Raises
    ------
    ValueError
        If a value is out of range; the message names it.
    """

    model: str = "mini"
    vocab_size: int = 8192
    batch_size: int = 32
    max_tokens: int = 128
    steps: int = 20
    dropout: float = 0.1
    learning_rate: float = 5e-5
    precisions: tuple[str, ...] = ("auto", "fp32")
    trainer_bf16: bool = True
    device: str | None = None
    threads: int | None = None
    clock: str = "wall"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "precisions", tuple(self.precisions))
        self._require("model", self.model in PRESETS, f"one of {', '.join(PRESETS)}")
        self._require("vocab_size", self.vocab_size > FIRST_ORDINARY, f"above the {FIRST_ORDINARY} special tokens")
        self._require("batch_size", self.batch_size > 0, "an integer above 0")
        self._require("max_tokens", 8 <= self.max_tokens <= 512, "an integer from 8 to BERT's 512 positions")
        self._require("steps", self.steps > 0, "an integer above 0")
        self._require("dropout", 0 <= self.dropout < 1, "a probability in [0, 1)")
        self._require("learning_rate", self.learning_rate > 0, "a number above 0")
        self._require("precisions", bool(self.precisions), "one precision or more")
        self._require("threads", self.threads is None or self.threads > 0, "None or an integer above 0")
        self._require("clock", self.clock in CLOCKS, f"one of {', '.join(CLOCKS)}")
        if self.clock == "cpu" and (self.threads or torch.get_num_threads()) > 1:
            raise ValueError("clock='cpu' adds up the time of all threads; pass threads=1, or clock='wall'")
        if self.clock == "cpu" and best_device(self.device).type != "cpu":
            raise ValueError(f"clock='cpu' does not see {best_device(self.device)}; pass clock='wall', or device='cpu'")

    def _require(self, name: str, condition: bool, allowed: str) -> None:
        require(name, getattr(self, name), condition, allowed)

    @property
    def config(self) -> BertConfig:
        """The model's configuration; with the same one, both libraries build the same network."""
        dropout = {"hidden_dropout_prob": self.dropout, "attention_probs_dropout_prob": self.dropout}
        return BertConfig.preset(self.model, vocab_size=self.vocab_size, pad_token_id=PAD_ID, **dropout)

    @property
    def variants(self) -> list[Variant]:
        """The loops to compare, this package's first; `"auto"` and the precision it stands for count once."""
        ours = dict.fromkeys(precision_for(self.device, name) for name in self.precisions)
        theirs = ["fp32", "bf16"] if self.trainer_bf16 else ["fp32"]
        return [Variant("companion", name) for name in ours] + [Variant("Trainer", name) for name in theirs]


def benchmark_pretraining(cases: Sequence[PretrainingCase], *, memory: bool = True, progress: bool = True) -> dict:
    """Compare pre-training with `transformers.Trainer` and return the record of it.

    Both train the same network from the same weights on the same masked batches, with the same AdamW, learning rates
    and clipping. Trainer keeps its defaults otherwise; what has no part in training is off (its progress bar, saving),
    and its batches are ready-made.

    Parameters
    ----------
    cases : sequence of PretrainingCase
    memory : bool
        Measure peak memory too, each variant in a process of its own.
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
    _check_surroundings(cases)
    source = provenance(_command(cases), device=cases[0].device, packages=("torch", "accelerate", "transformers"))
    del source["hardware"]["precision"], source["hardware"]["threads"]  # each case has several, and its own
    source["hardware"]["processor"] = device_name("cpu")
    entries = [compare_pretraining(case, memory, progress) | {"provenance": source} for case in cases]
    return {"name": "pretraining-speed", "kind": "speed", "entries": entries}


def compare_pretraining(case: PretrainingCase, memory: bool = True, progress: bool = True) -> dict[str, Any]:
    """Measure one case; return its part of the record (see `benchmark_pretraining`)."""
    device, clock = best_device(case.device), CLOCKS[case.clock]
    batches = random_batches(case)
    with TemporaryDirectory() as name, limited_threads(case.threads):
        folder = Path(name)
        seed_everything(case.seed)
        BertForPreTraining(case.config).save_pretrained(folder)
        # Before anything large is in this process: one that is forked from it could begin with its size.
        peaks = {v: peak_memory_alone(case, v, folder) if memory else None for v in case.variants}
        precisions = dict.fromkeys(v.precision for v in case.variants)
        matrix_peak = {precision: measure_matrix_peak(device, precision, clock) for precision in precisions}
        loops = {v: training_loop(case, v, folder, batches) for v in case.variants}
        seconds, losses = step_in_turns(loops, WARM_UP + case.steps, clock, device, progress)
        threads = torch.get_num_threads()
    timed = {v: taken[WARM_UP:] for v, taken in seconds.items()}
    work = _Work.of(case.config, batches[WARM_UP : WARM_UP + case.steps])
    return {
        "config": dataclasses.asdict(case) | {"threads": threads},
        "tokens_per_step": work.mean_tokens,
        "flops_per_token": work.flops_per_token,
        "matrix_peak": matrix_peak,
        "variants": [_figures(v, timed[v], work, matrix_peak, peaks[v], losses[v]) for v in case.variants],
        "comparisons": comparisons(timed, peaks),
    }


def training_loop(case: PretrainingCase, variant: Variant, folder: Path, batches: Sequence[Batch]) -> Loop:
    """Return the loop of `variant`: one step for each of `batches` but the last, from the weights in `folder`."""
    loop = {"companion": _companion_loop, "Trainer": _trainer_loop}[variant.library]
    return lambda halt: loop(case, variant.precision, folder, batches, halt)


def _companion_loop(
    case: PretrainingCase, precision: str, folder: Path, batches: Sequence[Batch], halt: Callable[[], None]
) -> float:
    settings = TrainingSettings(
        steps=len(batches) - 1,
        learning_rate=case.learning_rate,
        warmup_share=0.0,  # this and what follows: Trainer's defaults
        schedule="linear",
        weight_decay=0.0,
        betas=(0.9, 0.999),
        eps=1e-8,
        max_grad_norm=1.0,
        precision=precision,
        device=case.device,
        seed=case.seed,
        log_every=1,
    )
    model = BertForPreTraining.from_pretrained(folder)
    history = train(model, _HaltingBatches(batches, halt), PreTrainingObjective(), settings, progress=False)
    return statistics.fmean(history.column("loss")[1])


class _HaltingBatches(Dataset):
    """Batches whose look-up, with which a step of this package begins, ends the step before."""

    def __init__(self, batches: Sequence[Batch], halt: Callable[[], None]) -> None:
        self.batches, self.halt = batches, halt

    def __getitem__(self, number: int) -> Batch:
        if number > 0:
            self.halt()
        return self.batches[number]


def _trainer_loop(
    case: PretrainingCase, precision: str, folder: Path, batches: Sequence[Batch], halt: Callable[[], None]
) -> float:
    import transformers

    class Halting(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            halt()

    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "trainer"),
        max_steps=len(batches) - 1,  # it looks up one batch more than it uses
        learning_rate=case.learning_rate,
        bf16=precision == "bf16",
        use_cpu=best_device(case.device).type == "cpu",
        seed=case.seed,
        per_device_train_batch_size=1,  # an example is a whole batch, ready-made
        train_sampling_strategy="sequential",
        save_strategy="no",
        disable_tqdm=True,
    )
    with _quiet_transformers():
        model = transformers.BertForPreTraining.from_pretrained(folder)
        trainer = transformers.Trainer(
            model, arguments, data_collator=_only, train_dataset=list(batches), callbacks=[Halting]
        )
        trainer.remove_callback(transformers.PrinterCallback)
        return trainer.train().training_loss


def _only(examples: Sequence[Batch]) -> Batch:
    (batch,) = examples
    return batch


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def random_batches(case: PretrainingCase) -> list[Batch]:
    """Return the batches of a case, one more than its steps: pairs of random tokens, masked as in pre-training.

    Random tokens, since no speed depends on what they mean and no machine has to have a certain text; rows are as long
    as in real pre-training data, nine in ten full and the others of any length, padded.

    Returns
    -------
    list of dict
        `input_ids`, `token_type_ids`, `attention_mask` (left out where nothing is padded) and `labels`, int64 tensors
        of (batch, tokens), and `next_sentence_label`, (batch,).
    """
    rng = np.random.default_rng(case.seed)
    return [_random_batch(case, rng) for _ in range(WARM_UP + case.steps + 2)]


def _random_batch(case: PretrainingCase, rng: np.random.Generator) -> Batch:
    rows, tokens = case.batch_size, case.max_tokens
    short = rng.random(rows) < SHORT_ROWS
    lengths = np.where(short, rng.integers(5, tokens, rows), tokens)[:, None]  # of [CLS] a [SEP] b [SEP] at least
    middle = rng.integers(2, lengths - 2)  # the first [SEP]
    places = np.arange(tokens)[None, :]
    ids = rng.integers(FIRST_ORDINARY, case.vocab_size, (rows, tokens))
    ids[:, 0] = CLS_ID
    ids[(places == middle) | (places == lengths - 1)] = SEP_ID
    ids[places >= lengths] = PAD_ID
    special = range(FIRST_ORDINARY)
    input_ids, labels = mask_tokens(ids, vocab_size=case.vocab_size, mask_id=MASK_ID, special_ids=special, rng=rng)
    batch = {
        "input_ids": input_ids,
        "token_type_ids": ((places > middle) & (places < lengths)).astype(np.int64),
        "labels": labels,
        "next_sentence_label": rng.integers(0, 2, rows),
    }
    if short.any():
        batch["attention_mask"] = (places < lengths).astype(np.int64)
    return {name: torch.from_numpy(values) for name, values in batch.items()}


def tokens_per_row(batch: Batch) -> torch.Tensor:
    """Return the number of tokens in each row, padding not counted, (batch,)."""
    mask = batch.get("attention_mask")
    return torch.full((len(batch["input_ids"]),), batch["input_ids"].shape[1]) if mask is None else mask.sum(1)


def model_flops(config: BertConfig, batch: Batch) -> int:
    """Return the floating-point operations that a training step on `batch` needs, whoever takes it.

    Padding is not needed and not counted, nor is the language-model head where nothing is masked; see
    `companion.studies.costs.forward_flops`.
    """
    masked = int((batch["labels"] != IGNORED).sum())
    return training_flops(config, tokens_per_row(batch).tolist(), masked)


def measure_matrix_peak(
    device: torch.device, precision: str, clock: Callable[[], float] = time.perf_counter, repeats: int = 8
) -> float:
    """Return the FLOP/s that `device` reaches in the product of two large square matrices: the best of `repeats`."""
    size = 2048 if device.type == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device, dtype=DTYPES[precision]) for _ in range(2))
    product = torch.empty_like(left)
    seconds = [seconds_of(lambda: torch.mm(left, right, out=product), clock, device) for _ in range(repeats)]
    return 2 * size**3 / min(seconds)


def peak_memory_alone(case: PretrainingCase, variant: Variant, folder: Path) -> int:
    """Return the peak memory of a few steps of `variant`, in bytes, in a fresh process that does nothing else.

    On a CPU it is the whole process's: Python and the libraries count. On CUDA it is what PyTorch allocated there.
    """
    short = dataclasses.replace(case, steps=MEMORY_STEPS)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_memory_here, short, variant, folder).result()


def _peak_memory_here(case: PretrainingCase, variant: Variant, folder: Path) -> int:
    with limited_threads(case.threads):
        training_loop(case, variant, folder, random_batches(case)[: case.steps + 1])(lambda: None)
    return peak_memory(case.device)


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
    variant: Variant,
    seconds: Sequence[float],
    work: _Work,
    matrix_peak: Mapping[str, float],
    memory: int | None,
    loss: float,
) -> dict[str, Any]:
    flops = statistics.median(f / s for f, s in zip(work.flops, seconds, strict=True))
    return {
        "name": variant.name,
        "library": variant.library,
        "precision": variant.precision,
        "tokens_per_second": statistics.median(t / s for t, s in zip(work.tokens, seconds, strict=True)),
        "milliseconds_per_step": 1000 * statistics.median(seconds),
        "share_of_matrix_peak": flops / matrix_peak[variant.precision],
        "peak_memory_bytes": memory,
        "mean_loss": loss,
        "seconds": [round(s, 6) for s in seconds],
    }


def comparisons(
    seconds: Mapping[Variant, Sequence[float]], memory: Mapping[Variant, int | None]
) -> list[dict[str, Any]]:
    """Compare every variant of this package with every one of Trainer's.

    Returns
    -------
    list of dict
        `ours`, `theirs`: names. `speed`: the median over the rounds of Trainer's seconds divided by this package's;
        `speed_quartiles`: their first and third quartile. `memory`: this package's peak divided by Trainer's, or None.
    """
    rows = []
    for ours in (v for v in seconds if v.library == "companion"):
        for theirs in (v for v in seconds if v.library == "Trainer"):
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
        *map(_variant_line, case["variants"]),
        f"{'':<32}{'speed':>10}{'quartiles':>16}{'memory':>10}",
        *map(_comparison_line, case["comparisons"]),
    ]
    return "\n".join(lines)


def _variant_line(row: Mapping[str, Any]) -> str:
    memory = "-" if row["peak_memory_bytes"] is None else f"{row['peak_memory_bytes'] / 1e6:,.0f}"
    return (
        f"{row['name']:<32}{row['tokens_per_second']:>10,.0f}{row['milliseconds_per_step']:>11.1f}"
        f"{row['share_of_matrix_peak']:>13.1%}{memory:>12}{row['mean_loss']:>11.4f}"
    )


def _comparison_line(row: Mapping[str, Any]) -> str:
    low, high = row["speed_quartiles"]
    memory = "-" if row["memory"] is None else f"{row['memory']:.2f}"
    return f"{row['ours'] + ' : ' + row['theirs']:<32}{row['speed']:>9.2f}x{f'{low:.2f} to {high:.2f}':>16}{memory:>10}"


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


def _check_surroundings(cases: Sequence[PretrainingCase]) -> None:
    if importlib.util.find_spec("transformers") is None:
        raise ModuleNotFoundError(
            "transformers, which is compared with, is not installed; run: pip install 'bert-companion[bench]'"
        )
    gpus = torch.cuda.device_count() if best_device(cases[0].device).type == "cuda" else 0
    if gpus > 1:
        raise ValueError(f"Trainer would take all {gpus} GPUs; set CUDA_VISIBLE_DEVICES to the one to measure on")
