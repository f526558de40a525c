"""Pre-train a BERT from text: vocabulary, corpus, model, training, validation and the record of it all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from companion.config import BertConfig
from companion.model.embeddings import continued_positions
from companion.model.heads import BertForPreTraining
from companion.pretraining.batches import (
    PhaseBatches,
    TrainingBatches,
    batch_settings,
    training_batches,
    validation_batches,
)
from companion.pretraining.card import model_card
from companion.pretraining.config import PretrainingConfig
from companion.pretraining.objectives import PreTrainingObjective
from companion.pretraining.record import RECORD, run_provenance, run_record
from companion.pretraining.streaming import StreamedBatches
from companion.pretraining.vocabulary import check_text, copied_text, learn_or_load_tokenizer, tokenizer_origin
from companion.support.devices import (
    best_device,
    generators_kept,
    is_main_process,
    process_count,
    seed_everything,
)
from companion.support.files import atomic_file, write_json
from companion.support.locate import CHECKPOINT, locate
from companion.text.tokenizer import Tokenizer
from companion.training.checkpoint import check_folder, has_checkpoint
from companion.training.inference import evaluate
from companion.training.isolation import tracker_names
from companion.training.loop import History, train

logger = logging.getLogger(__name__)


@dataclass
class PretrainingResult:
    """What `pretrain` returns: the model on the training device, its tokenizer, the log and the run record."""

    model: BertForPreTraining
    tokenizer: Tokenizer
    history: History
    record: dict[str, Any]


def pretrain(
    config: PretrainingConfig, *, resume: bool = False, progress: bool = True, trackers: str | Sequence[str] = ()
) -> PretrainingResult:
    """Pre-train BERT (Devlin et al. 2019, section 3.1).

    Parameters
    ----------
    config : PretrainingConfig
    resume : bool
        Go on from the checkpoint in `config.folder`; the result equals that of a run never interrupted.
    progress : bool
        Show progress bars.
    trackers : str or sequence of str
        As in `companion.training.loop.train`.

    Returns
    -------
    PretrainingResult
        `record` is empty if the run was stopped before its last step.
    """
    folder, held_out = Path(config.folder), None
    check_run(config, resume)
    tracker_names(trackers, folder)
    origin = tokenizer_origin(config)
    with _main_process_first(config), copied_text(config, origin, progress) as copy:
        tokenizer = learn_or_load_tokenizer(config, progress, copy, origin)
        batches = training_batches(config, tokenizer, progress, copy)
        if config.validation is not None:
            held_out = validation_batches(config, tokenizer, progress)
    if isinstance(batches, TrainingBatches) and is_main_process():
        check_text(batches.corpus, tokenizer, config)
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
        provenance=run_provenance(config),
        validate=None if held_out is None else lambda m: validated(m, held_out, objective, config),
        progress=progress,
        trackers=trackers,
    )
    result = PretrainingResult(model, tokenizer, history, {})
    if history.finished and is_main_process():
        save_model(result, config)
        result.record = run_record(config, batches, history, model.config)
        write_json(folder / RECORD, result.record)
        with atomic_file(folder / "model" / "README.md") as card:
            parameters = sum(weight.numel() for weight in model.parameters())
            card.write_text(model_card(result.record, parameters), encoding="utf-8")
    return result


def check_run(config: PretrainingConfig, resume: bool) -> None:
    """Check what can be checked before the text is read.

    Raises
    ------
    ValueError
        If the folder holds a checkpoint and `resume` is not asked for, or rows are longer than the model's positions.
    """
    best_device(config.training.device)
    check_folder(Path(config.folder), resume)
    if resume and not has_checkpoint(Path(config.folder)):
        logger.warning("%s holds no checkpoint; the run starts from the beginning", config.folder)
    positions = model_shape(config).max_position_embeddings
    for phase in config.phases:
        if phase.max_tokens > positions:
            raise ValueError(f"max_tokens={phase.max_tokens} is above the {positions} positions of the model; lower it")


def model_shape(config: PretrainingConfig, **changes: Any) -> BertConfig:
    """Return the configuration of the model: that of `initial`, the preset with `changes`, or the one that is given."""
    if config.initial is not None:
        return BertConfig.from_file(locate(config.initial, CHECKPOINT))
    return BertConfig.preset(config.model, **changes) if isinstance(config.model, str) else config.model


def initial_model(config: PretrainingConfig, tokenizer: Tokenizer) -> BertForPreTraining:
    """Return the model to be trained, with the dropout of pre-training: random weights, or those of `initial`."""
    dropout = {"hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": config.dropout}
    if config.initial is not None:
        model = BertForPreTraining.from_pretrained(config.initial, **dropout)
        if config.trained_positions is not None:
            table = model.bert.embeddings.positions.weight
            table.data = continued_positions(table.data, config.trained_positions)
    else:
        shape = model_shape(config, vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_id)
        model = BertForPreTraining(shape.replace(**dropout))
    if model.config.vocab_size < tokenizer.vocab_size:
        raise ValueError(
            f"the model's vocab_size={model.config.vocab_size} is below the tokenizer's {tokenizer.vocab_size}"
        )
    return model


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


def save_model(result: PretrainingResult, config: PretrainingConfig) -> None:
    """Write `model/` into the run's folder; the saved configuration has its own dropout again."""
    folder, model = Path(config.folder) / "model", result.model
    own, trained = model_shape(config), model.config
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    model.config = trained.replace(**{name: getattr(own, name) for name in names})
    model.save_pretrained(folder)
    model.config = trained
    result.tokenizer.save_pretrained(folder)


def _main_process_first(config: PretrainingConfig) -> AbstractContextManager:
    """Return the context in which, of several processes, the first works while the others wait for what it writes."""
    if process_count() == 1:
        return nullcontext()
    from accelerate import PartialState

    return PartialState(cpu=best_device(config.training.device).type == "cpu").main_process_first()
