"""Finding a checkpoint by its name: a bundled one, a folder, or one on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

BUNDLED = Path(__file__).parents[1] / "pretrained"
HUB_FILES = ("config.json", "model*.safetensors*", "pytorch_model*.bin*", "vocab.txt", "tokenizer*.json")


def resolve(name: str | Path, files: Sequence[str] = HUB_FILES) -> Path:
    """Return the local folder of a checkpoint.

    Parameters
    ----------
    name : str or Path
        A bundled name (`"mini"`), a folder, or a hub id such as `"google-bert/bert-base-uncased"`, which is downloaded
        once and found in the local cache afterwards. They are tried in this order.
    files : sequence of str
        Patterns of the files to fetch from the hub. Pickles (`*.bin*`) are fetched only where there are no safetensors.

    Raises
    ------
    FileNotFoundError
        If none of the three has it; the message says what was tried and what to do.
    """
    if (BUNDLED / str(name) / "config.json").is_file():
        return BUNDLED / str(name)
    if Path(name).is_dir():
        return Path(name)
    return _fetch(str(name), list(files))


def _fetch(name: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    tried = f"checkpoint {name!r} was not found: no bundled one of that name ({', '.join(bundled_names())}), no folder"
    safe = [pattern for pattern in patterns if ".bin" not in pattern]
    try:
        folder = Path(snapshot_download(name, allow_patterns=safe))
        if safe != patterns and not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=patterns))
        return folder
    except HFValidationError:
        raise FileNotFoundError(f"{tried}, and not the form of a hub id (owner/name). Check the spelling") from None
    except Exception as error:  # the hub client raises errors of several libraries; all mean that it is not to be had
        raise FileNotFoundError(
            f"{tried} at that path, and the hub could not be reached or does not have it ({type(error).__name__}), nor "
            "is a copy in the local cache. Connect to the internet and check the id, or pass a downloaded folder's path"
        ) from error


def bundled_names() -> list[str]:
    """Return the names of the checkpoints that come with the package."""
    return sorted(folder.name for folder in BUNDLED.glob("*") if (folder / "config.json").is_file())
