"""`companion predict`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from companion.cli.shared import Device, app, errors


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
    with errors():
        lines = texts or [line.rstrip("\n") for line in sys.stdin if line.strip()]
        if not lines:
            raise ValueError("there is no text; pass some as arguments or on standard input")
        for row in _fill(model, lines, count, device) if _fills_masks(model) else _classify(model, lines, device):
            print(json.dumps(row, ensure_ascii=False))


def _fills_masks(model: str) -> bool:
    from companion.support.locate import locate

    config = json.loads((locate(model) / "config.json").read_text(encoding="utf-8"))
    return (config.get("architectures") or [""])[0] in ("BertForMaskedLM", "BertForPreTraining")


def _fill(model: str, texts: list[str], count: int, device: str | None) -> Iterator[dict[str, Any]]:
    from companion.applications.fill import fill_mask
    from companion.model.heads import BertForMaskedLM
    from companion.support.devices import best_device
    from companion.text.tokenizer import Tokenizer

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
