"""`companion finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from companion.cli.shared import Device, Model, Precision, Seed, app, errors


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
    with errors():
        from companion.data.labelled import load_dataset, texts_and_labels
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
            random_state=seed,
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
