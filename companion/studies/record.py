"""Run records of the book, found in a checkout or, where the package alone is installed, in its repository."""

from __future__ import annotations

import json
from importlib.metadata import metadata
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from companion.pretraining.record import RECORD
from companion.support.locate import BUNDLED

Record = dict[str, Any]
PLACE = "book/results"
ROOT = Path(__file__).resolve().parents[2]  # of a checkout


def load_record(name: str) -> Record:
    """Return the record of a run by its name, such as `"mini"`.

    Parameters
    ----------
    name : str
        A bundled checkpoint, which has its record with it; or that of a file in `book/results`, without `.json`.

    Raises
    ------
    FileNotFoundError
        If there is no such record, or no checkout and no connection to the repository.
    """
    folder, bundled = ROOT / PLACE, BUNDLED / name / RECORD
    if bundled.is_file():
        return json.loads(bundled.read_text(encoding="utf-8"))
    if not folder.is_dir():
        return json.loads(_fetch(f"{PLACE}/{name}.json"))
    path = folder / f"{name}.json"
    if not path.is_file():
        files = [*folder.glob("*.json"), *(file.parent for file in BUNDLED.glob(f"*/{RECORD}"))]
        known = ", ".join(sorted(file.stem for file in files))
        raise FileNotFoundError(f"there is no record {name!r}; choose one of {known}")
    return json.loads(path.read_text(encoding="utf-8"))


def load_chain(name: str) -> list[Record]:
    """Return the records of all pre-training runs that led to `name`, each going on from the one before it.

    Parameters
    ----------
    name : str
        The last run.

    Returns
    -------
    list of dict
        In the order of the runs.
    """
    record = load_record(name)
    return [*record["earlier"], record]


def _fetch(path: str) -> bytes:
    """Return a file of the public repository, whose address is that of the installed package."""
    links = dict(line.split(", ", 1) for line in metadata("bert-companion").get_all("Project-URL", []))
    address = links["Repository"].replace("https://github.com/", "https://raw.githubusercontent.com/")
    try:
        with urlopen(f"{address}/HEAD/{path}", timeout=30) as answer:
            return answer.read()
    except URLError as error:
        raise FileNotFoundError(
            f"{path} is no part of the installed package, and {address} could not be read ({error}). Connect to the "
            "internet, or work in a checkout of the repository"
        ) from error
