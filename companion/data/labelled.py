"""Labelled data by name: the sets that come with the book, files and folders, and the hub."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from companion.data.catalogue import CATALOGUE, SPLITS, Card
from companion.data.tables import ENDINGS, KINDS, read_table
from companion.support.containers import is_missing
from companion.support.locate import Kind, locate
from companion.support.locate import bundled_names as names_of
from companion.support.require import boolean

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


BUNDLED = Path(__file__).parent / "sets"
OTHER_NAMES = {"validation": ("validation", "valid", "val", "dev")}  # of the file of a split
SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` of `datasets` leaves
FOLDER_VARIABLE = "COMPANION_DATA"


def load_dataset(name: str | Path, subset: str | None = None, *, progress: bool = True) -> DatasetDict:
    """Return a data set by name, each split a `datasets.Dataset`.

    Parameters
    ----------
    name : str or Path
        Looked up in this order: a set bundled with the package (`bundled_names()`); a file (JSON Lines, JSON, CSV, TSV
        or Parquet, see `companion.data.tables.read_table`), which becomes the split train; a folder, given by its path
        or by its name under `$COMPANION_DATA` or `$COMPANION_DATA/tasks`; a set of the hub, such as `"imdb"`, or the
        one that `companion.data.catalogue.CATALOGUE` names. A folder holds at least one of `train`, `validation` (also
        `valid`, `val`, `dev`) and `test` as such a file, or is one that `datasets` wrote.
    subset : str, optional
        Which configuration of a data set of the hub: `load_dataset("nyu-mll/glue", "cola")`.
    progress : bool
        Show the bars of a download.

    Returns
    -------
    datasets.DatasetDict
        The splits there are, in the order train, validation, test, with the rows in the order of the file. A set of the
        catalogue has the same columns and names of labels wherever it was found.

    Raises
    ------
    FileNotFoundError
        If none of them has it; the message says what was tried and what to do.
    ValueError
        If a file is malformed (names file and line), or a split is there in two forms.
    """
    boolean("progress", progress)
    if subset is None and isinstance(name, str | os.PathLike) and os.path.isfile(name):
        return _as_splits({"train": read_table(name, "train")})
    try:
        found = locate(name, _kind(subset is not None), lambda name: _from_hub_by_name(name, subset, progress))
    except FileNotFoundError as error:
        unset = "" if os.environ.get(FOLDER_VARIABLE) else f"; or set ${FOLDER_VARIABLE} to the folder that holds it"
        raise FileNotFoundError(f"{error}{unset}") from error
    return _read_folder(found) if isinstance(found, Path) else found


def texts_and_labels(split: Dataset, texts: Sequence[str], label: str) -> tuple[list[Any], list[Any]]:
    """Return the texts, or tuples of them where `texts` names several columns, and the labels of a split.

    Labels that the split stores as numbers with names (`datasets.ClassLabel`) are returned as the names.

    Raises
    ------
    ValueError
        If a column is missing, or named twice; names it and those that are there. If a text or label is null; names
        the row, counted from 1.
    """
    named = [*texts, label]
    if missing := [name for name in named if name not in split.column_names]:
        raise ValueError(
            f"column {missing[0]!r} is not in {_called(split)}, which has: {', '.join(split.column_names)}"
        )
    if twice := [name for name in named if named.count(name) > 1]:
        raise ValueError(f"column {twice[0]!r} is named twice, among texts={list(texts)} and label={label!r}")
    *columns, labels = (_column(split, name) for name in named)
    return (columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))), labels


def bundled_names() -> list[str]:
    """Return the names of the data sets that come with the package; each has a card, `README.md`, beside its files."""
    return names_of(_kind())


def _kind(apart: bool = False) -> Kind:
    """Return what `locate` has to know; with `apart`, no folder will do, as only the hub has subsets."""
    return Kind(
        what="data set",
        bundled=BUNDLED,
        holds=(lambda folder: False) if apart else _holds_data,
        needs="subset, which only the hub has" if apart else f"file train, validation or test ({', '.join(KINDS)})",
        roots=_roots,
    )


def _roots() -> list[Path]:
    root = os.environ.get(FOLDER_VARIABLE)
    return [Path(root), Path(root) / "tasks"] if root else []


def _holds_data(folder: Path) -> bool:
    return bool(_split_files(folder)) or any((folder / mark).is_file() for mark in SAVED) or _is_of_datasets(folder)


def _is_of_datasets(folder: Path) -> bool:
    """Return whether the folder is laid out as the hub's are: `train-00000-of-00001.parquet`, perhaps in `data`."""
    return any(any((folder / part).glob("*-of-*.parquet")) for part in (".", "data"))


def _split_files(folder: Path) -> dict[str, Path]:
    files = {}
    for split in SPLITS:
        stems = OTHER_NAMES.get(split, (split,))
        found = [path for stem in stems for end in ENDINGS if (path := folder / f"{stem}{end}").is_file()]
        if len(found) > 1:
            raise ValueError(f"folder {str(folder)!r} holds both {found[0].name} and {found[1].name}; remove one")
        if found:
            files[split] = found[0]
    return files


def _read_folder(folder: Path) -> DatasetDict:
    import datasets

    if files := _split_files(folder):
        return _as_splits({split: read_table(path, split) for split, path in files.items()})
    if any((folder / mark).is_file() for mark in SAVED):
        saved = datasets.load_from_disk(str(folder))
        return saved if isinstance(saved, datasets.DatasetDict) else _as_splits({"train": saved})
    return datasets.load_dataset(str(folder))


def _as_splits(splits: dict[str, Dataset]) -> DatasetDict:
    from datasets import DatasetDict

    return DatasetDict(splits)


def _column(split: Dataset, name: str) -> list[Any]:
    values = list(split[name])
    for row, value in enumerate(values, start=1):
        if is_missing(value):
            raise ValueError(f"{_called(split)}, row {row}: column {name!r} is null; drop the row, or fill it in")
    return _named(split.features[name], values, f"{_called(split)}, column {name!r}")


def _named(feature: Any, values: list[Any], place: str) -> list[Any]:
    """Return labels that are stored as numbers under their names, also those in lists, one per word."""
    from datasets import ClassLabel

    if isinstance(inner := getattr(feature, "feature", None), ClassLabel):
        return [_named(inner, list(value), place) for value in values]
    if not isinstance(feature, ClassLabel) or (values and isinstance(values[0], str)):
        return values
    if any(int(value) < 0 for value in values):
        raise ValueError(f"{place} holds -1, which stands for a secret label; use another split")
    return [feature.names[int(value)] for value in values]


def _called(split: Dataset) -> str:
    """Return how errors name a split: by its file where it came from one."""
    return split.info.description or (f"split {str(split.split)!r}" if split.split else "the data")


def _from_hub_by_name(name: str, subset: str | None, progress: bool) -> DatasetDict:
    card = CATALOGUE.get(name)
    if subset is not None or card is None or card.hub is None:
        return _from_hub(name, subset, None, progress)
    return _as_in_catalogue(_from_hub(card.hub, card.subset, card.revision, progress), card)


def _from_hub(name: str, subset: str | None, revision: str | None, progress: bool) -> DatasetDict:
    """Download a set, after one quick question whether the hub can be reached; if not, look in the local cache."""
    import datasets

    with _bars(progress), nullcontext() if _answers(name) else _offline():
        return datasets.load_dataset(name, subset, **({"revision": revision} if revision else {}))


def _answers(name: str) -> bool:
    """Return whether the hub answers and has the set; `datasets` would try five times, for half a minute."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        HfApi().dataset_info(name, timeout=10)
    except (HFValidationError, RepositoryNotFoundError):
        raise
    except Exception:  # errors of several libraries; all mean that it cannot be reached
        return False
    return True


@contextmanager
def _offline() -> Iterator[None]:
    import datasets
    import huggingface_hub

    before = datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE = before


@contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """Hide the bars of `datasets` and of the hub's client, unless they are hidden already."""
    import datasets.utils
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    theirs, hubs = datasets.utils.are_progress_bars_disabled(), are_progress_bars_disabled()
    if not shown:
        datasets.utils.disable_progress_bars()
        disable_progress_bars()
    try:
        yield
    finally:
        if not shown and not theirs:
            datasets.utils.enable_progress_bars()
        if not shown and not hubs:
            enable_progress_bars()


def _as_in_catalogue(found: DatasetDict, card: Card) -> DatasetDict:
    """Give a set of the hub the splits, columns and names of labels that the catalogue says."""
    splits = {ours: found[theirs] for ours, theirs in card.hub_splits.items() if theirs in found}
    back = {theirs: ours for ours, theirs in card.hub_columns.items()}
    return _as_splits({name: _with_names(split.rename_columns(back), card) for name, split in splits.items()})


def _with_names(split: Dataset, card: Card) -> Dataset:
    """Write the names of the labels in the place of their numbers."""
    from datasets import ClassLabel

    values = list(split[card.label])
    labels = _named(split.features[card.label], values, card.label)
    if labels is values and card.names:
        names = ClassLabel(names=list(card.names))
        labels = [_named(names, one, "") if isinstance(one, list) else names.names[one] for one in values]
    if labels is values:
        return split
    return split.remove_columns(card.label).add_column(card.label, labels).select_columns(split.column_names)
