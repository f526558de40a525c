"""Weights on disk in Transformers' format, both ways: safetensors or a pickle in, safetensors out."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from companion.model.names import BACK, HEADS, NAME_MAP, NETWORK, match_prefix, rename, to_transformers
from companion.support.files import atomic_file, damage, read_json, write_json
from companion.support.require import require

logger = logging.getLogger(__name__)
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
# Files of weights that an older save may have left in a folder, and that a new one makes stale.
STALE = re.compile(r"(pytorch_model\.bin|model-\d+-of-\d+\.safetensors|pytorch_model-\d+-of-\d+\.bin|.+\.index\.json)$")
ADAPTER = re.compile(r"(^|\.)(lora_\w+|ia3_\w+|base_layer|modules_to_save|original_module)\.")
# How the names of an adapter's own weights begin, by the `peft_type` in its config.
ADAPTER_WEIGHTS = {
    "LORA": "lora_",
    "IA3": "ia3_",
    "LOHA": "hada_",
    "LOKR": "lokr_",
    "OFT": "oft_",
}
SHOWN = 5  # names of weights in a message


def read_weights(folder: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint folder under their names on file, all on the CPU.

    Safetensors are read first, then a pickle with `weights_only=True`; a file split into shards is put together.

    Raises
    ------
    FileNotFoundError
        If the folder holds no weights, or a shard is missing.
    ValueError
        If a file is not what its name says; names it and, where that can be seen, what it is.
    """
    folder = Path(folder)
    for file in WEIGHT_FILES:
        if (folder / file).is_file():
            return _read(folder / file)
        index = folder / f"{file}.index.json"
        if index.is_file():
            shards = sorted(set(read_json(index)["weight_map"].values()))
            return {name: tensor for shard in shards for name, tensor in _read(folder / shard).items()}
    raise FileNotFoundError(f"folder {str(folder)!r} holds no weights; expected one of {', '.join(WEIGHT_FILES)}")


def _read(file: Path) -> dict[str, Tensor]:
    """Return the tensors of one file."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # what PyTorch finds in a file cut short
            raise
        raise ValueError(f"{file} is {_cause(file, error)}") from error
    require(str(file), type(state).__name__, isinstance(state, Mapping), "a mapping of names to tensors")
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _cause(file: Path, error: Exception) -> str:
    if what := damage(file):
        return f"{what}; fetch or write it again"
    if code := re.search(r"GLOBAL (\S+)", str(error)):  # a pickle can run any code when it is opened
        return f"a pickle that would run code when opened ({code[1]}); ask for the weights as safetensors"
    return f"cut short, damaged or of another kind ({file.stat().st_size} bytes); fetch or write it again"


def load_weights(module: nn.Module, state: Mapping[str, Tensor], source: str = "the checkpoint") -> None:
    """Copy `state` (our names) into `module`, and leave nothing unsaid about what did not fit.

    A base model's weights load into a model with heads and back: the `bert.` prefix is added or dropped. Heads that
    the file does not have stay as initialised and are named in a warning, and so is what was trained beside the
    network (`loss_fct.weight`); heads that the module does not have are passed over. Everything else that is missing,
    left over or of another shape is an error.

    Raises
    ------
    ValueError
        Naming the missing, unexpected and misshapen weights.
    """
    fitting, _ = fit_weights(module, state, source)
    module.load_state_dict(fitting, strict=False)


def fit_weights(module: nn.Module, state: Mapping[str, Tensor], source: str) -> tuple[dict[str, Tensor], list[str]]:
    """Return what of `state` belongs to `module`, and the names of the heads that it lacks; see `load_weights`."""
    expected = module.state_dict()
    state = match_prefix(state, expected)
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected and not HEADS.match(name)]
    misshapen = [
        f"{name}: {tuple(state[name].shape)} on file, {tuple(expected[name].shape)} in the model"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    new = [name for name in missing if HEADS.match(name)]
    lost = [name for name in missing if not HEADS.match(name)]
    problems = [
        f"{what}: {_listed(names)}"
        for what, names in (
            ("missing", lost),
            ("unexpected", [name for name in unexpected if NETWORK.match(name)]),
            ("misshapen", misshapen),
        )
        if names
    ]
    if problems:
        raise ValueError(
            f"weights of {source} do not fit {type(module).__name__}. {'. '.join(problems)}. "
            "Compare config.json with the file, or load the class that the file was saved from"
        )
    if unexpected:
        logger.warning("%s also holds %s, which %s does not have", source, _listed(unexpected), type(module).__name__)
    if new:
        logger.warning("%s has no weights for %s: newly initialised, to be trained before use", source, ", ".join(new))
    return {name: state[name] for name in expected if name in state}, new


def _listed(names: list[str]) -> str:
    more = f"; and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "; ".join(names[:SHOWN]) + more


def write_checkpoint(folder: str | Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write `model.safetensors` and `config.json` into a folder, both or neither, and remove what they replace.

    Parameters
    ----------
    folder : str or Path
        Made if it is not there. Whatever else lies in it stays as it is.
    state : mapping of str to Tensor
        The weights under our names.
    config : mapping
        The content of `config.json`.

    Raises
    ------
    ValueError
        If `folder` is empty or a file.
    """
    folder = usable_folder(folder)
    with atomic_file(folder / "config.json") as config_file, atomic_file(folder / WEIGHT_FILES[0]) as weights_file:
        save_file(to_transformers(state), weights_file, metadata={"format": "pt"})
        config_file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        if STALE.fullmatch(path.name):
            path.unlink(missing_ok=True)


def usable_folder(folder: str | Path) -> Path:
    """Return the folder, made if it was not there.

    Raises
    ------
    ValueError
        If the path is empty or that of a file.
    """
    if not str(folder).strip():
        raise ValueError(f"folder={folder!r} is empty; pass the path of a folder, '.' for the working directory")
    folder = Path(folder).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder={str(folder)!r} is a file; pass the path of a folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def refuse_adapters(names: Iterable[str]) -> None:
    """Raise a ValueError if the names of weights are those of a network with adapters in it."""
    if found := next((name for name in names if ADAPTER.search(name)), None):
        raise ValueError(
            f"the network holds adapters ({found}), which neither library opens as a model; merge them first "
            "(peft_model.merge_and_unload()), or save them alone (peft_model.save_pretrained(folder))"
        )


def adapter_to_transformers(source: str | Path, target: str | Path) -> None:
    """Write an adapter that PEFT saved for a model of this package so that it fits the same one of Transformers.

    Parameters
    ----------
    source : str or Path
        A folder that `PeftModel.save_pretrained` wrote.
    target : str or Path
        The folder to write, for `PeftModel.from_pretrained(transformers_model, target)`.

    Raises
    ------
    ValueError
        If it is of a kind other than those of `ADAPTER_WEIGHTS`, or holds a head whose parts have other names there
        (`mlm_head`).
    """
    _convert_adapter(Path(source), usable_folder(target), lambda name: rename(name, NAME_MAP))


def adapter_from_transformers(source: str | Path, target: str | Path) -> None:
    """Write an adapter of Transformers' BERT so that it fits a model of this package; see the other direction."""
    _convert_adapter(Path(source), usable_folder(target), lambda name: rename(name, BACK))


def _convert_adapter(source: Path, target: Path, renamed: Callable[[str], str]) -> None:
    config = read_json(source / "adapter_config.json")
    kind, heads = config.get("peft_type"), config.get("modules_to_save") or []
    require("peft_type", kind, kind in ADAPTER_WEIGHTS, f"one of {', '.join(ADAPTER_WEIGHTS)}")
    same = all(name in ("classifier", "qa_outputs", "pooler", "score") for name in heads)
    require("modules_to_save", heads, same, "a head of the same name in both libraries: classifier or qa_outputs")
    state = load_file(source / "adapter_model.safetensors")
    mark = f".{ADAPTER_WEIGHTS[kind]}"
    adapted = sorted({name.split(mark)[0].removeprefix("base_model.model.") for name in state if mark in name})
    config["target_modules"] = sorted(map(renamed, adapted))
    config |= dict.fromkeys(
        config.keys() & {"layers_to_transform", "layers_pattern", "exclude_modules", "auto_mapping"}
    )
    if inner := config.get("feedforward_modules"):
        config["feedforward_modules"] = [renamed(name) for name in adapted if _is_named(name, inner)]
    for setting in config.keys() & {
        "rank_pattern",
        "alpha_pattern",
    }:  # a pattern may be a part of a name: one entry per whole name
        patterns = config.get(setting) or {}
        matching = ((name, key) for name in adapted for key in patterns if re.match(rf"(.*\.)?({key})$", name))
        config[setting] = {renamed(name): patterns[key] for name, key in matching}
    with atomic_file(target / "adapter_model.safetensors") as file:
        save_file({renamed(name): tensor for name, tensor in state.items()}, file, metadata={"format": "pt"})
    write_json(target / "adapter_config.json", config)


def _is_named(name: str, modules: str | Iterable[str]) -> bool:
    """Return whether PEFT would find a module by a pattern, or by one of several ends of names."""
    if isinstance(modules, str):
        return re.fullmatch(modules, name) is not None
    return any(name == end or name.endswith(f".{end}") for end in modules)


def weights_checksum(folder: str | Path) -> str:
    """Return a SHA-256 of the weights of a checkpoint, the same in whatever files they lie."""
    digest = hashlib.sha256()
    for name, tensor in sorted(read_weights(folder).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
