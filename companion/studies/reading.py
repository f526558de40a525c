"""Answers from a text: what a checkpoint learns from few questions, from many, and from many and then few."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from companion.data.catalogue import CATALOGUE
from companion.data.labelled import load_dataset, texts_and_labels
from companion.finetuning.answerer import QuestionAnswerer
from companion.finetuning.answers import answer_f1, exact_match
from companion.finetuning.overlap import overlap_answer, overlapping_sentence
from companion.model.heads import BertForQuestionAnswering
from companion.studies.tasks import bench_command, data_checksum, open_record
from companion.support.record import RunRecord, hardware_of, provenance
from companion.support.require import choice, integer

SETS = {"passages": "test", "squad_v1_subset": "validation"}  # and the part that is scored
BASELINES: dict[str, Callable[[str, str], str]] = {
    "no answer": lambda question, text: "",
    "best sentence": overlapping_sentence,
    "word overlap": overlap_answer,
}
CHAINS = {"passages": ("passages",), "squad_v1_subset": ("squad_v1_subset", "passages")}


class ContinuedReader(QuestionAnswerer):
    """`QuestionAnswerer` that starts from the head of its checkpoint, not from a new one."""

    def _start(self, seed: int, **changes: Any) -> Any:
        model, tokenizer = super()._start(seed, **changes)
        model.load_state_dict(BertForQuestionAnswering.from_pretrained(self.model).state_dict())
        return model, tokenizer


def measure_reading(
    model: str | Path,
    output: str | Path,
    *,
    train: Sequence[str] = ("passages",),
    seeds: int = 3,
    progress: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Measure how well a checkpoint answers from a text after fine-tuning; write the record after each training.

    Parameters
    ----------
    model : str or Path
        As in `QuestionAnswerer`.
    output : str or Path
        The record, a JSON file; trainings that it holds are not done again.
    train : sequence of {"passages", "squad_v1_subset"}
        What to learn from. From the passages, also the same network without pre-training learns; what was learned from
        SQuAD is measured, and measured again after a further training on the passages.
    seeds : int
        The seeds are 0, 1, ...
    progress : bool
        Show a progress bar.
    **options
        Other parameters of `QuestionAnswerer`.

    Returns
    -------
    dict
        `config`, `data` and `entries`, one for each of `BASELINES` and each set, and one for each training with
        `trained`, `pretrained`, `seed` and `parameters`; each with `scores`, set to what `reading_scores` returns.

    Raises
    ------
    ValueError
        If a set is unknown, `seeds` is below 1, or the record is of another measurement.
    """
    from tqdm.auto import tqdm

    for name in train:
        choice("train", name, CHAINS)
    integer("seeds", seeds, minimum=1)
    splits = {name: load_dataset(name, progress=progress) for name in SETS if name == "passages" or name in train}
    record = open_record("reading", model, output, options, {}, {})
    record.data |= {name: data_checksum(found, ("train", SETS[name])) for name, found in splits.items()}
    source = _source(model, output, train, {"seeds": seeds} | options)
    scored = {name: _rows(splits[name][SETS[name]], name) for name in splits}
    for name, part in ((name, part) for name in BASELINES for part in scored):
        if not any(part in entry["scores"] for entry in grouped(record.to_dict()).get(name, ())):
            record.add({"baseline": name, "scores": {part: _baseline_scores(BASELINES[name], *scored[part])}}, source)
    for name, pretrained, seed in tqdm(_todo(record, train, seeds), disable=not progress, unit="training"):
        for entry in _train(CHAINS[name], model, splits, scored, seed, not pretrained, options):
            record.add(entry, source)
    return record.to_dict()


def reading_scores(found: Sequence[str], gold: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the scores of answers: over all questions, over those with and those without an answer.

    Returns
    -------
    dict
        `exact_match` and `f1` as `QuestionAnswerer.evaluate` counts them; `answerable_f1`; `refused`, the share of the
        questions without answer for which none was given; `silent`, the share of the others for which none was given.
        Without a question of the kind, NaN is left out.
    """
    pairs = list(zip(found, gold, strict=True))
    answerable, others = [pair for pair in pairs if pair[1]], [pair for pair in pairs if not pair[1]]
    parts = {
        "exact_match": [exact_match(*pair) for pair in pairs],
        "f1": [answer_f1(*pair) for pair in pairs],
        "answerable_f1": [answer_f1(*pair) for pair in answerable],
        "silent": [float(not answer) for answer, _ in answerable],
        "refused": [float(not answer) for answer, _ in others],
    }
    return {name: float(np.mean(values)) for name, values in parts.items() if values}


def reading_table(record: Mapping[str, Any]) -> str:
    """Set the record of `measure_reading` as text: medians over the seeds, in percent.

    The columns are exact match and F1 over all questions, F1 over those with an answer, and the share of the others
    for which none was given.
    """
    lines = [f"{'':<31}{'scored on':<16}{'EM':>6}{'F1':>6}{'answerable':>12}{'refused':>9}"]
    for title, entries in grouped(record).items():
        for name in dict.fromkeys(name for entry in entries for name in entry["scores"]):
            cells = [_median(entries, name, score) for score in ("exact_match", "f1", "answerable_f1", "refused")]
            shown = ["-" if value is None else f"{100 * value:.1f}" for value in cells]
            lines.append(f"{title:<31}{name:<16}{shown[0]:>6}{shown[1]:>6}{shown[2]:>12}{shown[3]:>9}")
    return "\n".join(lines)


def grouped(record: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the entries of a record by what gave the answers, the seeds of a training together."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in record["entries"]:
        start = "" if entry.get("pretrained", True) else "from scratch, "
        found.setdefault(entry.get("baseline") or start + entry["trained"], []).append(entry)
    return found


def _median(entries: Sequence[Mapping[str, Any]], name: str, score: str) -> float | None:
    values = [entry["scores"][name][score] for entry in entries if score in entry["scores"].get(name, ())]
    return float(np.median(values)) if values else None


def _todo(record: RunRecord, train: Sequence[str], seeds: int) -> list[tuple[str, bool, int]]:
    """Return the set, whether pre-trained, and the seed of what is not measured yet."""
    runs = [(name, True, seed) for seed in range(seeds) for name in train]
    runs += [("passages", False, seed) for seed in range(seeds) if "passages" in train]
    return [run for run in runs if record.find(trained=_called(CHAINS[run[0]]), pretrained=run[1], seed=run[2]) is None]


def _train(
    chain: Sequence[str],
    model: str | Path,
    splits: Mapping[str, Any],
    scored: Mapping[str, tuple[list[Any], list[Any]]],
    seed: int,
    from_scratch: bool,
    options: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    """Train on one set after the other, and yield an entry after each."""
    with TemporaryDirectory() as folder:
        for i, name in enumerate(chain):
            settings = {"epochs": CATALOGUE[name].epochs} | dict(options) | {"random_state": seed}
            first = QuestionAnswerer(model, from_scratch=from_scratch, **settings)
            reader = first if i == 0 else ContinuedReader(folder, **settings)
            reader.fit(*_rows(splits[name]["train"], name)).save(folder)
            yield {
                "trained": _called(chain[: i + 1]),
                "pretrained": not from_scratch,
                "seed": seed,
                "parameters": {"epochs": settings["epochs"], "learning_rate": reader.learning_rate_},
                "scores": {key: _scores_of(reader, *rows) for key, rows in scored.items()},
            }


def _scores_of(reader: QuestionAnswerer, items: list[Any], gold: list[Any]) -> dict[str, float]:
    return reading_scores([answer.text for answer in reader.predict(items)], [one["text"] for one in gold])


def _baseline_scores(answer: Callable[[str, str], str], items: list[Any], gold: list[Any]) -> dict[str, float]:
    return reading_scores([answer(*item) for item in items], [one["text"] for one in gold])


def _rows(split: Any, name: str) -> tuple[list[Any], list[Any]]:
    return texts_and_labels(split, CATALOGUE[name].texts, CATALOGUE[name].label)


def _called(chain: Sequence[str]) -> str:
    return ", then ".join(chain)


def _source(model: str | Path, output: str | Path, train: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
    command = bench_command("reading", model, output, options) + "".join(f" --train {name}" for name in train)
    return provenance(command, hardware_of(options.get("device"), options.get("precision")))
