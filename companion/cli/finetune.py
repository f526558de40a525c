"""`companion finetune`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from companion.cli.shared import Device, Model, Precision, Progress, Seed, app, errors, warn

if TYPE_CHECKING:
    from datasets import DatasetDict

    from companion.data.catalogue import Card
    from companion.finetuning.base import FineTuned

PARAMETERS = (
    "learning_rate batch_size max_length truncation dropout weight_decay adapter from_scratch precision device progress"
).split()
Parts = dict[str, tuple[list[Any], list[Any]]]  # split -> texts and labels
Data = Annotated[
    str,
    typer.Argument(
        help="A name (reviews, rte, ...), a file (CSV, TSV, JSON, JSON Lines, Parquet), a folder with train, "
        "validation and test as such files, or a hub id."
    ),
]
LearningRate = Annotated[
    float | None, typer.Option(help="The highest one; by default by the width of the model, 3e-4 for mini.")
]
NAMES = {name: f"--{name.replace('_', '-')}" for name in (*PARAMETERS, "epochs", "model")} | {
    "folder": "--output",
    "random_state": "--seed",
}
FEW = 20  # rows below which it says nothing that each has a label of its own


@app.command(
    short_help="Fine-tune a classifier or regressor on labelled texts.",
    epilog="Examples:  companion finetune reviews --output runs/reviews  or  companion finetune my.csv --text review "
    "--label stars --output runs/my",
)
def finetune(
    data: Data,
    output: Annotated[Path, typer.Option(help="Folder for what is trained; one trained there before is replaced.")],
    model: Model = "mini",
    subset: Annotated[str | None, typer.Option(help="Which part of a set of the hub, such as cola.")] = None,
    text: Annotated[str | None, typer.Option(help="Column of the text.")] = None,
    pair: Annotated[str | None, typer.Option(help="Column of a second text.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of the label.")] = None,
    validation: Annotated[str | None, typer.Option(help="Held-out data: a file, or a share such as 0.1.")] = None,
    regression: Annotated[bool, typer.Option("--regression", help="The labels are numbers on a scale.")] = False,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training set; 3 for most sets.")] = None,
    learning_rate: LearningRate = None,
    batch_size: Annotated[int, typer.Option(help="Texts per step.")] = 32,
    max_length: Annotated[int | None, typer.Option(help="Tokens of a text; 128, or 384 to find answers.")] = None,
    truncation: Annotated[
        str | None, typer.Option(help="What is read of longer texts: head (default), tail, head+tail or windows.")
    ] = None,
    dropout: Annotated[float | None, typer.Option(help="While training; the checkpoint's by default.")] = None,
    weight_decay: Annotated[float, typer.Option(help="Pull of the weights towards 0.")] = 0.01,
    adapter: Annotated[str | None, typer.Option(help="Train only a few new weights and the head: lora or ia3.")] = None,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Start from random weights.")] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Folder to keep the training in while it runs; the same command goes on from there."),
    ] = None,
    precision: Precision = "auto",
    device: Device = None,
    seed: Seed = 0,
    progress: Progress = True,
) -> None:
    """Fine-tune a classifier of texts, or a regressor, save it, and measure it on the held-out splits.

    Columns and the kind of label of well-known sets need not be named. Several labels per text are lists in the data.
    """
    options = dict(locals())
    with errors(NAMES):
        _finetune(output, options)


def _finetune(output: Path, options: Mapping[str, Any]) -> None:
    """Check all that can be checked, train, save, and only then measure."""
    from companion.finetuning.saved import check_folder

    check_folder(output)
    card, parts = read_parts(options)
    estimator = new_estimator(options, card, parts["train"][1])
    check_labels(estimator, parts)
    estimator.fit(*parts["train"], checkpoint=options["checkpoint"])
    estimator.save(output)
    print(f"saved to {output}; try: {_example(output, parts)}")
    for split in ("validation", "test"):
        if split in parts:
            print_score(split, estimator, parts)


def read_parts(options: Mapping[str, Any]) -> tuple[Card | None, Parts]:
    """Return the card of a data set, if there is one, and the texts and labels of its splits, all checked."""
    from companion.data.catalogue import card_of
    from companion.data.labelled import load_dataset, texts_and_labels

    splits = load_dataset(options["data"], options["subset"], progress=options["progress"])
    columns = next(iter(splits.values())).column_names
    card = card_of(options["data"])
    card = card if card and {*card.texts, card.label} <= set(columns) else None
    if card and card.kind in KINDS:
        raise ValueError(f"{options['data']} is a set for {KINDS[card.kind]}, which this command does not learn")
    if "train" not in splits:
        raise ValueError(f"{options['data']} has no split train to learn from; it has: {', '.join(splits)}")
    splits = _with_validation(splits, options["validation"], options["seed"])
    texts, label = _columns(options, card)
    for split in splits.values():
        _check_columns(split.column_names, texts, label)
    return card, {name: texts_and_labels(split, texts, label) for name, split in splits.items()}


KINDS = {
    "ranking": "measuring search",
    "multi": "several labels per text",
}


def _with_validation(splits: DatasetDict, validation: str | None, seed: int) -> DatasetDict:
    """Add held-out data from a file, or a share of the training part."""
    from companion.data.labelled import load_dataset

    if validation is None:
        return splits
    if "validation" in splits:
        raise ValueError(f"--validation {validation}: the data has a split validation already; leave the option out")
    try:
        share = float(validation)
    except ValueError:
        found = load_dataset(validation)
        return type(splits)(splits | {"validation": found.get("validation", next(iter(found.values())))})
    if not 0 < share < 1:
        raise ValueError(f"--validation {validation} is no share between 0 and 1, and no file")
    parts = splits["train"].train_test_split(test_size=share, seed=seed)
    return type(splits)(splits | {"train": parts["train"], "validation": parts["test"]})


def _columns(options: Mapping[str, Any], card: Card | None) -> tuple[list[str], str]:
    """Return the columns of the texts and of the label: as given, else as the catalogue has them."""
    known = list(card.texts) if card else ["text"]
    texts = known if options["text"] is None else [options["text"]]
    if options["pair"] is not None:
        texts = [texts[0], options["pair"]]
    return texts, options["label"] or (card.label if card else "label")


def _check_columns(there: Sequence[str], texts: Sequence[str], label: str) -> None:
    named = list(zip(("--text", "--pair"), texts, strict=False)) + [("--label", label)]
    for option, column in named:
        if column not in there:
            raise ValueError(
                f"column {column!r} is not in the data, which has: {', '.join(there)}; name it with {option}"
            )


def new_estimator(options: Mapping[str, Any], card: Card | None, labels: Sequence[Any]) -> FineTuned:
    """Return the estimator for a kind of labels; where the data has no card, for classes or numbers on a scale."""
    from companion.finetuning import QuestionAnswerer, TextClassifier, TextRegressor, TokenTagger

    on_a_scale = any(isinstance(one, float) and not one.is_integer() for one in labels)
    is_regression = options["regression"] or (card is not None and card.kind == "regression") or on_a_scale
    epochs = options["epochs"] if options["epochs"] is not None else card.epochs if card else 3
    parameters = {name: options[name] for name in PARAMETERS if options[name] is not None}
    parameters |= {"epochs": epochs, "random_state": options["seed"]}
    known = {"tags": TokenTagger, "spans": QuestionAnswerer}
    kind = known.get(card.kind if card else "", TextRegressor if is_regression else TextClassifier)
    if "truncation" in parameters and kind in known.values():
        raise ValueError("--truncation is for labels of whole texts; these are read in windows, and never truncated")
    return kind(options["model"], **parameters)


def check_labels(estimator: FineTuned, parts: Parts) -> None:
    """Raise an error for labels that could not be learned or scored, before anything is trained."""
    targets: dict[str, Any] = {}
    for split, (texts, labels) in parts.items():
        try:
            labels = estimator.read_labels(texts, labels)
            targets[split] = estimator._targets(labels, len(texts), targets["train"].learned if targets else None)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{split}: {error}") from None
    classes = targets["train"].learned.get("classes_", ())
    if len(classes) == len(parts["train"][1]) > FEW:
        raise ValueError(
            f"every one of the {len(classes)} texts has a label of its own; --label names the column to learn"
        )


def print_score(split: str, estimator: FineTuned, parts: Parts) -> None:
    """Print how good predictions on a split are, beside what one constant answer gives; warn if they are no better."""
    from companion.finetuning import QuestionAnswerer, TextRegressor, TokenTagger
    from companion.finetuning.metrics import pearson

    texts, labels = parts[split]
    score = estimator.score(texts, labels)
    if isinstance(estimator, TextRegressor):
        correlation = pearson(labels, estimator.predict(texts))
        print(f"{split} R² {score:.3f} (always the mean: 0.000), Pearson's correlation {correlation:.3f}")
        chance = 0.0
    elif isinstance(estimator, TokenTagger):
        print(f"{split} F1 of entities {score:.3f} (no entity anywhere: 0.000)")
        chance = 0.0
    elif isinstance(estimator, QuestionAnswerer):
        print(f"{split} F1 of words in answers {score:.3f}")
        chance = 0.0
    else:
        commonest = Counter(map(_as_key, parts["train"][1])).most_common(1)[0][0]
        constant = sum(_as_key(label) == commonest for label in labels) / len(labels)
        print(f"{split} accuracy {score:.3f} (always {_shown(commonest)}: {constant:.3f})")
        chance = constant + 2 * math.sqrt(constant * (1 - constant) / len(labels))  # two standard errors
    if score <= chance:
        warn(f"on {split} this may be chance: it is no clear lead over one constant answer; try more --epochs")


def _as_key(label: Any) -> Any:
    return tuple(sorted(label)) if isinstance(label, list | tuple | set) else label


def _shown(label: Any) -> str:
    return repr(list(label) if isinstance(label, tuple) else label)


def _example(output: Path, parts: Parts) -> str:
    second = " --pair 'another'" if isinstance(parts["train"][0][0], tuple) else ""
    return f"companion predict {output} 'some text'{second}"
