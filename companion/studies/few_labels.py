"""How few labels are enough? Fine-tuning, frozen vectors and a bag of words on samples of a set, over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from companion.applications.search.embedder import SentenceEmbedder
from companion.data.catalogue import CATALOGUE
from companion.data.labelled import load_dataset, texts_and_labels
from companion.finetuning.classifier import TextClassifier
from companion.studies.baselines import new_baseline
from companion.studies.tasks import bench_source, data_checksum, open_record
from companion.support.require import choice, integer, require

Rows = tuple[list[Any], list[str]]  # texts and their labels

SETS = {
    "genres": ("entities", "genre"),
    "reviews": ("reviews", "label"),
    "headlines": ("headlines", "label"),
    "messages": ("messages", "label"),
    "tickets": ("tickets", "label"),
    "ag_news": ("ag_news", "label"),
}
LABELS = (20, 50, 200)
SETTINGS: dict[str, Any] = {"batch_size": 16, "dropout": 0.0, "learning_rate": 5e-4, "max_length": 64}
METHODS = ("fine-tuned", "frozen vectors", "bag of words", "from scratch")
VARIANTS: dict[str, dict[str, Any]] = {
    "fine-tuned": {},
    "layer-wise rates": {"layer_decay": 0.7},
    "three passes": {"epochs": 3},
    "ten times the rate": {"learning_rate": 5e-3},
    "ten times the rate, no warm-up": {"learning_rate": 5e-3, "warmup_share": 0.0},
}
TESTED = 1000  # texts at most that are scored on


def passes(labels: int) -> int:
    """Return how often to go through so many texts: often where they are few (Mosbach et al. 2021, section 6).

    >>> [passes(labels) for labels in (20, 50, 200, 2000)]
    [40, 20, 8, 8]
    """
    return min(40, max(8, 1000 // labels))


def few_label_rows(name: str) -> tuple[Rows, Rows]:
    """Return the texts and labels of a set to draw from, and those to be scored on, at most `TESTED`.

    Parameters
    ----------
    name : str
        A key of `SETS`. The words of a text that is stored as words, and the two texts of a pair, are joined.

    Raises
    ------
    ValueError
        If the set is unknown.
    """
    choice("task", name, SETS)
    source, label = SETS[name]
    card, splits = CATALOGUE[source], load_dataset(source)
    parts = [texts_and_labels(splits[part], card.texts, label) for part in ("train", card.scored_on)]
    whole, scored = (([t if isinstance(t, str) else " ".join(t) for t in texts], labels) for texts, labels in parts)
    return whole, (scored[0][:TESTED], scored[1][:TESTED])


def balanced_sample(labels: Sequence[str], count: int, seed: int) -> np.ndarray:
    """Return the indices of `count` texts, as many of every class as there are, or nearly.

    Parameters
    ----------
    labels : sequence of str
    count : int
        At least one for each class.
    seed : int

    Returns
    -------
    ndarray, int, (count,)
        The classes take turns, in the order of their names, until one has no text left.

    Raises
    ------
    ValueError
        If `count` is below the number of classes or above that of the texts.
    """
    classes, numbers = np.unique(np.asarray(labels), return_inverse=True)
    allowed = f"from {len(classes)}, the classes, to {len(labels)}, the texts"
    require("count", count, len(classes) <= count <= len(labels), allowed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    rank = np.empty(len(labels), dtype=int)  # of a text among those of its class
    for number in range(len(classes)):
        of_class = order[numbers[order] == number]
        rank[of_class] = np.arange(len(of_class))
    return np.lexsort((numbers, rank))[:count]


def answers_of(method: str, train: Rows, texts: list[str], model: str | Path, seed: int, **options: Any) -> np.ndarray:
    """Return what a method answers to texts, after learning from a few.

    Parameters
    ----------
    method : str
        One of `METHODS` or `VARIANTS`.
    train : (list of str, list of str)
        Texts and labels to learn from.
    texts : list of str
    model : str or Path
        As in `TextClassifier`.
    seed : int
        Of the new head and the order of the texts; neither frozen vectors nor words depend on it.
    **options
        Parameters of `TextClassifier` in the place of `SETTINGS`.
    """
    choice("method", method, {*METHODS, *VARIANTS})
    if method == "bag of words":
        return new_baseline("bag_of_words").fit(*train).predict(texts)
    if method == "frozen vectors":
        return frozen_classifier(model, options.get("precision")).fit(*train).predict(texts)
    changes = {"from_scratch": True} if method == "from scratch" else VARIANTS[method]
    settings = {"epochs": passes(len(train[0]))} | SETTINGS | changes | options
    return TextClassifier(model, random_state=seed, **settings).fit(*train).predict(texts)


def frozen_classifier(model: str | Path, precision: str | None = None) -> Any:
    """Return a pipeline: the mean vector of a text as the network gives it, scaled, and a logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    embedder = SentenceEmbedder(model, max_length=SETTINGS["max_length"], precision=precision)
    return make_pipeline(embedder, StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))


def measure_few_labels(
    model: str | Path,
    output: str | Path,
    *,
    task: str = "genres",
    methods: Sequence[str] = METHODS,
    seeds: int = 5,
    spread: int = 0,
    progress: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Learn from `LABELS` many texts of a set with each of some methods, and write the record after each run.

    Parameters
    ----------
    model : str or Path
        As in `TextClassifier`.
    output : str or Path
        The record, a JSON file; runs that it holds are not done again. Several tasks can share it.
    task : str
        A key of `SETS`.
    methods : sequence of str
        Some of `METHODS`; the two that train no network take seconds.
    seeds : int
        Samples of each size; seed 0, 1, ... decides the texts, the new head and the order.
    spread : int
        Further runs of each of `VARIANTS` on one sample of 50 texts, which differ in the head and the order alone.
    progress : bool
        Show a progress bar.
    **options
        Other parameters of `TextClassifier`: `device`, `precision`.

    Returns
    -------
    dict
        `config`, `data` and `entries`, one for each `task`, `method`, `labels`, `draw` (which sample) and `seed`, with
        its `accuracy`, the share of the `commonest` answer, and `provenance`.

    Raises
    ------
    ValueError
        If the task or a method is unknown, `seeds` is below 1, `spread` below 0, or the record is of another
        measurement.
    FileNotFoundError
        If the data are not there.
    """
    from tqdm.auto import tqdm

    integer("seeds", seeds, minimum=1)
    integer("spread", spread, minimum=0)
    for method in methods:
        choice("method", method, METHODS)
    whole, (texts, truth) = few_label_rows(task)
    source, _ = SETS[task]
    data = {source: data_checksum(load_dataset(source), ("train", CATALOGUE[source].scored_on))}
    record = open_record("few-labels", model, output, options, {"settings": SETTINGS}, data)
    given = {"task": task, "seeds": seeds, "spread": spread} | options
    origin = bench_source("few-labels", model, output, given)
    runs = [{"task": task, **run} for run in _runs(methods, seeds, spread)]
    for run in tqdm([run for run in runs if record.find(**run) is None], disable=not progress, unit="run"):
        sample = balanced_sample(whole[1], min(run["labels"], len(whole[1])), run["draw"])
        few = ([whole[0][i] for i in sample], [whole[1][i] for i in sample])
        record.add(run | _scores(answers_of(run["method"], few, texts, model, run["seed"], **options), truth), origin)
    return record.to_dict()


def _runs(methods: Sequence[str], seeds: int, spread: int) -> Iterator[dict[str, Any]]:
    for seed in range(seeds):
        for labels in LABELS:
            for method in methods:
                yield {"method": method, "labels": labels, "draw": seed, "seed": seed}
    for seed in range(spread):
        for method in VARIANTS:
            yield {"method": method, "labels": 50, "draw": 0, "seed": seed}


def _scores(answers: np.ndarray, truth: Sequence[str]) -> dict[str, float]:
    counts = np.unique(answers, return_counts=True)[1]
    return {"accuracy": float((answers == np.asarray(truth)).mean()), "commonest": float(counts.max() / len(answers))}


def learning_curves(record: Mapping[str, Any], task: str) -> dict[str, dict[int, list[float]]]:
    """Return the accuracies in percent by method and number of labels, one for each sample."""
    entries = [entry for entry in record["entries"] if entry["task"] == task and entry["draw"] == entry["seed"]]
    return {
        method: {
            labels: [100 * e["accuracy"] for e in entries if (e["method"], e["labels"]) == (method, labels)]
            for labels in LABELS
        }
        for method in METHODS
    }


def spreads(record: Mapping[str, Any], task: str, score: str = "accuracy") -> dict[str, list[float]]:
    """Return a score in percent of the runs of each of `VARIANTS` on one sample, a list over the seeds."""
    entries = [e for e in record["entries"] if (e["task"], e["labels"], e["draw"]) == (task, 50, 0)]
    return {method: [100 * e[score] for e in entries if e["method"] == method] for method in VARIANTS}


def few_labels_table(record: Mapping[str, Any]) -> str:
    """Set the record of `measure_few_labels` as text: medians in percent, a row for each task and method."""
    lines = [f"{'':<28}" + "".join(f"{labels:>7}" for labels in LABELS)]
    for task in dict.fromkeys(entry["task"] for entry in record["entries"]):
        for method, curve in learning_curves(record, task).items():
            values = [f"{np.median(curve[n]):.1f}" if curve[n] else "-" for n in LABELS]
            lines.append(f"{task + ', ' + method:<28}" + "".join(f"{value:>7}" for value in values))
    return "\n".join(lines)
