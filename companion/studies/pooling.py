"""Which vector should stand for a text? The pooler, `[CLS]` as it is, or the mean: fine-tuned, over several seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from companion.applications.search.vectors import pool
from companion.data.labelled import load_dataset
from companion.finetuning.classifier import TextClassifier
from companion.model.encoder import all_tokens, initialise
from companion.model.heads import BertForSequenceClassification
from companion.model.outputs import BertModelOutput
from companion.studies.tasks import TASKS, bench_source, data_checksum, open_record
from companion.support.devices import generators_kept, seed_everything
from companion.support.require import choice, integer


class FirstTokenModel(BertForSequenceClassification):
    """A classifier on the last vector of `[CLS]`, without the pooler."""

    pooler = False

    def pooled(self, output: BertModelOutput, attention_mask: Tensor | None) -> Tensor:
        """Return the first vector of every text, (batch, hidden)."""
        return output.last_hidden_state[:, 0]


class MeanModel(BertForSequenceClassification):
    """A classifier on the mean of the last vectors of all tokens."""

    pooler = False
    reads = staticmethod(all_tokens)

    def pooled(self, output: BertModelOutput, attention_mask: Tensor | None) -> Tensor:
        """Return the mean over the tokens that are not padding, (batch, hidden)."""
        hidden = output.last_hidden_state  # (batch, tokens, hidden)
        mask = hidden.new_ones(hidden.shape[:2]) if attention_mask is None else attention_mask
        return pool(hidden, mask, "mean")


class FirstTokenClassifier(TextClassifier):
    """`TextClassifier` on `[CLS]` as it is."""

    MODEL = FirstTokenModel


class MeanClassifier(TextClassifier):
    """`TextClassifier` on the mean of all tokens."""

    MODEL = MeanModel


class NewPoolerClassifier(TextClassifier):
    """`TextClassifier` whose pooler is new, as its head is."""

    def _start(self, seed: int, **changes: Any) -> Any:
        model, tokenizer = super()._start(seed, **changes)
        with generators_kept():
            seed_everything(seed)
            initialise(model.bert.get_submodule("pooler"), model.config.initializer_range)
        return model, tokenizer


POOLINGS = {
    "pooler": TextClassifier,
    "new pooler": NewPoolerClassifier,
    "[CLS]": FirstTokenClassifier,
    "mean": MeanClassifier,
}


def measure_pooling(
    model: str | Path,
    output: str | Path,
    *,
    task: str = "reviews",
    seeds: int = 3,
    progress: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Fine-tune a checkpoint with each of `POOLINGS` over seeds, and write the record after each run.

    Parameters
    ----------
    model : str or Path
        As in `TextClassifier`.
    output : str or Path
        The record, a JSON file; runs that it holds are not done again.
    task : str
        A key of `companion.studies.tasks.TASKS` with one label per text.
    seeds : int
        The seeds are 0, 1, ...
    progress : bool
        Show a progress bar.
    **options
        Other parameters of `TextClassifier`.

    Returns
    -------
    dict
        `config`, `data` and `entries`, one for each `pooling` and `seed` with its `accuracy` and `provenance`.

    Raises
    ------
    ValueError
        If the task is unknown or not one of single labels, `seeds` is below 1, or the record is of another measurement.
    """
    from tqdm.auto import tqdm

    choice("task", task, [name for name, entry in TASKS.items() if entry.card.kind == "single"])
    integer("seeds", seeds, minimum=1)
    splits = load_dataset(task)
    train, test = (TASKS[task].rows(splits[part]) for part in TASKS[task].parts)
    options = {"epochs": TASKS[task].card.epochs} | options
    data = {task: data_checksum(splits, TASKS[task].parts)}
    record = open_record("pooling", model, output, options, {"task": task}, data)
    source = bench_source("pooling", model, output, {"task": task, "seeds": seeds} | options)
    runs = [{"pooling": name, "seed": seed} for seed in range(seeds) for name in POOLINGS]
    for run in tqdm([run for run in runs if record.find(**run) is None], disable=not progress, unit="run"):
        estimator = POOLINGS[run["pooling"]](model, random_state=run["seed"], **options)
        record.add(run | {"accuracy": estimator.fit(*train).score(*test)}, source)
    return record.to_dict()


def accuracies(record: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the accuracies of a record in percent, a list over the seeds for each pooling."""
    entries = sorted(record["entries"], key=lambda entry: entry["seed"])
    return {name: [100 * e["accuracy"] for e in entries if e["pooling"] == name] for name in POOLINGS}


def pooling_table(record: Mapping[str, Any]) -> str:
    """Set the record of `measure_pooling` as text: a row for each pooling, a column for each seed."""
    rows = accuracies(record).items()
    return "\n".join(f"{name:<12}" + "".join(f"{value:>7.1f}" for value in values) for name, values in rows)
