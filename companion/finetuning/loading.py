"""From a folder to the estimator that was saved there, whatever its class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from companion.config import BertConfig
from companion.finetuning.answerer import QuestionAnswerer
from companion.finetuning.base import FineTuned
from companion.finetuning.chooser import MultipleChoice
from companion.finetuning.classifier import TextClassifier
from companion.finetuning.regressor import TextRegressor
from companion.finetuning.saved import kind_of, read_saved
from companion.finetuning.tagger import TokenTagger
from companion.support.files import read_json
from companion.support.locate import locate

CLASSES = (TextClassifier, TextRegressor, TokenTagger, QuestionAnswerer, MultipleChoice)
ESTIMATORS: dict[str, type[FineTuned]] = {one.__name__: one for one in CLASSES}


def load(folder: str | Path, device: str | None = None) -> FineTuned:
    """Return a saved estimator, ready to predict, as an object of the class that saved it.

    Parameters
    ----------
    folder : str or Path
        Written by `save` of any estimator; or a folder or hub id in Transformers' format whose head one of them trains,
        such as a model for sequence classification.
    device : str, optional
        None means the best one there is.

    Raises
    ------
    FileNotFoundError
        If there is no such checkpoint.
    ValueError
        If no estimator can open it; says what it is.
    """
    path = locate(folder)
    saved = read_saved(path)
    return _class_of(folder, path, saved)._opened(str(folder), path, saved, device)


def _class_of(folder: str | Path, path: Path, saved: Mapping[str, Any]) -> type[FineTuned]:
    """Return the class that opens the folder at `path`, whose `companion.json` holds `saved`."""
    if name := saved.get("estimator"):
        if name not in ESTIMATORS:
            raise ValueError(
                f"folder={str(folder)!r} holds a {name}, which this version does not know; it opens "
                f"{', '.join(ESTIMATORS)}"
            )
        return ESTIMATORS[name]
    entries = read_json(path / "config.json")
    architecture = next(iter(entries.get("architectures") or [""]))
    kind = kind_of(BertConfig.from_dict(entries))
    for estimator in ESTIMATORS.values():
        if estimator.MODEL.__name__ == architecture and (kind in estimator.KINDS or estimator.KINDS == (None,)):
            return estimator
    raise ValueError(
        f"folder={str(folder)!r} holds a {architecture or 'model whose config.json names no architecture'}, which no "
        f"estimator opens; these do: "
        + ", ".join(f"{name} a {estimator.MODEL.__name__}" for name, estimator in ESTIMATORS.items())
    )
