"""Pre-train a BERT from text: vocabulary, corpus, model, training, validation and the record of it all."""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from companion.config import PRESETS, BertConfig
from companion.devices import (
    autocast,
    best_device,
    device_name,
    peak_memory,
    precision_for,
    process_count,
    seed_everything,
)
from companion.files import write_json
from companion.heads import BertForPreTraining
from companion.pretraining.corpus import Corpus, Source, prepare_corpus, read_paragraphs
from companion.pretraining.masking import MaskedBatches, continuation_pieces
from companion.pretraining.objectives import PreTrainingObjective
from companion.pretraining.segments import PairBatches
from companion.pretraining.streaming import StreamedBatches, WindowReader
from companion.tokenizer import Tokenizer
from companion.training import Batch, History, TrainingSettings, train

logger = logging.getLogger(__name__)

# One fixed choice of pairs and masks, at the published rate, so that figures of different runs compare.
VALIDATION_SEED, VALIDATION_MASKING = 20181011, 0.15
TRAIN, VALIDATION = "corpus-train", "corpus-validation"


@dataclass(frozen=True)
class Phase:
    """The first steps of a run, on rows of another shape than the rest of it.

    BERT itself was pre-trained on rows of 128 tokens for nine tenths of its steps (Devlin et al. 2019, appendix A.2).

    Parameters
    ----------
    steps : int
    batch_size, max_tokens : int
        Rows of a batch, and tokens of a row.
    masking_probability : float
    next_sentence : bool
        Whether the rows are pairs of segments, with next-sentence prediction.

    Raises
    ------
    ValueError
        If a value is out of range; the message names it.
    """

    steps: int
    batch_size: int = 32
    max_tokens: int = 128
    masking_probability: float = 0.15
    next_sentence: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is not allowed; it must be an integer above 0")
        if not 0 < self.masking_probability < 1:
            raise ValueError(f"masking_probability={self.masking_probability} is not allowed; it must be in (0, 1)")


@dataclass(frozen=True)
class PretrainingConfig:
    """What to pre-train, on what and how.

    Parameters
    ----------
    source : str, Path or sequence of them
        The text, as in `companion.pretraining.corpus.read_paragraphs`: files, folders, patterns, `"python-docs"`, ...
    folder : str or Path
        Everything the run writes: `tokenizer/`, `corpus-*/`, `checkpoint/`, `log.jsonl`, and at the end `model/` (opens
        with `from_pretrained`) and `record.json`.
    training : TrainingSettings
        Steps, learning rate, schedule, precision, seed ...
    model : str or BertConfig
        A preset (`"mini"`), whose `vocab_size` is then the tokenizer's, or a whole configuration.
    initial : str or Path, optional
        A checkpoint to go on from, with its shape and, unless another is named, its tokenizer: to pre-train further, or
        on text of another field.
    tokenizer : str or Path, optional
        A bundled name, folder or hub id. None learns a vocabulary of `vocab_size` from the source.
    vocab_size, limit_alphabet : int
        Size of a learned vocabulary, and how many different characters it keeps (rarer ones become `[UNK]`).
    validation : Source, optional
        Held-out text.
    validation_batches : int
        How much of it to measure on.
    limit : int, optional
        Read at most this many bytes of text.
    stream : float, optional
        Megabytes of text to hold at a time, for text larger than the disk: see
        `companion.pretraining.streaming.StreamedBatches`. A vocabulary is then learned from the first of these windows.
        None prepares the whole text once.
    batch_size, max_tokens : int
        Rows of a batch, and tokens of a row.
    next_sentence : bool
        Train next-sentence prediction, on pairs; otherwise masked language modelling alone, on single segments.
    masking_probability : float
    earlier : sequence of Phase
        What the first steps run on instead: a schedule of row length, batch size and masking rate. Short rows
        first can shorten the start, since attention has fewer places to choose from while it learns where to look.
    whole_words : bool
        Mask all pieces of a word together.
    dropout : float
        In pre-training; the saved configuration keeps that of the preset. 0 is best where text is seen few times
        (Geiping and Goldstein 2023, section 4.2).

    Raises
    ------
    ValueError
        If a value is out of range; the message names it.
    """

    source: Source
    folder: str | Path
    training: TrainingSettings
    model: str | BertConfig = "mini"
    initial: str | Path | None = None
    tokenizer: str | Path | None = None
    vocab_size: int = 8192
    limit_alphabet: int = 200
    validation: Source | None = None
    validation_batches: int = 50
    limit: int | None = None
    stream: float | None = None
    batch_size: int = 32
    max_tokens: int = 128
    next_sentence: bool = True
    masking_probability: float = 0.15
    whole_words: bool = False
    dropout: float = 0.1
    earlier: Sequence[Phase] = ()

    def __post_init__(self) -> None:
        if isinstance(self.model, str) and self.model not in PRESETS:
            raise ValueError(
                f"model={self.model!r} is unknown; choose one of {', '.join(PRESETS)}, or pass a BertConfig"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} is not allowed; it must be a probability in [0, 1)")
        if self.validation_batches < 1:
            raise ValueError(f"validation_batches={self.validation_batches} is not allowed; it must be above 0")
        self.phases  # noqa: B018  checked here, where they are given
        if self.stream is not None:
            self._check_stream()

    @property
    def phases(self) -> list[Phase]:
        """The earlier phases and the main one, which takes the steps that are left."""
        left = self.training.steps - sum(phase.steps for phase in self.earlier)
        if left < 1:
            raise ValueError(
                f"earlier={list(self.earlier)} takes all of steps={self.training.steps}; at least one must be left"
            )
        main = Phase(left, self.batch_size, self.max_tokens, self.masking_probability, self.next_sentence)
        return [*self.earlier, main]

    def _check_stream(self) -> None:
        if not self.stream > 0:
            raise ValueError(f"stream={self.stream} is not allowed; it must be a number of megabytes above 0, or None")
        if self.earlier:
            raise ValueError(
                f"stream={self.stream} has one shape of rows; leave out earlier, or make it a run of its own whose "
                "model the next takes as initial"
            )
        if self.training.workers:
            raise ValueError(
                f"workers={self.training.workers} would each read the whole text with stream={self.stream}; set "
                "workers=0"
            )


@dataclass
class PretrainingResult:
    """What `pretrain` returns: the model on the training device, its tokenizer, the log and the run record."""

    model: BertForPreTraining
    tokenizer: Tokenizer
    history: History
    record: dict[str, Any] = field(default_factory=dict)


def pretrain(
    config: PretrainingConfig, *, resume: bool = False, progress: bool = True, trackers: Sequence[str] = ()
) -> PretrainingResult:
    """Pre-train BERT (Devlin et al. 2019, section 3.1).

    Parameters
    ----------
    config : PretrainingConfig
    resume : bool
        Go on from the checkpoint in `config.folder`; the result equals that of a run never interrupted.
    progress : bool
        Show progress bars.
    trackers : sequence of str
        As in `companion.training.train`.

    Returns
    -------
    PretrainingResult
        `record` is empty if the run was stopped before its last step.
    """
    from accelerate import PartialState

    folder, held_out = Path(config.folder), None
    with PartialState(cpu=best_device(config.training.device).type == "cpu").main_process_first():
        tokenizer = learn_or_load_tokenizer(config, progress)
        batches = training_batches(config, tokenizer, progress)
        if config.validation is not None:
            held_out = validation_batches(config, tokenizer, progress)
    seed_everything(config.training.seed)
    model = initial_model(config, tokenizer)
    objective = PreTrainingObjective()
    history = train(
        model,
        batches,
        objective,
        config.training,
        folder=folder,
        resume=resume,
        identity=run_identity(config, batches),
        validate=None if held_out is None else lambda m: evaluate(m, held_out, objective, config),
        progress=progress,
        trackers=trackers,
    )
    result = PretrainingResult(model, tokenizer, history)
    if history.finished and int(os.environ.get("RANK", "0")) == 0:
        result.record = run_record(config, batches, history)
        save_result(result, config)
    return result


def initial_model(config: PretrainingConfig, tokenizer: Tokenizer) -> BertForPreTraining:
    """Return the model to be trained, with the dropout of pre-training: random weights, or those of `initial`."""
    dropout = {"hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": config.dropout}
    if config.initial is not None:
        model = BertForPreTraining.from_pretrained(config.initial, **dropout)
    else:
        shape = config.model
        if isinstance(shape, str):
            shape = BertConfig.preset(shape, vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_id)
        model = BertForPreTraining(shape.replace(**dropout))
    if model.config.vocab_size < tokenizer.vocab_size:
        raise ValueError(
            f"the model's vocab_size={model.config.vocab_size} is below the tokenizer's {tokenizer.vocab_size}"
        )
    return model


def learn_or_load_tokenizer(config: PretrainingConfig, progress: bool = True) -> Tokenizer:
    """Return the tokenizer in the run's folder, else the one that is named, else a new one learned from the source.

    With `stream` it learns from the first window alone.
    """
    folder = Path(config.folder) / "tokenizer"
    if (folder / "vocab.txt").is_file():
        return Tokenizer.from_pretrained(folder)
    if (name := config.tokenizer or config.initial) is not None:
        tokenizer = Tokenizer.from_pretrained(name)
    else:
        if config.stream is None:
            paragraphs = read_paragraphs(config.source, config.limit)
        else:
            paragraphs = WindowReader(config.source, config.stream, config.limit).read_window()
        lines = (line for line in paragraphs if line)
        sizes = {"vocab_size": config.vocab_size, "limit_alphabet": config.limit_alphabet}
        tokenizer = Tokenizer.train(lines, progress=progress, **sizes)
    tokenizer.save_pretrained(folder)
    return tokenizer


class PhaseBatches(Dataset):
    """The masked batches of one phase as the training loop wants them: without a mask where nothing is padded."""

    def __init__(
        self, config: PretrainingConfig, phase: Phase, corpus: Corpus, tokenizer: Tokenizer, seed: int
    ) -> None:
        pairs = PairBatches(
            corpus,
            phase.batch_size,
            phase.max_tokens,
            seed,
            cls_id=tokenizer.cls_id,
            sep_id=tokenizer.sep_id,
            pad_id=tokenizer.pad_id,
            next_sentence=phase.next_sentence,
        )
        self.masked = MaskedBatches(
            pairs,
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            special_ids=tokenizer.special_ids,
            probability=phase.masking_probability,
            whole_words=config.whole_words,
            is_continuation=continuation_pieces(tokenizer.vocabulary),
        )

    @property
    def steps_per_epoch(self) -> int:
        return self.masked.steps_per_epoch

    def __getitem__(self, number: int) -> Batch:
        batch = self.masked[number]
        if batch["attention_mask"].all():
            del batch["attention_mask"]
        return {name: torch.from_numpy(values) for name, values in batch.items()}


class TrainingBatches(Dataset):
    """The batches of all phases, one after the other; each phase draws its rows with a seed of its own."""

    def __init__(self, config: PretrainingConfig, corpus: Corpus, tokenizer: Tokenizer) -> None:
        self.corpus = corpus
        per_step = batches_a_step(config)
        steps = [phase.steps for phase in config.phases]
        self.starts = [0, *(per_step * step for step in accumulate(steps[:-1]))]  # number of each phase's first
        self.phases = [
            PhaseBatches(config, phase, corpus, tokenizer, config.training.seed + index)
            for index, phase in enumerate(config.phases)
        ]

    def __getitem__(self, number: int) -> Batch:
        phase = bisect_right(self.starts, number) - 1
        return self.phases[phase][number - self.starts[phase]]

    @property
    def identity(self) -> dict[str, Any]:
        """What of the text a run that goes on must share."""
        return {name: self.corpus.meta[name] for name in ("source_checksum", "vocabulary_checksum", "limit")}

    def text_seen(self, batches: int) -> tuple[dict[str, int], float]:
        """Return what the text holds, and how often the first `batches` batches pass over it."""
        names = ("documents", "sentences", "tokens")
        ends = [*self.starts[1:], batches]
        stretches = zip(self.starts, ends, self.phases, strict=True)
        passes = sum((end - start) / rows.steps_per_epoch for start, end, rows in stretches)
        return {name: getattr(self.corpus, f"num_{name}") for name in names}, passes


def batches_a_step(config: PretrainingConfig) -> int:
    """Return how many batches all processes together take in a step."""
    return config.training.accumulation * process_count()


def training_batches(
    config: PretrainingConfig, tokenizer: Tokenizer, progress: bool = True
) -> TrainingBatches | StreamedBatches:
    """Prepare the source in the run's folder, or its windows as they are needed, and return the batches."""
    folder = Path(config.folder) / TRAIN
    if config.stream is not None:
        return StreamedBatches(
            config.source,
            tokenizer,
            folder,
            lambda corpus, seed: PhaseBatches(config, config.phases[-1], corpus, tokenizer, seed),
            megabytes=config.stream,
            limit=config.limit,
            seed=config.training.seed,
            settings=batch_settings(config),
            progress=progress,
        )
    corpus = prepare_corpus(config.source, tokenizer, folder, limit=config.limit, progress=progress)
    return TrainingBatches(config, corpus, tokenizer)


def validation_batches(config: PretrainingConfig, tokenizer: Tokenizer, progress: bool = True) -> PhaseBatches:
    """Prepare the held-out text, and return its batches, in the form of the main phase but with the published rate."""
    corpus = prepare_corpus(config.validation, tokenizer, Path(config.folder) / VALIDATION, progress=progress)
    phase = dataclasses.replace(config.phases[-1], masking_probability=VALIDATION_MASKING)
    return PhaseBatches(config, phase, corpus, tokenizer, VALIDATION_SEED)


@torch.no_grad()
def evaluate(
    model: BertForPreTraining, batches: PhaseBatches, objective: PreTrainingObjective, config: PretrainingConfig
) -> dict[str, float]:
    """Return losses (nats) and accuracies over the held-out batches, under the names `validation_...`."""
    device = next(model.parameters()).device
    totals: dict[str, float] = {}
    counts: dict[str, float] = {}
    with autocast(device, precision_for(device, config.training.precision)):
        for number in range(min(config.validation_batches, batches.steps_per_epoch)):
            batch = {name: value.to(device) for name, value in batches[number].items()}
            for name, count in objective.counts(batch).items():
                counts[name] = counts.get(name, 0) + int(count)
            losses, right = objective.sums(model, batch)
            for name, value in (losses | right).items():
                totals[name] = totals.get(name, 0.0) + float(value)
    return {f"validation_{name}": value / counts[name.partition("_")[0]] for name, value in totals.items()}


def run_identity(config: PretrainingConfig, batches: TrainingBatches | StreamedBatches) -> dict[str, Any]:
    """Return what a checkpoint must share with a run that goes on from it, beside the training settings."""
    return batch_settings(config) | batches.identity


def batch_settings(config: PretrainingConfig) -> dict[str, Any]:
    """Return what decides how batches are made of a text, and dropout."""
    names = ("batch_size", "max_tokens", "next_sentence", "masking_probability", "whole_words", "dropout")
    earlier = [dataclasses.asdict(phase) for phase in config.earlier]
    return {name: getattr(config, name) for name in names} | {"earlier": earlier}


def run_record(
    config: PretrainingConfig, batches: TrainingBatches | StreamedBatches, history: History
) -> dict[str, Any]:
    """Return everything that is needed to judge the run and to repeat it."""
    settings = dataclasses.asdict(config) | {"folder": Path(config.folder).name, "source": _names(config.source)}
    for name in ("initial", "tokenizer"):
        settings[name] = None if settings[name] is None else "/".join(Path(settings[name]).parts[-2:])
    settings["validation"] = None if config.validation is None else _names(config.validation)
    device = best_device(config.training.device)
    training, per_step = config.training, batches_a_step(config)
    positions = sum(per_step * phase.steps * phase.batch_size * phase.max_tokens for phase in config.phases)
    counts, passes = batches.text_seen(per_step * training.steps)
    return {
        "name": Path(config.folder).name,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "config": settings,
        "corpus": {name: batches.identity[name] for name in ("source_checksum", "vocabulary_checksum")} | counts,
        "steps": history.step,
        "positions_seen": positions,
        "passes_over_the_corpus": None if passes is None else round(passes, 3),
        "seconds": round(history.seconds),
        "hardware": {
            "device": device_name(device),
            "precision": precision_for(device, training.precision),
            "processes": process_count(),
            "threads": torch.get_num_threads(),
            "peak_memory_bytes": peak_memory(device),
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "final": next((row for row in reversed(history.records) if "validation_mlm" in row), history.records[-1]),
        "curve": history.records,
    }


def save_result(result: PretrainingResult, config: PretrainingConfig) -> None:
    """Write `model/` and `record.json` into the run's folder; the saved configuration has its own dropout again."""
    folder, model = Path(config.folder), result.model
    default = BertConfig() if isinstance(config.model, str) else config.model
    trained = model.config
    model.config = trained.replace(
        hidden_dropout_prob=default.hidden_dropout_prob,
        attention_probs_dropout_prob=default.attention_probs_dropout_prob,
    )
    model.save_pretrained(folder / "model")
    model.config = trained
    result.tokenizer.save_pretrained(folder / "model")
    write_json(folder / "record.json", result.record)


def _names(source: Source) -> list[str] | str:
    """Keep the file names of a source and leave out where they lay."""
    if isinstance(source, str | Path):
        return Path(source).name
    return [Path(part).name for part in source]
