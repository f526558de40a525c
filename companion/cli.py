"""The command line: `companion info | pretrain | finetune | predict | bench`, each a thin wrapper of a function."""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="BERT from the ground up: pre-train, fine-tune and use it.",
)
bench = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(bench, name="bench", help="Measure: speed beside Transformers, and what settings matter.")

Model = Annotated[str, typer.Option(help="A bundled name, a folder, or a hub id.")]
Device = Annotated[str | None, typer.Option(help="cuda, mps or cpu; the best there is by default.")]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same numbers.")]


@app.command(epilog="Example:  companion info --json")
def info(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show versions, the device and its precision, and what is bundled."""
    facts = _facts()
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        print(f"{name:<12} {', '.join(value) if isinstance(value, list) else value}")


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
    averaging: Annotated[float | None, typer.Option(help="Decay of a moving average of the weights.")] = None,
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
    with _errors():
        from companion.pretraining.run import PretrainingConfig
        from companion.pretraining.run import pretrain as run
        from companion.training import TrainingSettings

        training = TrainingSettings(
            steps=steps,
            learning_rate=learning_rate,
            schedule=schedule,
            warmup_share=warmup_share,
            decay_share=decay_share,
            betas=(0.9, 0.98),
            averaging=averaging,
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


@app.command(epilog="Example:  companion finetune reviews --model mini --output runs/reviews --epochs 3")
def finetune(
    data: Annotated[str, typer.Argument(help="A bundled set, a folder of JSON Lines, or a hub id.")],
    output: Annotated[Path, typer.Option(help="Folder for the classifier.")],
    model: Model = "mini",
    text: Annotated[str, typer.Option(help="Column of the text.")] = "text",
    pair: Annotated[str | None, typer.Option(help="Column of a second text.")] = None,
    label: Annotated[str, typer.Option(help="Column of the label.")] = "label",
    epochs: Annotated[int, typer.Option(help="Passes over the training set.")] = 3,
    learning_rate: Annotated[float | None, typer.Option(help="The highest one.")] = None,
    batch_size: Annotated[int, typer.Option(help="Texts of a batch.")] = 32,
    max_length: Annotated[int, typer.Option(help="Tokens of a text; what is longer is cut off.")] = 128,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Start from random weights.")] = False,
    precision: Precision = "auto",
    device: Device = None,
    seed: Seed = 0,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Fine-tune a classifier of texts, measure it on the held-out splits, and save it."""
    with _errors():
        from companion.datasets import load_dataset, texts_and_labels
        from companion.finetuning import TextClassifier

        splits = load_dataset(data)
        options: dict[str, Any] = {} if learning_rate is None else {"learning_rate": learning_rate}
        classifier = TextClassifier(
            model,
            epochs=epochs,
            batch_size=batch_size,
            max_length=max_length,
            from_scratch=from_scratch,
            precision=precision,
            device=device,
            seed=seed,
            progress=progress,
            **options,
        )
        columns = [text, pair] if pair else [text]
        classifier.fit(*texts_and_labels(splits["train"], columns, label))
        for split in ("validation", "test"):
            if split in splits:
                print(f"{split} accuracy {classifier.score(*texts_and_labels(splits[split], columns, label)):.3f}")
        classifier.save(output)
        print(f"saved to {output}; try: companion predict {output} 'some text'")


@app.command(
    epilog="Examples:  companion predict runs/reviews 'The soup was cold.'  or  companion predict mini 'It was [MASK].'"
)
def predict(
    model: Annotated[str, typer.Argument(help="A fine-tuned folder, or a pre-trained checkpoint to fill [MASK].")],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; read from standard input, one a line, if none.")
    ] = None,
    count: Annotated[int, typer.Option(help="Guesses for a [MASK].")] = 5,
    device: Device = None,
) -> None:
    """Print one JSON object a text: its label and probabilities, or what belongs in the place of [MASK]."""
    with _errors():
        lines = texts or [line.rstrip("\n") for line in sys.stdin if line.strip()]
        if not lines:
            raise ValueError("there is no text; pass some as arguments or on standard input")
        for row in _fill(model, lines, count, device) if _fills_masks(model) else _classify(model, lines, device):
            print(json.dumps(row, ensure_ascii=False))


@bench.command("pretrain", epilog="Example:  companion bench pretrain --vocab-size 8192 --threads 1 --clock cpu")
def bench_pretrain(
    model: Annotated[str, typer.Option(help="tiny, mini, small, medium, base or large.")] = "mini",
    vocab_size: Annotated[list[int] | None, typer.Option(help="Once or more; 8192 and 30522 by default.")] = None,
    batch_size: Annotated[int, typer.Option(help="Rows of a batch.")] = 32,
    max_tokens: Annotated[int, typer.Option(help="Tokens of a row.")] = 128,
    steps: Annotated[int, typer.Option(help="Timed steps of each.")] = 20,
    dropout: Annotated[float, typer.Option(help="The same in both.")] = 0.1,
    learning_rate: Annotated[float, typer.Option(help="The same in both; the default is Trainer's.")] = 5e-5,
    precision: Annotated[
        list[str] | None, typer.Option(help="Of this package, once or more; auto and fp32 by default.")
    ] = None,
    trainer_bf16: Annotated[bool, typer.Option(help="Compare with Trainer in bf16 too.")] = True,
    threads: Annotated[int | None, typer.Option(help="Of the CPU; PyTorch's default if none is given.")] = None,
    clock: Annotated[
        str, typer.Option(help="wall, or cpu: processor time, for a busy machine and one thread.")
    ] = "wall",
    memory: Annotated[bool, typer.Option(help="Measure peak memory too.")] = True,
    device: Device = None,
    seed: Seed = 0,
    output: Annotated[Path | None, typer.Option(help="Write the record to this JSON file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record, not a table.")] = False,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Compare pre-training with transformers.Trainer, one step of each in turn; needs the extra [bench]."""
    with _errors():
        from companion.benchmarks import PretrainingCase, benchmark_pretraining, pretraining_table
        from companion.files import write_json

        cases = [
            PretrainingCase(
                model=model,
                vocab_size=size,
                batch_size=batch_size,
                max_tokens=max_tokens,
                steps=steps,
                dropout=dropout,
                learning_rate=learning_rate,
                precisions=precision or ("auto", "fp32"),
                trainer_bf16=trainer_bf16,
                device=device,
                threads=threads,
                clock=clock,
                seed=seed,
            )
            for size in vocab_size or (8192, 30522)
        ]
        record = benchmark_pretraining(cases, memory=memory, progress=progress)
        if output is not None:
            write_json(output, record)
        print(json.dumps(record, indent=1) if as_json else pretraining_table(record))


@bench.command(
    "ablations",
    epilog="Example:  companion bench ablations text.txt --validation held-out.txt --output runs/ablations.json",
)
def bench_ablations(
    source: Annotated[list[str], typer.Argument(help="Text files, folders or patterns, or python-docs.")],
    validation: Annotated[str, typer.Option(help="Held-out text.")],
    output: Annotated[Path, typer.Option(help="The record, a JSON file; runs that it holds are not done again.")],
    folder: Annotated[
        Path | None, typer.Option(help="For vocabularies and prepared text; beside the record if none is given.")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help="Run this one, and what it is compared with; once or more.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each variant.")] = 3,
    positions: Annotated[int, typer.Option(help="Tokens and padding that each run sees.")] = 256_000,
    limit: Annotated[int | None, typer.Option(help="Read at most this many bytes of text.")] = 5_000_000,
    precision: Precision = "auto",
    device: Device = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Pre-train small variants over seeds, and say which differences are more than chance."""
    with _errors():
        from companion.pretraining.ablations import Study, ablations_table, run_ablations

        study = Study(
            source=source if len(source) > 1 else source[0],
            validation=validation,
            folder=folder or output.with_suffix(""),
            positions=positions,
            limit=limit,
            precision=precision,
            device=device,
        )
        print(ablations_table(run_ablations(study, output, seeds=seeds, only=variant or (), progress=progress)))


@bench.command("tasks", epilog="Example:  companion bench tasks --model mini --task rte --output runs/tasks.json")
def bench_tasks(
    output: Annotated[Path, typer.Option(help="The record, a JSON file; what it holds is not measured again.")],
    model: Model = "mini",
    task: Annotated[
        list[str] | None, typer.Option(help="Once or more; sst2, cola, mrpc, rte and stsb by default.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each network.")] = 3,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over a training set; by default more for small ones.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest one.")] = None,
    dropout: Annotated[float | None, typer.Option(help="In fine-tuning; the checkpoint's by default.")] = None,
    precision: Precision = "auto",
    device: Device = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Fine-tune on public benchmarks, beside a bag of words and the same network without pre-training."""
    with _errors():
        from companion.finetuning.tasks import GLUE, measure_tasks, tasks_table

        given = {"epochs": epochs, "learning_rate": learning_rate, "dropout": dropout, "device": device}
        options = {name: value for name, value in given.items() if value is not None} | {"precision": precision}
        record = measure_tasks(task or GLUE, model, output, seeds=seeds, progress=progress, **options)
        print(tasks_table(record))


def main() -> None:
    """Run the command line."""
    app()


@contextmanager
def _errors() -> Iterator[None]:
    """Turn errors that a user can mend into one line on standard error and exit status 2."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        typer.echo(f"companion: {error}", err=True)
        raise typer.Exit(2) from None


def _facts() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from companion.checkpoints import bundled_names as checkpoints
    from companion.datasets import bundled_names as sets
    from companion.devices import best_device, precision_for

    try:
        own_version = version("bert-companion")
    except PackageNotFoundError:
        own_version = "run from a checkout"
    device = best_device()
    return {
        "companion": own_version,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": str(device),
        "precision": precision_for(device, "auto"),
        "threads": torch.get_num_threads(),
        "checkpoints": checkpoints(),
        "datasets": sets(),
    }


def _outcome(history: Any, output: Path) -> str:
    if not history.finished:
        return f"stopped at step {history.step}; the same command with --resume goes on"
    last = {name: value for row in history.records for name, value in row.items()}
    figures = ", ".join(f"{name} {last[name]:.3f}" for name in sorted(last) if "mlm" in name or "nsp" in name)
    return f"finished {history.step} steps: {figures}\nmodel in {output / 'model'}, record in {output / 'record.json'}"


def _phase(text: str) -> Any:
    """Read a phase from what the command line takes, such as 4800:64x32:0.15:mlm."""
    from companion.pretraining.run import Phase

    pattern = r"(\d+):(\d+)x(\d+)(?::(0?\.\d+))?(:mlm)?"
    if (match := re.fullmatch(pattern, text)) is None:
        raise ValueError(f"earlier={text!r} is not of the form STEPS:ROWSxTOKENS[:MASKING][:mlm], as in 4800:64x32:mlm")
    steps, rows, tokens, masking, mlm = match.groups()
    options = {} if masking is None else {"masking_probability": float(masking)}
    return Phase(int(steps), int(rows), int(tokens), next_sentence=mlm is None, **options)


def _fills_masks(model: str) -> bool:
    from companion.checkpoints import resolve

    config = json.loads((resolve(model) / "config.json").read_text(encoding="utf-8"))
    return (config.get("architectures") or [""])[0] in ("BertForMaskedLM", "BertForPreTraining")


def _fill(model: str, texts: list[str], count: int, device: str | None) -> Iterator[dict[str, Any]]:
    from companion.applications.fill import fill_mask
    from companion.devices import best_device
    from companion.heads import BertForMaskedLM
    from companion.tokenizer import Tokenizer

    network = BertForMaskedLM.from_pretrained(model).to(best_device(device))
    tokenizer = Tokenizer.from_pretrained(model)
    for text in texts:
        guesses = fill_mask(text, network, tokenizer, count)
        yield {
            "text": text,
            "masks": [{guess.token: round(guess.probability, 4) for guess in mask} for mask in guesses],
        }


def _classify(model: str, texts: list[str], device: str | None) -> Iterator[dict[str, Any]]:
    from companion.finetuning import TextClassifier

    classifier = TextClassifier.load(model, device=device)
    for text, row in zip(texts, classifier.predict_proba(texts), strict=True):
        best = classifier.classes_[row.argmax()]
        probabilities = {str(name): round(float(p), 4) for name, p in zip(classifier.classes_, row, strict=True)}
        yield {"text": text, "label": best.item() if hasattr(best, "item") else best, "probabilities": probabilities}
