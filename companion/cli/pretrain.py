"""`companion pretrain`."""

from __future__ import annotations

import dataclasses
import inspect
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from companion.cli.shared import Device, Progress, app, errors
from companion.pretraining.config import PretrainingConfig
from companion.training.settings import TrainingSettings

# What the options set, and how each is described; `DEFAULTS` holds where the command differs from the classes.
OPTIONS = {
    "model": "Shape of the network: tiny, mini, small, medium, base or large.",
    "initial": "A checkpoint to go on from, with its shape and vocabulary.",
    "trained_positions": "How many positions of it were trained; those after them go on as they began.",
    "tokenizer": "A checkpoint whose vocabulary to use; without one it is learned from the text.",
    "vocab_size": "Size of a learned vocabulary.",
    "limit_alphabet": "Characters that a learned vocabulary keeps; Chinese needs thousands.",
    "lowercase": "Learn a vocabulary of lower-cased text.",
    "strip_accents": "Learn it of text without accents; by default as --lowercase.",
    "tokenize_chinese_chars": "Make every Chinese character a word of its own.",
    "validation": "Held-out text: a file, folder or pattern.",
    "validation_batches": "How many batches of it to measure on.",
    "limit": "Read at most this many bytes of text.",
    "stream": "Megabytes of text to hold at a time; for text larger than the disk.",
    "batch_size": "Rows per batch.",
    "max_tokens": "Tokens per row.",
    "masking_probability": "Share of the tokens that are masked.",
    "whole_words": "Mask all pieces of a word together.",
    "next_sentence": "Train next-sentence prediction too.",
    "dropout": "In pre-training; the saved model has the preset's.",
}
TRAINING = {
    "steps": "Optimiser steps in all.",
    "accumulation": "Batches per step on each device.",
    "learning_rate": "The highest learning rate, reached at the end of the warm-up.",
    "schedule": "How the learning rate falls: linear, cosine, trapezoid or constant.",
    "warmup_share": "Share of the steps over which the learning rate rises.",
    "decay_share": "Share of the steps over which it falls, with --schedule trapezoid.",
    "optimizer": "adamw, or muon for the matrices between hidden layers.",
    "weight_decay": "Pull of the weight matrices towards zero.",
    "max_grad_norm": "Scale gradients down to this norm.",
    "ema_decay": "Keep a moving average of the weights with this decay, such as 0.999.",
    "minutes": "Save and stop after this time; --resume goes on.",
    "save_every": "Steps between two checkpoints.",
    "validate_every": "Steps between two measurements on the held-out text.",
    "log_every": "Steps between two entries of the log.",
    "workers": "Processes that prepare batches.",
    "compile": "Run the model through torch.compile.",
    "precision": "auto, fp32, bf16 or fp16.",
    "seed": "The same seed gives the same numbers.",
}
DEFAULTS = {"steps": 10_000, "learning_rate": 8e-4, "warmup_share": 0.05, "betas": (0.9, 0.98)}
DEFAULTS |= {"precision": "auto", "save_every": 500, "validate_every": 1000}
SPELLED = {"masking_probability": "--masking"}  # a shorter name beside the option's own
FOLDER = "Folder of the run: vocabulary, prepared text, checkpoint, log, model and record."
SOURCE = (
    "Text files, folders or patterns, python-docs (the docstrings of the Python packages installed here), or "
    "hub:owner/name. A .toml file, or the record.json of a run, holds settings instead; options override it."
)


def pretrain(
    source: Annotated[list[str], typer.Argument(help=SOURCE)],
    output: Annotated[Path | None, typer.Option(help=FOLDER)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")] = False,
    tracker: Annotated[list[str] | None, typer.Option(help="tensorboard or wandb; once or more.")] = None,
    progress: Progress = True,
    device: Device = None,
    **options: Any,
) -> None:
    """Pre-train a BERT from text; --resume goes on with a run that was stopped."""
    with errors(_option_names()):
        from companion.pretraining.run import pretrain as run

        options |= {"folder": output, "device": device}
        given = {name: value for name, value in options.items() if value is not None}
        config = _config(source, given)
        result = run(config, resume=resume, progress=progress, trackers=tracker or ())
        print(_outcome(result.history, Path(config.folder)))


def _config(source: list[str], given: dict[str, Any]) -> PretrainingConfig:
    """Return the settings: of the command, then of a file that is named first, then of the options."""
    named = _read_settings(Path(source[0])) if source[0].endswith((".toml", ".json")) else {}
    texts = source[1:] if named else source
    fields = {field.name for field in dataclasses.fields(TrainingSettings)}
    training = {name: value for name, value in DEFAULTS.items() if name in fields}
    training |= named.pop("training", {}) | {name: value for name, value in given.items() if name in fields}
    entries = named | {name: value for name, value in given.items() if name not in fields} | {"training": training}
    if texts:
        entries["source"] = texts if len(texts) > 1 else texts[0]
    if "source" not in entries:
        raise ValueError(f"{source[0]} names no source; add one to it, or name the text after it")
    if "folder" not in entries:
        raise ValueError("--output is missing; name the folder of the run")
    return PretrainingConfig.from_dict(entries)


def _read_settings(path: Path) -> dict[str, Any]:
    """Return the entries of a TOML file of settings, or those that the record of a run holds."""
    try:
        text = path.read_text(encoding="utf-8")
        entries = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no settings of a pre-training run ({error})") from error
    return {name: value for name, value in entries.items() if value is not None}


def _outcome(history: Any, folder: Path) -> str:
    if not history.finished:
        return f"stopped at step {history.step}; the same command with --resume goes on"
    parts = [f"finished {history.step} steps"]
    for label, is_ours in (("validation", True), ("training (last step)", False)):
        if figures := _last_figures(history.records, is_ours):
            parts.append(f"{label}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    return "\n".join([*parts, f"model in {folder / 'model'}, record in {folder / 'record.json'}"])


def _last_figures(records: list[Mapping[str, float]], validation: bool) -> dict[str, float]:
    """Return the last losses and accuracies that were logged, of validation or of training."""
    last = {name: value for row in records for name, value in row.items() if "mlm" in name or "nsp" in name}
    prefix = "validation_"
    return {k.removeprefix(prefix): v for k, v in sorted(last.items()) if k.startswith(prefix) == validation}


def _option_names() -> dict[str, str]:
    """Return the option of the command by the name of the setting that messages use."""
    names = [*OPTIONS, *TRAINING, "resume", "device"]
    return {name: f"--{name.replace('_', '-')}" for name in names} | {"folder": "--output", "trackers": "--tracker"}


def _parameters() -> list[inspect.Parameter]:
    """Return one parameter of the command for each option that a dataclass has."""
    made = []
    for cls, descriptions in ((PretrainingConfig, OPTIONS), (TrainingSettings, TRAINING)):
        hints = get_type_hints(cls)
        defaults = {field.name: field.default for field in dataclasses.fields(cls)} | DEFAULTS
        made += [_parameter(name, hints[name], text, defaults[name]) for name, text in descriptions.items()]
    return made


def _parameter(name: str, hint: Any, text: str, default: Any) -> inspect.Parameter:
    """Return an option that is None if it is not given, and shows the default of its setting."""
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    kind = kinds[0] if kinds[0] in (bool, int, float) else str
    flags = [f"--{name.replace('_', '-')}" + (f"/--no-{name.replace('_', '-')}" if kind is bool else "")]
    flags += [SPELLED[name]] if name in SPELLED else []
    if default is not None:
        text = f"{text} [default: {str(default).lower() if kind is bool else default}]"
    option = typer.Option(*flags, help=text, show_default=False)
    annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _register() -> None:
    own = [one for one in inspect.signature(pretrain).parameters.values() if one.kind is not one.VAR_KEYWORD]
    hints = get_type_hints(pretrain, include_extras=True)
    own = [one.replace(annotation=hints[one.name], kind=one.KEYWORD_ONLY) for one in own]
    pretrain.__signature__ = inspect.Signature([*own, *_parameters()])  # type: ignore[attr-defined]
    example = "companion pretrain python-docs --output runs/docs --model tiny --steps 300 --limit 5000000"
    summary = "Pre-train a BERT from text, or go on with a run."
    app.command(short_help=summary, epilog=f"Example:  {example}")(pretrain)


_register()
