"""Finding a checkpoint, a tokenizer or a data set by its name: a bundled one, a folder, or one on the hub."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from companion.support.require import shortened

BUNDLED = Path(__file__).parents[1] / "pretrained"


def holds_any(*files: str) -> Callable[[Path], bool]:
    """Return the test of a folder for one of `files`, for `Kind.holds`."""
    return lambda folder: any(os.path.isfile(folder / file) for file in files)


@dataclass(frozen=True)
class Kind:
    """What is looked for: where it may lie, and how a folder of it is known.

    Parameters
    ----------
    what : str
        Its name in messages: "checkpoint".
    bundled : Path
        The folder of the package in which each bundled one has a folder.
    holds : callable
        Returns whether a folder is one.
    needs : str
        What a folder must hold to be one, for messages.
    within : tuple of str
        Where in a given folder it may lie; a pre-training run keeps its checkpoint in `model`.
    roots : callable
        Returns further folders in which a name is looked up, such as the one that a variable of the environment names.
    files : tuple of str
        Patterns of the files to fetch from the hub. Pickles (`*.bin*`) are fetched only where there are no safetensors.
    """

    what: str
    bundled: Path
    holds: Callable[[Path], bool]
    needs: str
    within: tuple[str, ...] = (".",)
    roots: Callable[[], list[Path]] = list
    files: tuple[str, ...] = ()


CHECKPOINT = Kind(
    what="checkpoint",
    bundled=BUNDLED,
    holds=holds_any("config.json", "bert_config.json"),
    needs="config.json",
    within=(".", "model"),
    files=("*.json", "vocab.txt", "model*.safetensors*", "adapter_model.safetensors", "pytorch_model*.bin*"),
)


def locate(name: str | Path, kind: Kind = CHECKPOINT, fetch: Callable[[str], Any] | None = None) -> Any:
    """Return the local folder of what has this name.

    Parameters
    ----------
    name : str or Path
        A bundled name, a folder, or a hub id such as `"google-bert/bert-base-uncased"`, which is downloaded once and
        found in the local cache afterwards. They are tried in this order. Only a str without separators can be a
        bundled name: `"mini"` is the bundled model, `"./mini"` and `Path("mini")` are your folder.
    kind : Kind
        What is looked for.
    fetch : callable, optional
        Fetches a hub id and returns what `locate` is to return; by default, downloads `kind.files`.

    Returns
    -------
    Path
        The folder; or what `fetch` returned.

    Raises
    ------
    TypeError
        If `name` is neither str nor path.
    ValueError
        If it is empty.
    FileNotFoundError
        If it was not found; the message says what was tried and what to do.
    """
    _check(name, kind)
    if isinstance(name, str) and name in bundled_names(kind):
        return kind.bundled / name
    folders = [Path(name).expanduser(), *(root / name for root in kind.roots())]
    for folder in folders:
        for part in kind.within:
            if kind.holds(folder / part):
                return folder / part
    looked = "; ".join(f"the folder {str(folder)!r}, which {_met(folder, kind)}" for folder in folders)
    tried = f"{kind.what} {shortened(str(name), 200)} was not found. Tried: bundled ones ({_listed(kind)}); {looked}"
    if _is_path(name):
        raise FileNotFoundError(f"{tried}. Check the path")
    return _from_hub(str(name), tried, fetch or (lambda name: _download(name, kind)))


def bundled_names(kind: Kind = CHECKPOINT) -> list[str]:
    """Return the names of what comes with the package."""
    return sorted(folder.name for folder in kind.bundled.glob("*") if kind.holds(folder))


def _check(name: Any, kind: Kind) -> None:
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"{kind.what} {shortened(name)} is of type {type(name).__name__}; pass a name or a path")
    if not str(name).strip():
        raise ValueError(f"{kind.what} {name!r} is empty; pass a bundled name ({_listed(kind)}), a folder or a hub id")


def _listed(kind: Kind) -> str:
    return ", ".join(bundled_names(kind)) or "none"


def _met(folder: Path, kind: Kind) -> str:
    if os.path.isfile(folder):
        return "is a file; pass the folder that holds it"
    if not os.path.isdir(folder):
        return "does not exist"
    found = sorted(entry.name for entry in folder.iterdir())
    there = f"it holds {', '.join(found[:3])}{' ...' if found[3:] else ''}" if found else "it is empty"
    return f"has no {kind.needs} ({there})"


def _is_path(name: str | Path) -> bool:
    """Return whether `name` can only be a path: a hub id is a str of the form owner/name, or one word."""
    if not isinstance(name, str):
        return True
    looks = name.startswith((".", "~", "/")) or name.endswith("/") or "\\" in name or name.count("/") > 1
    return looks or ("/" in name and os.path.exists(name)) or os.path.isfile(name)


def _from_hub(name: str, tried: str, fetch: Callable[[str], Any]) -> Any:
    from huggingface_hub.errors import HFValidationError

    try:
        return fetch(name)
    except HFValidationError:
        raise FileNotFoundError(f"{tried}; it does not have the form of a hub id. Check the spelling") from None
    except ValueError:  # the hub has it, and says what else it needs to know
        raise
    except Exception as error:  # the hub's client raises errors of several libraries
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        raise FileNotFoundError(
            f"{tried}; the hub, which could not be reached or does not have it ({type(error).__name__}), and its local "
            "cache. Check the name, connect to the internet, or pass the path of a downloaded folder"
        ) from error


def _download(name: str, kind: Kind) -> Path:
    from huggingface_hub import snapshot_download

    safe = [pattern for pattern in kind.files if ".bin" not in pattern]
    folder = Path(snapshot_download(name, allow_patterns=safe))
    if len(safe) < len(kind.files) and not any(folder.glob("*.safetensors")):
        folder = Path(snapshot_download(name, allow_patterns=list(kind.files)))
    return folder
