"""Pre-train a BERT from text: vocabulary, corpus, model, training, validation and the record of it all."""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from companion.config import BertConfig
from companion.data.plain import Source, read_paragraphs
from companion.model.heads import BertForPreTraining
from companion.pretraining.batches import (
    PhaseBatches,
    TrainingBatches,
    batch_settings,
    batches_a_step,
    training_batches,
    validation_batches,
)
from companion.pretraining.config import PretrainingConfig
from companion.pretraining.objectives import PreTrainingObjective
from companion.pretraining.streaming import StreamedBatches, WindowReader
from companion.support.devices import (
    best_device,
    device_name,
    generators_kept,
    peak_memory,
    precision_for,
    process_count,
    seed_everything,
)
from companion.support.files import write_json
from companion.text.tokenizer import Tokenizer
from companion.training.inference import evaluate
from companion.training.loop import History, train

logger = logging.getLogger(__name__)


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
        As in `companion.training.loop.train`.

    Returns
    -------
    PretrainingResult
        `record` is empty if the run was stopped before its last step.
    """
    folder, held_out = Path(config.folder), None
    with _main_process_first(config):
        tokenizer = learn_or_load_tokenizer(config, progress)
        batches = training_batches(config, tokenizer, progress)
        if config.validation is not None:
            held_out = validation_batches(config, tokenizer, progress)
    with generators_kept():
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
        validate=None if held_out is None else lambda m: validated(m, held_out, objective, config),
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


def validated(
    model: BertForPreTraining, batches: PhaseBatches, objective: PreTrainingObjective, config: PretrainingConfig
) -> dict[str, float]:
    """Return losses (nats) and accuracies over the held-out batches, under the names `validation_...`."""
    count = min(config.validation_batches, batches.steps_per_epoch)
    held_out = (batches[number] for number in range(count))
    return evaluate(model, held_out, objective, precision=config.training.precision, prefix="validation_")


def run_identity(config: PretrainingConfig, batches: TrainingBatches | StreamedBatches) -> dict[str, Any]:
    """Return what a checkpoint must share with a run that goes on from it, beside the training settings."""
    return batch_settings(config) | batches.identity


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


def _main_process_first(config: PretrainingConfig) -> AbstractContextManager:
    """Return the context in which, of several processes, the first works while the others wait for what it writes."""
    if process_count() == 1:
        return nullcontext()
    from accelerate import PartialState

    return PartialState(cpu=best_device(config.training.device).type == "cpu").main_process_first()


def _names(source: Source) -> list[str] | str:
    """Keep the file names of a source and leave out where they lay."""
    if isinstance(source, str | Path):
        return Path(source).name
    return [Path(part).name for part in source]
