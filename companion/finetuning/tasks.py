"""Public benchmarks: which columns and scores each has, and how a checkpoint is measured on them over several seeds."""

from __future__ import annotations

import hashlib
import logging
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from companion.datasets import load_dataset, texts_and_labels
from companion.finetuning.classifier import TextClassifier
from companion.finetuning.metrics import accuracy, matthews_correlation, pearson, precision_recall_f1, spearman
from companion.finetuning.regressor import TextRegressor

if TYPE_CHECKING:
    from datasets import DatasetDict

logger = logging.getLogger(__name__)

Score = Callable[[Sequence[Any], Sequence[Any]], float]


@dataclass(frozen=True)
class Task:
    """A labelled set and how it is scored.

    Parameters
    ----------
    texts : tuple of str
        The column of the text, or those of a pair.
    scores : dict of str to callable
        Name to ``score(truth, predicted)``, the usual one of the set first.
    epochs : int
        Passes over its training part: more where it is small.
    label : str
    is_regression : bool
        Whether the labels are numbers on a scale.
    """

    texts: tuple[str, ...]
    scores: dict[str, Score]
    epochs: int
    label: str = "label"
    is_regression: bool = False


def _f1_of(positive: str) -> Score:
    return lambda truth, predicted: precision_recall_f1(truth, predicted, average="binary", positive=positive).f1


_PAIR = ("sentence1", "sentence2")
# The scores are those of GLUE (Wang et al. 2019, section 3).
TASKS = {
    "sst2": Task(("sentence",), {"accuracy": accuracy}, epochs=3),
    "cola": Task(("sentence",), {"matthews": matthews_correlation, "accuracy": accuracy}, epochs=6),
    "mrpc": Task(_PAIR, {"f1": _f1_of("equivalent"), "accuracy": accuracy}, epochs=6),
    "rte": Task(_PAIR, {"accuracy": accuracy}, epochs=6),
    "stsb": Task(_PAIR, {"pearson": pearson, "spearman": spearman}, epochs=6, label="score", is_regression=True),
    "ag_news": Task(("text",), {"accuracy": accuracy}, epochs=3),
    "clinc150": Task(("text",), {"accuracy": accuracy}, epochs=6),
    "financial_phrasebank": Task(("sentence",), {"accuracy": accuracy}, epochs=6),
}


def measure_task(name: str, model: str = "mini", *, seeds: Sequence[int] = (0, 1, 2), **options: Any) -> dict[str, Any]:
    """Fine-tune `model` on a task once a seed, and score it on the validation part.

    Parameters
    ----------
    name : str
        A key of `TASKS`; the data are found as `companion.datasets.load_dataset` finds them.
    model : str or Path
        As in `TextClassifier`.
    seeds : sequence of int
    **options
        Other parameters of `TextClassifier` and `TextRegressor`, such as `from_scratch`, `epochs`, `learning_rate`.

    Returns
    -------
    dict
        `rows` of the parts, `data_checksum`, `parameters` of the estimator, `scores` (name to one value a seed) and
        `median` (name to value).

    Raises
    ------
    ValueError
        If the task is unknown, there is no seed, or a column is missing.
    FileNotFoundError
        If its data are not there.
    """
    if name not in TASKS:
        raise ValueError(f"task {name!r} is unknown; choose from {', '.join(TASKS)}")
    if not seeds:
        raise ValueError("seeds is empty; pass at least one")
    task, splits = TASKS[name], load_dataset(name)
    estimator_class = TextRegressor if task.is_regression else TextClassifier
    estimator = estimator_class(model, **{"epochs": task.epochs} | options)
    parts = (splits["train"], splits["validation"])
    train, truth = (texts_and_labels(part, task.texts, task.label) for part in parts)
    scores: dict[str, list[float]] = {score: [] for score in task.scores}
    for seed in seeds:
        predicted = estimator.set_params(seed=seed).fit(*train).predict(truth[0])
        for score, function in task.scores.items():
            scores[score].append(function(truth[1], predicted))
        logger.info("%s, seed %d: %s", name, seed, {score: round(values[-1], 4) for score, values in scores.items()})
    parameters = {key: value for key, value in estimator.get_params().items() if key not in ("seed", "progress")}
    return {
        "task": name,
        "rows": {part: len(splits[part]) for part in ("train", "validation")},
        "data_checksum": data_checksum(splits),
        "parameters": parameters | {"model": str(model), "learning_rate": estimator.learning_rate_},
        "seeds": list(seeds),
        "scores": scores,
        "median": {score: statistics.median(values) for score, values in scores.items()},
    }


def data_checksum(splits: DatasetDict) -> str:
    """Return a SHA-256 of the rows of the training and the validation part."""
    digest = hashlib.sha256()
    for part in ("train", "validation"):
        for row in splits[part]:
            digest.update(repr(sorted(row.items())).encode())
    return digest.hexdigest()
