"""Public benchmarks: which columns and scores each has, and how a checkpoint is measured on them over several seeds.

A score says little alone. `measure_tasks` puts three others beside it: that of one constant answer, of a bag of words,
and of the same network without pre-training.
"""

from __future__ import annotations

import hashlib
import logging
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from companion.data.catalogue import CATALOGUE, Card
from companion.data.labelled import load_dataset, texts_and_labels
from companion.finetuning.classifier import TextClassifier
from companion.finetuning.metrics import (
    accuracy,
    entity_scores,
    matthews_correlation,
    pearson,
    precision_recall_f1,
    spearman,
)
from companion.finetuning.regressor import TextRegressor
from companion.finetuning.tagger import TokenTagger
from companion.model.checkpoints import weights_checksum
from companion.studies.baselines import new_baseline
from companion.studies.settings import search_learning_rate
from companion.support.devices import best_device, precision_for
from companion.support.locate import locate
from companion.support.record import RunRecord, hardware_of, provenance
from companion.support.require import choice, integer, require

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


logger = logging.getLogger(__name__)
Score = Callable[[Sequence[Any], Sequence[Any]], float]


@dataclass(frozen=True)
class Task:
    """A labelled set of the catalogue, and how it is scored.

    Parameters
    ----------
    card : Card
        What the catalogue says of it.
    """

    card: Card

    @property
    def scores(self) -> dict[str, Score]:
        """Name to ``score(truth, predicted)``, the usual one of the set first."""
        return {name: SCORES[name] if name in SCORES else self._own(name) for name in self.card.scores}

    def _own(self, name: str) -> Score:
        """Return a score that depends on a label of the set."""
        card = self.card
        if name == "f1":
            return lambda truth, found: precision_recall_f1(truth, found, average="binary", positive=card.positive).f1

        def accuracy_of_a_part(truth: Sequence[Any], found: Sequence[Any]) -> float:
            wanted = [(label == card.outside) == (name == "out_of_scope_recall") for label in truth]
            return accuracy(list(compress(truth, wanted)), list(compress(found, wanted)))

        return accuracy_of_a_part

    @property
    def estimator(self) -> type[TextClassifier | TextRegressor | TokenTagger]:
        """What learns it."""
        return ESTIMATORS[self.card.kind]

    @property
    def parts(self) -> tuple[str, str]:
        """The part to learn from and the part to be scored on: where a public set keeps its test labels, validation."""
        return "train", self.card.scored_on

    def rows(self, split: Dataset) -> tuple[list[Any], list[Any]]:
        """Return the texts and the labels of a split."""
        return texts_and_labels(split, self.card.texts, self.card.label)


SCORES: dict[str, Score] = {
    "accuracy": accuracy,
    "entity_f1": lambda truth, predicted: entity_scores(truth, predicted).f1,
    "matthews": matthews_correlation,
    "pearson": pearson,
    "spearman": spearman,
}
ESTIMATORS = {"single": TextClassifier, "regression": TextRegressor, "tags": TokenTagger}
GLUE = ("sst2", "cola", "mrpc", "rte", "stsb")
PUBLIC = (*GLUE, "ag_news", "clinc150", "financial_phrasebank", "wnut17", "wikineural_en", "chnsenticorp")
TASKS = {name: Task(CATALOGUE[name]) for name in (*PUBLIC, "reviews", "pairs")}
BASELINES = ("constant", "bag_of_words")
NETWORKS = ("pretrained", "from_scratch")


def measure_tasks(
    names: Sequence[str],
    model: str | Path,
    output: str | Path,
    *,
    seeds: int = 3,
    search_rows: int | None = None,
    progress: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Measure `model`, the same network without pre-training, and two baselines on tasks; write the record after each.

    Parameters
    ----------
    names : sequence of str
        Keys of `TASKS`.
    model : str or Path
        As in `TextClassifier`.
    output : str or Path
        The record, a JSON file. What it already holds is not measured again, so a measurement that was stopped goes on
        with the same call.
    seeds : int
        The seeds are 0, 1, ...
    search_rows : int, optional
        As in `measure_task`.
    progress : bool
        Show a progress bar.
    **options
        As in `measure_task`, but for `from_scratch`.

    Returns
    -------
    dict
        `name`, `kind`, `config`, `data` (for every task `rows` and `checksum`) and `entries`, one for each `task` and
        `part`: "constant" and "bag_of_words" with `scores` (score to value), "pretrained" and "from_scratch" with
        `parameters`, `search`, `seeds`, `scores` (score to one value per seed) and `median`; each with its
        `provenance`.

    Raises
    ------
    ValueError
        If a task is unknown, `seeds` is below 1, or the record is of another measurement.
    FileNotFoundError
        If the data or the checkpoint are not there.
    """
    from tqdm.auto import tqdm

    for name in names:
        choice("task", name, TASKS)
    integer("seeds", seeds, minimum=1)
    epochs = {name: task.card.epochs for name, task in TASKS.items()}
    record = open_record("tasks", model, output, options, {"seeds": seeds, "epochs": epochs}, {})
    parts = [(name, part) for name in names for part in (*BASELINES, *NETWORKS)]
    todo = [(name, part) for name, part in parts if record.find(task=name, part=part) is None]
    for name, part in tqdm(todo, disable=not progress, unit="score"):
        if part in BASELINES:
            entry = {"scores": baseline_scores(name, part)}
        else:
            network = options | {"from_scratch": part == "from_scratch", "search_rows": search_rows}
            entry = measure_task(name, model, seeds=range(seeds), **network)
            record.data[name] = entry.pop("data")
        command = {"task": name, "seeds": seeds, "search_rows": search_rows} | options
        record.add({"task": name, "part": part} | entry, bench_source("tasks", model, output, command))
    return record.to_dict()


def by_task(record: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the entries of a record by task and part."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in record["entries"]:
        found.setdefault(entry["task"], {})[entry["part"]] = entry
    return found


def baseline_scores(name: str, baseline: str) -> dict[str, float | None]:
    """Return the scores of a baseline on the part of a task that is scored (see `Task.parts`).

    Parameters
    ----------
    name : str
        A key of `TASKS`.
    baseline : {"constant", "bag_of_words"}
        As in `companion.studies.baselines.new_baseline`. The texts of a pair are joined.

    Returns
    -------
    dict
        Score to value; None where a score does not exist, as the correlation with a constant.
    """
    task, splits = TASKS[name], load_dataset(name)
    (train, labels), (texts, truth) = (task.rows(splits[part]) for part in task.parts)
    model = new_baseline(baseline, task.card.kind, task.card.analyzer)
    predicted = model.fit(_joined(train), labels).predict(_joined(texts))
    if baseline == "constant" and task.card.kind == "regression":
        return dict.fromkeys(task.scores)
    return {score: float(function(truth, list(predicted))) for score, function in task.scores.items()}


def _joined(texts: Sequence[Any]) -> list[Any]:
    """Return pairs as one text each, and everything else as it is."""
    return [" ".join(text) if isinstance(text, tuple) else text for text in texts]


def measure_task(
    name: str,
    model: str | Path = "mini",
    *,
    seeds: Sequence[int] = (0, 1, 2),
    search_rows: int | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Fine-tune `model` on a task once per seed, and score it (see `Task.parts`).

    Parameters
    ----------
    name : str
        A key of `TASKS`; the data are found as `companion.data.labelled.load_dataset` finds them.
    model : str or Path
        As in `TextClassifier`.
    seeds : sequence of int
    search_rows : int, optional
        Search the learning rate on so many rows of the training part, as
        `companion.studies.settings.search_learning_rate` does; None takes the default.
    **options
        Other parameters of the estimator, such as `from_scratch`, `epochs`, `learning_rate`.

    Returns
    -------
    dict
        `data` (`rows` of the parts and `checksum`), `parameters` of the estimator, `search` (its results, the best
        first), `seeds`, `scores` (name to one value per seed) and `median` (name to value).

    Raises
    ------
    ValueError
        If the task is unknown, there is no seed, or a column is missing.
    FileNotFoundError
        If its data are not there.
    """
    choice("task", name, TASKS)
    require("seeds", list(seeds), len(seeds) > 0, "one seed or more")
    task, splits = TASKS[name], load_dataset(name)
    estimator = task.estimator(model, **{"epochs": task.card.epochs} | options)
    train, truth = (task.rows(splits[part]) for part in task.parts)
    search = []
    if search_rows is not None:
        search = search_learning_rate(estimator, *train, next(iter(task.scores.values())), rows=search_rows)
        estimator.set_params(learning_rate=search[0]["learning_rate"])
    scores: dict[str, list[float]] = {score: [] for score in task.scores}
    for seed in seeds:
        predicted = estimator.set_params(random_state=seed).fit(*train).predict(truth[0])
        for score, function in task.scores.items():
            scores[score].append(function(truth[1], predicted))
        logger.info("%s, seed %d: %s", name, seed, {score: round(values[-1], 4) for score, values in scores.items()})
    parameters = {
        key: value for key, value in estimator.get_params().items() if key not in ("random_state", "progress")
    }
    return {
        "data": {
            "rows": {part: len(splits[part]) for part in task.parts},
            "checksum": data_checksum(splits, task.parts),
        },
        "parameters": parameters | {"model": Path(model).name, "learning_rate": estimator.learning_rate_},
        "search": search,
        "seeds": list(seeds),
        "scores": scores,
        "median": {score: statistics.median(values) for score, values in scores.items()},
    }


def tasks_table(record: Mapping[str, Any]) -> str:
    """Set the record of `measure_tasks` as text: medians over the seeds in percent, and in brackets the range."""
    lines = [f"{'':<34}{'constant':>10}{'bag of words':>14}{'from scratch':>22}{record['config']['model']:>22}"]
    for name, entry in by_task(record).items():
        for score in TASKS[name].scores:
            title = f"{name}, {score}"
            fixed = [entry[part]["scores"][score] for part in BASELINES]
            nets = [_with_range(entry[part]["scores"][score]) for part in reversed(NETWORKS)]
            lines.append(f"{title:<34}{_percent(fixed[0]):>10}{_percent(fixed[1]):>14}{nets[0]:>22}{nets[1]:>22}")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _with_range(values: Sequence[float]) -> str:
    return f"{_percent(statistics.median(values))} ({_percent(min(values))} to {_percent(max(values))})"


def open_record(
    kind: str,
    model: str | Path,
    output: str | Path,
    options: Mapping[str, Any],
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
) -> RunRecord:
    """Return the record of a checkpoint in `output`, if it is of this measurement, or a new one.

    Parameters
    ----------
    kind : str
        Which measurement it is.
    model, output : str or Path
        The checkpoint, whose name and checksum are kept, and the file.
    options, settings : mapping
        Parameters of the estimator; what else the measurement is defined by.
    data : mapping
        Checksums of the data.

    Raises
    ------
    ValueError
        If the file is of another measurement.
    """
    precision = precision_for(best_device(options.get("device")), options.get("precision"))
    config = {"model": Path(model).name, **settings, "options": dict(options), "precision": precision}
    return RunRecord.open(output, kind, config | {"weights_checksum": weights_checksum(locate(model))}, data)


def bench_command(name: str, model: str | Path, output: str | Path, options: Mapping[str, Any]) -> str:
    """Return the command line of a measurement of one network; an option that is None is left out."""
    parts = ["companion", "bench", name, "--model", Path(model).name]
    for option, value in options.items():
        parts += [] if value is None else [f"--{option.replace('_', '-')}", value]
    return shlex.join(map(str, [*parts, "--output", Path(output).name]))


def bench_source(name: str, model: str | Path, output: str | Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance of what `bench_command` measures; `device` and `precision` are among the options."""
    hardware = hardware_of(options.get("device"), options.get("precision"))
    return provenance(bench_command(name, model, output, options), hardware)


def data_checksum(splits: DatasetDict, parts: Sequence[str] = ("train", "validation")) -> str:
    """Return a SHA-256 of the rows of some parts."""
    digest = hashlib.sha256()
    for part in parts:
        for row in splits[part]:
            digest.update(repr(sorted(row.items())).encode())
    return digest.hexdigest()
