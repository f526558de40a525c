"""A fine-tuned estimator on disk: its network, its tokenizer, and `companion.json` with what else it knows."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from companion.config import BertConfig
from companion.model.checkpoints import WEIGHT_FILES, load_weights, read_weights
from companion.model.heads import BertWithHead
from companion.model.names import from_transformers
from companion.support.files import read_json

Model = TypeVar("Model", bound=BertWithHead)
FILE = "companion.json"
HEADS = ("classifier.", "qa_outputs.")  # how the names of their weights begin
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
OLD_FILES = {"classifier.json": "TextClassifier", "regressor.json": "TextRegressor"}  # before there was one for all


def read_saved(folder: Path) -> dict[str, Any]:
    """Return what the file of an estimator holds, with the name of its class; {} if the folder has no such file."""
    if (folder / FILE).is_file():
        return read_json(folder / FILE)
    for name, estimator in OLD_FILES.items():
        if (folder / name).is_file():
            saved = {"estimator": estimator} | read_json(folder / name)
            parameters = saved.get("parameters", {})
            if "seed" in parameters:
                parameters["random_state"] = parameters.pop("seed")
            return saved
    return {}


def read_network(folder: Path, model_class: type[Model], kinds: tuple[str | None, ...], estimator: str) -> Model:
    """Return the network of a checkpoint, in evaluation mode.

    Parameters
    ----------
    folder : Path
    model_class : type
        One of the models of `companion.model.heads`.
    kinds : tuple of str
        What its `problem_type` may be; (None,) for a model that has none.
    estimator : str
        Who asks, for messages.

    Raises
    ------
    ValueError
        If it is of another kind, or its head was not trained.
    """
    entries = read_json(folder / "config.json")
    config = BertConfig.from_dict(entries)
    architecture = next(iter(entries.get("architectures") or [model_class.__name__]))
    state = from_transformers(read_weights(folder))
    if architecture != model_class.__name__ or not any(name.startswith(HEADS) for name in state):
        raise ValueError(
            f"folder={str(folder)!r} holds a {architecture}, not the trained head of a {model_class.__name__}; train "
            f"one: {estimator}({str(folder)!r}).fit(texts, labels)"
        )
    if (kind := kind_of(config)) not in kinds and kinds != (None,):
        raise ValueError(
            f"folder={str(folder)!r} holds a model for {kind}; {estimator} is for {' or '.join(map(str, kinds))}"
        )
    model = model_class(config)
    load_weights(model, state, source=str(folder))
    return model.eval()


def kind_of(config: BertConfig) -> str:
    """Return the `problem_type` of a network for sequence classification, whether or not its config states it."""
    return config.problem_type or ("regression" if config.num_labels == 1 else "single_label_classification")


def check_folder(folder: str | Path) -> None:
    """Raise an error unless an estimator can be saved in a folder; nothing is written.

    Raises
    ------
    ValueError
        If it is a file, or holds another model, which saving would overwrite.
    OSError
        If nothing can be written there.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder={str(folder)!r} is a file; pass the path of a folder")
    ours = any((folder / name).is_file() for name in (FILE, *OLD_FILES))
    other = next((name for name in ("config.json", *WEIGHT_FILES) if (folder / name).is_file()), None)
    if other and not ours:
        raise ValueError(
            f"folder={str(folder)!r} holds another model ({other}), which saving would overwrite; pass another folder"
        )
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix=".companion."):
            pass
    except OSError as error:
        raise OSError(f"folder={str(folder)!r} cannot be written ({error.strerror}); pass another folder") from error


def write_saved(folder: str | Path, content: dict[str, Any], *parts: Callable[[Path], None]) -> None:
    """Write the file of an estimator, and its parts beside it; other files in the folder are left alone.

    Everything is written apart first, so that an error leaves what was there before.

    Parameters
    ----------
    folder : str or Path
        Is made if it is not there.
    content : dict
        What JSON can hold; NumPy's numbers and paths too.
    *parts : callable
        Each writes its files into the folder that it is given, as `save_pretrained` does.
    """
    folder = Path(folder)
    check_folder(folder)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial.") as temporary:
            for write in parts:
                write(Path(temporary))
            text = json.dumps(content, indent=2, default=_plain)
            (Path(temporary) / FILE).write_text(text + "\n", encoding="utf-8")
            _move_files(Path(temporary), folder)
    except BaseException:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _move_files(source: Path, folder: Path) -> None:
    files = sorted(source.iterdir(), key=lambda file: file.name == FILE)  # the file that makes it one comes last
    for file in files:
        os.replace(file, folder / file.name)
    for name in {*OLD_FILES, *WEIGHT_FILES, *ADAPTER_FILES} - {file.name for file in files}:
        (folder / name).unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """Turn what JSON does not know into what it does: numbers of NumPy, paths."""
    return value.item() if isinstance(value, np.generic) else str(value)
