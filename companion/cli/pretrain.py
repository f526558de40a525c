"""`companion pretrain`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from companion.cli.shared import Device, Precision, Seed, app, errors


@app.command(
    epilog="Example:  companion pretrain python-docs --output runs/docs --model tiny --steps 300 --limit 5000000"
)
def pretrain(
    source: Annotated[list[str], typer.Argument(help="Text files, folders or patterns, or python-docs.")],
    output: Annotated[Path, typer.Option(help="Folder of the run.")],
    model: Annotated[str, typer.Option(help="tiny, mini, small, medium, base or large.")] = "mini",
    initial: Annotated[str | None, typer.Option(help="A checkpoint to go on from.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="A checkpoint whose vocabulary to use; else one is learned.")
    ] = None,
    vocab_size: Annotated[int, typer.Option(help="Size of a learned vocabulary.")] = 8192,
    validation: Annotated[str | None, typer.Option(help="Held-out text.")] = None,
    limit: Annotated[int | None, typer.Option(help="Read at most this many bytes of text.")] = None,
    stream: Annotated[
        float | None, typer.Option(help="Megabytes of text to hold at a time; for text larger than the disk.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 10_000,
    batch_size: Annotated[int, typer.Option(help="Rows of a batch.")] = 32,
    accumulation: Annotated[int, typer.Option(help="Batches a step.")] = 1,
    max_tokens: Annotated[int, typer.Option(help="Tokens of a row.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="The highest one.")] = 8e-4,
    schedule: Annotated[str, typer.Option(help="linear, cosine, trapezoid or constant.")] = "linear",
    warmup_share: Annotated[float, typer.Option(help="Share of the steps.")] = 0.05,
    decay_share: Annotated[float, typer.Option(help="Share of the steps (trapezoid).")] = 0.2,
    masking: Annotated[float, typer.Option(help="Share of the tokens that are masked.")] = 0.15,
    whole_words: Annotated[bool, typer.Option(help="Mask all pieces of a word together.")] = False,
    next_sentence: Annotated[bool, typer.Option(help="Train next-sentence prediction too.")] = True,
    earlier: Annotated[
        list[str] | None,
        typer.Option(help="First steps on other rows, as STEPS:ROWSxTOKENS[:MASKING][:mlm]; mlm trains no pairs."),
    ] = None,
    dropout: Annotated[float, typer.Option(help="Dropout in pre-training.")] = 0.1,
    ema_decay: Annotated[float | None, typer.Option(help="Decay of a moving average of the weights.")] = None,
    precision: Precision = "auto",
    device: Device = None,
    seed: Seed = 0,
    minutes: Annotated[float | None, typer.Option(help="Save and stop after this time.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")] = False,
    save_every: Annotated[int, typer.Option(help="In steps.")] = 500,
    validate_every: Annotated[int, typer.Option(help="In steps.")] = 1000,
    tracker: Annotated[list[str] | None, typer.Option(help="tensorboard or wandb.")] = None,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Pre-train a BERT from text; --resume goes on with a run that was stopped."""
    with errors():
        from companion.pretraining.config import PretrainingConfig
        from companion.pretraining.run import pretrain as run
        from companion.training.settings import TrainingSettings

        training = TrainingSettings(
            steps=steps,
            learning_rate=learning_rate,
            schedule=schedule,
            warmup_share=warmup_share,
            decay_share=decay_share,
            betas=(0.9, 0.98),
            ema_decay=ema_decay,
            accumulation=accumulation,
            precision=precision,
            device=device,
            seed=seed,
            minutes=minutes,
            validate_every=validate_every,
            save_every=save_every,
        )
        config = PretrainingConfig(
            source=source if len(source) > 1 else source[0],
            folder=output,
            training=training,
            model=model,
            initial=initial,
            tokenizer=tokenizer,
            vocab_size=vocab_size,
            validation=validation,
            limit=limit,
            stream=stream,
            batch_size=batch_size,
            max_tokens=max_tokens,
            next_sentence=next_sentence,
            masking_probability=masking,
            whole_words=whole_words,
            dropout=dropout,
            earlier=[_phase(text) for text in earlier or ()],
        )
        result = run(config, resume=resume, progress=progress, trackers=tracker or ())
        print(_outcome(result.history, output))


def _outcome(history: Any, output: Path) -> str:
    if not history.finished:
        return f"stopped at step {history.step}; the same command with --resume goes on"
    last = {name: value for row in history.records for name, value in row.items()}
    figures = ", ".join(f"{name} {last[name]:.3f}" for name in sorted(last) if "mlm" in name or "nsp" in name)
    return f"finished {history.step} steps: {figures}\nmodel in {output / 'model'}, record in {output / 'record.json'}"


def _phase(text: str) -> Any:
    """Read a phase from what the command line takes, such as 4800:64x32:0.15:mlm."""
    from companion.pretraining.config import Phase

    pattern = r"(\d+):(\d+)x(\d+)(?::(0?\.\d+))?(:mlm)?"
    if (match := re.fullmatch(pattern, text)) is None:
        raise ValueError(f"earlier={text!r} is not of the form STEPS:ROWSxTOKENS[:MASKING][:mlm], as in 4800:64x32:mlm")
    steps, rows, tokens, masking, mlm = match.groups()
    options = {} if masking is None else {"masking_probability": float(masking)}
    return Phase(int(steps), int(rows), int(tokens), next_sentence=mlm is None, **options)
