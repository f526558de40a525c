"""How alike two texts are, measured with both read together and with each read alone, on the same pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from companion.applications.search.ranking import reciprocal_rank, rerank
from companion.applications.search.tune import tune
from companion.applications.search.vectors import embed, normalise, whitening
from companion.data.labelled import load_dataset
from companion.finetuning.metrics import pearson, spearman
from companion.finetuning.regressor import TextRegressor
from companion.model.encoder import BertModel
from companion.studies.pairs import shared_words
from companion.studies.tasks import TASKS, bench_source, data_checksum, open_record
from companion.support.require import integer
from companion.text.tokenizer import Tokenizer

Pair = tuple[str, str]
WORDS, CLS, MEAN, CENTRED, WHITENED = "shared words", "cls", "mean", "mean, centred", "mean, whitened"
BI, CROSS = "bi-encoder", "cross-encoder"
UNTUNED = (WORDS, CLS, MEAN, CENTRED, WHITENED)
SAME = 4.0  # from this human score on, a pair serves as one that means the same
CANDIDATES = 20  # texts that are put in order again


@dataclass(frozen=True)
class Questions:
    """What every method is asked.

    Parameters
    ----------
    train : (list of (str, str), list of float)
        Pairs to learn from, with their human scores.
    scored : (list of (str, str), list of float)
        Pairs to be scored.
    own : list of (str, str)
        The test pairs of the bundled set `pairs`.
    """

    train: tuple[list[Pair], list[float]]
    scored: tuple[list[Pair], list[float]]
    own: list[Pair]

    @classmethod
    def load(cls) -> Questions:
        """Read STS-B and the bundled pairs."""
        splits, task = load_dataset("stsb"), TASKS["stsb"]
        train, scored = (task.rows(splits[part]) for part in task.parts)
        return cls(train, scored, TASKS["pairs"].rows(load_dataset("pairs")["test"])[0])

    @property
    def collection(self) -> list[str]:
        """The different second sentences of the scored pairs."""
        return list(dict.fromkeys(second for _, second in self.scored[0]))

    @property
    def searches(self) -> dict[str, list[int]]:
        """First sentences with the numbers of those in the collection that people called the same."""
        place = {text: number for number, text in enumerate(self.collection)}
        found: dict[str, list[int]] = {}
        for (first, second), score in zip(*self.scored, strict=True):
            if score >= SAME:
                found.setdefault(first, []).append(place[second])
        return found


class BiEncoder:
    """The cosine of two vectors, each of one text.

    Parameters
    ----------
    model : BertModel
    tokenizer : Tokenizer
    pooling : {"mean", "cls", "max"}
        As in `companion.applications.search.vectors.pool`.
    precision : str, optional
        As in `companion.support.devices`.
    """

    def __init__(self, model: BertModel, tokenizer: Tokenizer, pooling: str = "mean", precision: str | None = None):
        self.model, self.tokenizer = model, tokenizer
        self.options: dict[str, Any] = {"pooling": pooling, "precision": precision}
        self.mean: np.ndarray | float = 0.0
        self.matrix: np.ndarray | None = None

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Return one vector of length 1 per text, (texts, hidden)."""
        found = embed(texts, self.model, self.tokenizer, **self.options) - self.mean
        return normalise(found if self.matrix is None else found @ self.matrix)

    def centre(self, texts: Sequence[str], whiten: bool = False) -> None:
        """Learn from some texts which mean to subtract, and with `whiten` how to stretch what is left."""
        found = embed(texts, self.model, self.tokenizer, **self.options)
        self.mean = found.mean(axis=0)
        if whiten:
            self.mean, self.matrix = whitening(found, min(found.shape[1], len(found) - 1))

    def predict(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Return the cosine of every pair, (pairs,)."""
        firsts, seconds = (self.vectors(list(side)) for side in zip(*pairs, strict=True))
        return (firsts * seconds).sum(axis=1)


def measure_similarity(
    model: str | Path, output: str | Path, *, seeds: int = 3, progress: bool = True, **options: Any
) -> dict[str, Any]:
    """Score the pairs of STS-B with a checkpoint in several ways, and write the record after each.

    Without training: how many words a pair shares, and cosines of `[CLS]`, of means, of centred and of whitened means
    (centred and whitened on the training sentences). Trained over seeds: a bi-encoder on the training pairs that people
    scored 4 or higher, with `companion.applications.search.tune.tune` (three passes, 32 pairs a step), and a
    cross-encoder, `TextRegressor`, on all of them.

    Parameters
    ----------
    model : str or Path
        As in `BertModel.from_pretrained`.
    output : str or Path
        The record, a JSON file; what it holds is not measured again.
    seeds : int
        The seeds are 0, 1, ...
    progress : bool
        Show a progress bar.
    **options
        Of both trainings: `learning_rate`, `device`, `precision`.

    Returns
    -------
    dict
        `entries`, one for each `method` and, of trained ones, `seed`: `pearson` and `spearman` with the human scores,
        `by_score`, the score of a pair at 10, 50 and 90% for five ranges of the human score, and `own`, one score for
        each test pair of `pairs`. Of bi-encoders also `random`, the mean cosine of pairs put together by chance, and
        `search`, the mean reciprocal rank of a sentence that means the same among all second sentences; of
        cross-encoders `search` after the first 20 of the bi-encoder of the same seed are put in order again, and
        `swapped`, as `own` with the texts exchanged.

    Raises
    ------
    ValueError
        If `seeds` is below 1, or the record is of another measurement.
    FileNotFoundError
        If the data or the checkpoint are not there.
    """
    from tqdm.auto import tqdm

    integer("seeds", seeds, minimum=1)
    asked, task = Questions.load(), TASKS["stsb"]
    splits = {name: load_dataset(name) for name in ("stsb", "pairs")}
    data = {"stsb": data_checksum(splits["stsb"], task.parts), "pairs": data_checksum(splits["pairs"], ("test",))}
    settings = {"same_from": SAME, "candidates": CANDIDATES, "epochs": task.card.epochs}
    record = open_record("similarity", model, output, options, settings, data)
    source = bench_source("similarity", model, output, {"seeds": seeds} | options)
    runs = [{"method": method} for method in UNTUNED] + [{"method": "trained", "seed": seed} for seed in range(seeds)]
    for run in tqdm(runs, disable=not progress, unit="method"):
        if "seed" not in run and record.find(**run) is None:
            record.add(run | _untuned(run["method"], model, asked, options.get("precision")), source)
        elif "seed" in run and record.find(method=CROSS, seed=run["seed"]) is None:
            for entry in _trained(model, asked, run["seed"], options):
                if record.find(method=entry["method"], seed=run["seed"]) is None:
                    record.add(entry, source)
    return record.to_dict()


def _untuned(method: str, model: str | Path, asked: Questions, precision: str | None) -> dict[str, Any]:
    if method == WORDS:
        return _scored(shared_words(asked.scored[0])[:, 0], shared_words(asked.own)[:, 0], asked)
    pooling = CLS if method == CLS else "mean"
    encoder = BiEncoder(BertModel.from_pretrained(model), Tokenizer.from_pretrained(model), pooling, precision)
    if method in (CENTRED, WHITENED):
        encoder.centre(list(dict.fromkeys(text for pair in asked.train[0] for text in pair)), method == WHITENED)
    return _by_vectors(encoder, asked)


def _trained(model: str | Path, asked: Questions, seed: int, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Train a bi-encoder and a cross-encoder, and return what both find."""
    same = [pair for pair, score in zip(*asked.train, strict=True) if score >= SAME]
    steps = 3 * (len(same) // min(32, len(same)))
    tuned, _ = tune(same, model, steps=steps, batch_size=32, seed=seed, **options)
    encoder = BiEncoder(tuned, Tokenizer.from_pretrained(model), precision=options.get("precision"))
    regressor = TextRegressor(model, epochs=TASKS["stsb"].card.epochs, random_state=seed, **options).fit(*asked.train)
    scores = _search_scores(encoder, asked)
    again = rerank(scores, list(asked.searches), asked.collection, regressor, CANDIDATES)
    cross = _scored(regressor.predict(asked.scored[0]), regressor.predict(asked.own), asked)
    cross |= {"swapped": _rounded(regressor.predict([(b, a) for a, b in asked.own]))}
    cross |= {"search": reciprocal_rank(again, list(asked.searches.values()))}
    return [{"method": BI, "seed": seed} | _by_vectors(encoder, asked), {"method": CROSS, "seed": seed} | cross]


def _search_scores(encoder: BiEncoder, asked: Questions) -> np.ndarray:
    return encoder.vectors(list(asked.searches)) @ encoder.vectors(asked.collection).T


def _by_vectors(encoder: BiEncoder, asked: Questions) -> dict[str, Any]:
    search = reciprocal_rank(_search_scores(encoder, asked), list(asked.searches.values()))
    found = encoder.vectors(asked.collection)
    count = len(found)
    random = float(((found @ found.T).sum() - count) / (count * (count - 1)))
    entry = _scored(encoder.predict(asked.scored[0]), encoder.predict(asked.own), asked)
    return entry | {"random": random, "search": search}


def _scored(scores: np.ndarray, own: np.ndarray, asked: Questions) -> dict[str, Any]:
    truth = np.array(asked.scored[1])
    ranges = np.minimum(truth.astype(int), 4)  # 0 to 1, 1 to 2, ..., 4 to 5
    by_score = [np.quantile(scores[ranges == i], [0.1, 0.5, 0.9]).tolist() for i in range(5) if (ranges == i).any()]
    found = {"pearson": float(pearson(truth, scores)), "spearman": float(spearman(truth, scores))}
    return found | {"by_score": [_rounded(values) for values in by_score], "own": _rounded(own)}


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 4) for value in values]


def similarity_table(record: Mapping[str, Any]) -> str:
    """Set the record of `measure_similarity` as text: correlations in percent, and the mean reciprocal rank."""
    lines = [f"{'':<20}{'pearson':>10}{'spearman':>10}{'search':>10}"]
    for entry in record["entries"]:
        name = entry["method"] + (f", {entry['seed']}" if "seed" in entry else "")
        search = f"{entry['search']:>10.3f}" if "search" in entry else ""
        lines.append(f"{name:<20}{100 * entry['pearson']:>10.1f}{100 * entry['spearman']:>10.1f}{search}")
    return "\n".join(lines)
