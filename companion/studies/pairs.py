"""What a classifier of pairs reads: both texts, one of them, their order, and the segments, over several seeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from companion.data.labelled import load_dataset
from companion.finetuning.classifier import TextClassifier
from companion.finetuning.targets import Targets
from companion.studies.baselines import new_baseline
from companion.studies.tasks import TASKS, bench_source, data_checksum, open_record
from companion.support.record import RunRecord, hardware_of, provenance
from companion.support.require import choice, integer
from companion.text.tokenizer import Tokenizer
from companion.training.batching import Rows

PAIRED = tuple(name for name, task in TASKS.items() if len(task.card.texts) == 2 and task.card.kind == "single")


def words_of(text: str) -> set[str]:
    """Return the different words of a text, without case."""
    return set(re.findall(r"\w+", text.lower()))


def shared_words(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return four numbers about each pair, (pairs, 4), that know no word.

    The shared words as a share of all words, of those of the second and of those of the first text; and how many more
    different words the second has.
    """
    rows = []
    for first, second in pairs:
        a, b = words_of(first), words_of(second)
        n = len(a & b)
        rows.append([n / len(a | b), n / len(b), n / len(a), len(b) - len(a)])
    return np.array(rows)


# What a classifier without a network sees of a pair.
CONTROLS: dict[str, Callable[[Sequence[tuple[str, str]]], Any]] = {
    "both texts": lambda pairs: [" ".join(pair) for pair in pairs],
    "first alone": lambda pairs: [first for first, _ in pairs],
    "second alone": lambda pairs: [second for _, second in pairs],
    "shared words": shared_words,
}


def control_answers(control: str, train: tuple[list[Any], list[Any]], test: Sequence[tuple[str, str]]) -> np.ndarray:
    """Train a logistic regression on what a control sees, and return its answers to the test pairs.

    Parameters
    ----------
    control : str
        A key of `CONTROLS`. Texts become single words and word pairs, weighted by TF-IDF.
    train : (list of (str, str), list)
        Pairs and their labels.
    test : sequence of (str, str)

    Raises
    ------
    ValueError
        If the control is unknown.
    """
    choice("control", control, CONTROLS)
    view, model = CONTROLS[control], new_baseline("bag_of_words")
    if view is shared_words:
        model = model[-1]  # numbers need no words counted
    return model.fit(view(train[0]), train[1]).predict(view(test))


def measure_controls(tasks: Sequence[str], output: str | Path) -> dict[str, Any]:
    """Score the controls and the commonest label on tasks of pairs, and write the record.

    Parameters
    ----------
    tasks : sequence of str
        Of `PAIRED`.
    output : str or Path
        The record, a JSON file; what it holds is not measured again.

    Returns
    -------
    dict
        `data` and `entries`, one for each `task` and `control` ("constant" or a key of `CONTROLS`): `rows` that are
        scored, how many are `right`, and `f1` of the positive label, where the set has one.
    """
    for task in tasks:
        choice("task", task, PAIRED)
    splits = {task: load_dataset(task) for task in tasks}
    data = {task: data_checksum(splits[task], TASKS[task].parts) for task in tasks}
    record = RunRecord.open(output, "pair controls", {}, data)
    options = [f"--task {task}" for task in tasks]
    command = " ".join(["companion bench controls", *options, "--output", Path(output).name])
    source = provenance(command, hardware_of("cpu"), ("scikit-learn",))
    for task in tasks:
        train, (pairs, truth) = (TASKS[task].rows(splits[task][part]) for part in TASKS[task].parts)
        for control in ("constant", *CONTROLS):
            if record.find(task=task, control=control) is None:
                fitted = new_baseline("constant").fit(*train)
                found = fitted.predict(pairs) if control == "constant" else control_answers(control, train, pairs)
                right = int((found == np.array(truth)).sum())
                f1 = {"f1": TASKS[task].scores["f1"](truth, list(found))} if TASKS[task].card.positive else {}
                record.add({"task": task, "control": control, "rows": len(truth), "right": right} | f1, source)
    return record.to_dict()


def controls_table(record: Mapping[str, Any]) -> str:
    """Set the record of `measure_controls` as text: the share that is right, in percent."""
    return "\n".join(f"{e['task']:<8}{e['control']:<16}{100 * e['right'] / e['rows']:>7.1f}" for e in record["entries"])


class SegmentClassifier(TextClassifier):
    """`TextClassifier` that can leave the segments out.

    Attributes
    ----------
    segments : bool
        Whether the tokens of the second text are marked as such; if not, all have segment 0. It may change between
        `fit` and `predict`.
    """

    segments = True

    def _encode(self, tokenizer: Tokenizer, items: list[Any], targets: Targets | None = None) -> Rows:
        rows = super()._encode(tokenizer, items, targets)
        if self.segments:
            return rows
        return {**rows, "token_type_ids": [[0] * len(ids) for ids in rows["input_ids"]]}


def measure_pairs(
    model: str | Path,
    output: str | Path,
    *,
    task: str = "pairs",
    seeds: int = 3,
    progress: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Fine-tune a checkpoint on pairs of texts over seeds, and keep what it answers to each test pair.

    Three networks are trained for every seed: on both texts, on both without segments, and on the second alone. The
    first one is also asked about the swapped pairs, and about pairs without segments.

    Parameters
    ----------
    model : str or Path
        As in `TextClassifier`.
    output : str or Path
        The record, a JSON file, written after each network; those that it holds are not trained again.
    task : str
        One of `PAIRED`.
    seeds : int
        The seeds are 0, 1, ...
    progress : bool
        Show a progress bar.
    **options
        Other parameters of `TextClassifier`.

    Returns
    -------
    dict
        `config` with the `labels`, sorted, `data` and `entries`, one for each `training` ("both", "no segments",
        "second") and `seed`: under `answers`, for "as trained" and, of "both", "swapped" and "no segments", a string of
        one digit for each test pair, the place of the answer in `labels`.

    Raises
    ------
    ValueError
        If the task is none of pairs, `seeds` is below 1, or the record is of another measurement.
    """
    from tqdm.auto import tqdm

    choice("task", task, PAIRED)
    integer("seeds", seeds, minimum=1)
    splits = load_dataset(task)
    train, test = (TASKS[task].rows(splits[part]) for part in TASKS[task].parts)
    options = {"epochs": TASKS[task].card.epochs} | options
    labels = sorted(set(train[1]))
    data = {task: data_checksum(splits, TASKS[task].parts)}
    record = open_record("pairs", model, output, options, {"task": task, "labels": labels}, data)
    source = bench_source("pairs", model, output, {"task": task, "seeds": seeds} | options)
    runs = [{"training": name, "seed": seed} for name in ("both", "no segments", "second") for seed in range(seeds)]
    for run in tqdm([run for run in runs if record.find(**run) is None], disable=not progress, unit="network"):
        estimator = SegmentClassifier(model, random_state=run["seed"], **options)
        found = _answers(estimator, run["training"], train, test[0])
        record.add(run | {"answers": {name: _digits(values, labels) for name, values in found.items()}}, source)
    return record.to_dict()


def _answers(
    estimator: SegmentClassifier, training: str, train: tuple[list[Any], list[Any]], test: list[Any]
) -> dict[str, np.ndarray]:
    """Train one network, and return its answers to the test pairs as it was trained and otherwise."""
    if training == "second":
        return {"as trained": estimator.fit([b for _, b in train[0]], train[1]).predict([b for _, b in test])}
    estimator.segments = training == "both"
    found = {"as trained": estimator.fit(*train).predict(test)}
    if training == "both":
        found["swapped"] = estimator.predict([(b, a) for a, b in test])
        estimator.segments = False
        found["no segments"] = estimator.predict(test)
    return found


def _digits(values: np.ndarray, labels: list[Any]) -> str:
    return "".join(str(labels.index(value)) for value in values.tolist())


def answers(record: Mapping[str, Any], training: str, asked: str = "as trained") -> np.ndarray:
    """Return the answers of a record as labels, (seeds, test pairs).

    Parameters
    ----------
    record : mapping
        As `measure_pairs` returns it.
    training : {"both", "no segments", "second"}
    asked : {"as trained", "swapped", "no segments"}
        The last two of "both" alone.
    """
    entries = sorted((e for e in record["entries"] if e["training"] == training), key=lambda e: e["seed"])
    labels = np.array(record["config"]["labels"])
    return labels[[[int(digit) for digit in entry["answers"][asked]] for entry in entries]]


VIEWS = {
    "both": ("both", "as trained"),
    "swapped when asked": ("both", "swapped"),
    "no segments when asked": ("both", "no segments"),
    "no segments at all": ("no segments", "as trained"),
    "second text alone": ("second", "as trained"),
}


def accuracies(record: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the accuracies of a record on the test part in percent: for each of `VIEWS` that it has, one per seed."""
    card = TASKS[record["config"]["task"]]
    truth = np.array(card.rows(load_dataset(record["config"]["task"])[card.parts[1]])[1])
    trained = {entry["training"] for entry in record["entries"]}
    views = {name: view for name, view in VIEWS.items() if view[0] in trained}
    return {name: (100 * (answers(record, *view) == truth).mean(axis=1)).tolist() for name, view in views.items()}


def pairs_table(record: Mapping[str, Any]) -> str:
    """Set the record of `measure_pairs` as text: a row for each of `VIEWS`, a column for each seed."""
    rows = accuracies(record).items()
    return "\n".join(f"{name:<24}" + "".join(f"{value:>7.1f}" for value in values) for name, values in rows)
