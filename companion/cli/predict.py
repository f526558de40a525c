"""`companion predict`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from companion.cli.shared import Device, app, errors

Item = str | tuple[str, str]
FILLERS = ("BertForMaskedLM", "BertForPreTraining")
COLUMNS = (["text"], ["sentence"], ["sentence1", "sentence2"])  # tried in files where none is named


@app.command(
    short_help="Predict with a fine-tuned model, or fill in [MASK].",
    epilog="Examples:  companion predict runs/reviews 'The soup was cold.'  or  companion predict mini 'A [MASK] day.'",
)
def predict(
    model: Annotated[str, typer.Argument(help="A fine-tuned folder, or a pre-trained checkpoint to fill [MASK].")],
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="Texts; without any, standard input is read: one per line, pairs with a tab between."),
    ] = None,
    pair: Annotated[list[str] | None, typer.Option(help="The second text of a pair; once for every text.")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--input", help="Read texts from a file: CSV, TSV, JSON Lines, Parquet or plain text."),
    ] = None,
    column: Annotated[list[str] | None, typer.Option(help="Column of the text in the file; twice for pairs.")] = None,
    count: Annotated[int | None, typer.Option(help="Guesses for a [MASK]; 5 by default.")] = None,
    device: Device = None,
) -> None:
    """Print one JSON object per text: label and probabilities, number, entities, answer, or guesses for [MASK]."""
    with errors({"device": "--device"}):
        fills = _architecture(model) in FILLERS
        if count is not None and not fills:
            raise ValueError(f"--count {count} is for filling [MASK]; {model} predicts labels or numbers")
        items = _items(texts, pair, file, column)
        for row in _fill(model, items, count or 5, device) if fills else _predict(model, items, device):
            print(json.dumps(row, ensure_ascii=False))


def _architecture(model: str) -> str:
    """Return what a folder holds; advise what to do with a network that has no trained head."""
    from companion.finetuning.saved import read_saved
    from companion.support.files import read_json
    from companion.support.locate import locate

    folder = locate(model)
    found = next(iter(read_json(folder / "config.json").get("architectures") or [""]))
    if found == "BertModel" and not read_saved(folder):
        raise ValueError(
            f"{model} holds a BertModel, which has no head that predicts; fine-tune it first: companion finetune DATA "
            f"--model {model} --output FOLDER"
        )
    return found


def _items(
    texts: Sequence[str] | None, pair: Sequence[str] | None, file: Path | None, column: Sequence[str] | None
) -> list[Item]:
    """Return the texts, or pairs of texts, from wherever they were given."""
    if file is not None and texts:
        raise ValueError("texts are given as arguments and with --input; use one of them")
    if column and file is None:
        raise ValueError("--column names a column of a file; name the file with --input")
    if file is not None:
        items = _from_file(file, list(column or ()))
    else:
        items = (
            [_readable(text, "argument") for text in texts]
            if texts
            else _lines(sys.stdin.buffer.read(), "standard input")
        )
    if not items:
        raise ValueError("there is no text; pass some as arguments, with --input or on standard input")
    if not pair:
        return items
    if len(pair) != len(items):
        raise ValueError(f"--pair is given {len(pair)} times for {len(items)} texts; give it once for each")
    return [(str(first), _readable(second, "--pair")) for first, second in zip(items, pair, strict=True)]


def _from_file(file: Path, columns: list[str]) -> list[Item]:
    from companion.data.tables import ENDINGS, read_table

    if not file.is_file():
        raise FileNotFoundError(f"--input {file} is no file; check the path")
    if not file.name.endswith(ENDINGS):
        return _lines(file.read_bytes(), str(file))
    table = read_table(file)
    columns = columns or next((names for names in COLUMNS if set(names) <= set(table.column_names)), [])
    if missing := [name for name in columns if name not in table.column_names]:
        raise ValueError(f"column {missing[0]!r} is not in {file}, which has: {', '.join(table.column_names)}")
    if len(columns) not in (1, 2):
        raise ValueError(f"{file} has the columns {', '.join(table.column_names)}; name that of the text with --column")
    parts = [list(table[name]) for name in columns]
    return parts[0] if len(parts) == 1 else list(zip(*parts, strict=True))


def _lines(content: bytes, source: str) -> list[Item]:
    """Return the lines that are not blank, those with a tab as pairs if all of them have one."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{source}, line {line} is not UTF-8 ({error.reason}); convert it, for example: iconv -f latin1 -t utf-8"
        ) from None
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]
    parts = [line.split("\t") for line in lines]
    if parts and all(len(part) == 2 for part in parts):
        return [(first, second) for first, second in parts]
    return [*lines]


def _readable(text: str, source: str) -> str:
    """Return a text of the command line, unless it holds bytes that are no UTF-8, which Python keeps as surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            f"{source} {text!r} is not UTF-8; set the terminal to UTF-8, or pass a file with --input"
        ) from None
    return text


def _fill(model: str, texts: Sequence[Item], count: int, device: str | None) -> Iterator[dict[str, Any]]:
    from companion.applications.fill import fill_mask
    from companion.model.heads import BertForMaskedLM
    from companion.support.devices import best_device
    from companion.text.tokenizer import Tokenizer

    if not isinstance(texts[0], str):
        raise ValueError("[MASK] is filled in single texts; leave --pair and the second column out")
    network = BertForMaskedLM.from_pretrained(model).to(best_device(device))
    tokenizer = Tokenizer.from_pretrained(model)
    for text in texts:
        guesses = fill_mask(str(text), network, tokenizer, count)
        yield {
            "text": text,
            "masks": [{guess.token: round(guess.probability, 4) for guess in mask} for mask in guesses],
        }


def _predict(model: str, items: Sequence[Item], device: str | None) -> Iterator[dict[str, Any]]:
    from companion.finetuning import MultipleChoice, load

    estimator = load(model, device=device)
    if isinstance(estimator, MultipleChoice):
        raise ValueError(
            f"{model} chooses among given choices; use it from Python: companion.finetuning.load({model!r})"
        )
    kinds = {"classes_": _labels, "tags_": _spans, "unanswerable_": _answers}
    answers = next((kinds[name] for name in kinds if hasattr(estimator, name)), _numbers)(estimator, items)
    for item, answer in zip(items, answers, strict=True):
        given = {"text": item} if isinstance(item, str) else {"text": item[0], "pair": item[1]}
        yield given | answer


def _labels(classifier: Any, items: Sequence[Item]) -> Iterator[dict[str, Any]]:
    names = classifier.classes_.tolist()
    for row in classifier.predict_proba(items).tolist():
        if classifier.multilabel_ is None:
            answer = {"label": names[row.index(max(row))]}
        else:
            answer = {"labels": [name for name, p in zip(names, row, strict=True) if p >= 0.5]}
        yield answer | {"probabilities": {str(name): round(p, 4) for name, p in zip(names, row, strict=True)}}


def _spans(tagger: Any, items: Sequence[Item]) -> Iterator[dict[str, Any]]:
    for text, found in zip(items, tagger.predict(items), strict=True):
        spans = [{"start": one.start, "end": one.end, "type": one.type} for one in found]
        yield {"entities": [span | {"text": text[span["start"] : span["end"]]} for span in spans]}


def _answers(reader: Any, items: Sequence[Item]) -> Iterator[dict[str, Any]]:
    for found in reader.predict(items):
        answer = {"answer": found.text, "start": found.start, "end": found.end}
        yield answer | {"probability": round(found.probability, 4)}


def _numbers(regressor: Any, items: Sequence[Item]) -> Iterator[dict[str, Any]]:
    yield from ({"value": round(value, 4)} for value in regressor.predict(items).tolist())
