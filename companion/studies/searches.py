"""How well encoders find the documentation of Python: the same questions for every one of them, and for words alone."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from companion.applications.search.engine import SearchEngine
from companion.applications.search.ranking import ranks
from companion.data.labelled import load_dataset
from companion.data.questions import PYTHON_MODULES, documented
from companion.model.checkpoints import weights_checksum
from companion.support.locate import locate
from companion.support.record import RunRecord, hardware_of, provenance

WORDINGS = ("documentation", "everyday", "distant")
WORDS = "words (TF-IDF)"


def measure_searches(models: Sequence[str | Path], output: str | Path) -> dict[str, Any]:
    """Search the documentation of Python's standard library with each model, and by words; write the record after each.

    A text's vector is the mean of its tokens, as the model comes. The score is the mean reciprocal rank of the right
    text over the test questions of `python_questions`, by wording (`companion.applications.search.ranking`).

    Parameters
    ----------
    models : sequence of str or Path
        As in `BertModel.from_pretrained`.
    output : str or Path
        The record, a JSON file. What it already holds is not measured again.

    Returns
    -------
    dict
        `name`, `kind`, `config`, `data` (how many texts and questions, and their checksum) and `entries`, one for words
        and one for each model: `search`, `reciprocal_ranks` (wording to one number for each question) and its
        `provenance`; that of a model also `weights_checksum`.

    Raises
    ------
    ValueError
        If the record is of another collection.
    FileNotFoundError
        If a checkpoint is not there.
    """
    folders = {Path(model).name: locate(model) for model in models}
    documents = documented(PYTHON_MODULES)
    names, texts = list(documents), list(documents.values())
    test = load_dataset("python_questions")["test"]
    right = [[names.index(name) for name in answers] for answers in test["names"]]
    checksum = hashlib.sha256(repr((texts, test["question"], right)).encode()).hexdigest()
    data = {"texts": len(texts), "questions": len(test), "checksum": checksum}
    record = RunRecord.open(output, "searches", {"pooling": "mean"}, data)
    for name in (WORDS, *folders):
        if record.find(search=name) is None:
            asked = test["question"]
            scores = _by_vectors(asked, texts, folders[name]) if name in folders else _by_words(asked, texts)
            reciprocal = 1 / ranks(scores, right)
            entry = {"search": name, "reciprocal_ranks": _by_wording(reciprocal, test["wording"])}
            if name in folders:
                entry["weights_checksum"] = weights_checksum(folders[name])
            record.add(entry, provenance(_command(name, output), hardware_of()))
    return record.to_dict()


def _by_words(questions: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True).fit(texts)
    return (words.transform(questions) @ words.transform(texts).T).toarray()


def _by_vectors(questions: Sequence[str], texts: Sequence[str], folder: Path) -> np.ndarray:
    return SearchEngine(texts, folder, centre=False).scores(questions)


def _by_wording(values: np.ndarray, wordings: Sequence[str]) -> dict[str, list[float]]:
    return {name: [round(float(v), 6) for v in values[np.array(wordings) == name]] for name in WORDINGS}


def _command(name: str, output: str | Path) -> str:
    model = [] if name == WORDS else ["--model", name]
    return shlex.join(["companion", "bench", "search", *model, "--output", Path(output).name])


def searches_table(record: Mapping[str, Any]) -> str:
    """Set a record of `measure_searches` as text: the mean reciprocal rank by wording."""
    lines = [f"{'':<28}" + "".join(f"{wording:>16}" for wording in WORDINGS)]
    for entry in record["entries"]:
        means = (np.mean(entry["reciprocal_ranks"][wording]) for wording in WORDINGS)
        lines.append(f"{entry['search']:<28}" + "".join(f"{mean:>16.3f}" for mean in means))
    return "\n".join(lines)
