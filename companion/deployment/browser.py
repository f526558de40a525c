"""A checkpoint for the browser: 8-bit weights, vocabulary and config, as the pages' `live/bert.js` reads them.

Every matrix is stored as whole numbers from -127 to 127, with one scale for each run of `GROUP` columns of a row
(symmetric rounding to nearest; Dettmers et al. 2022, arXiv:2110.02861, call it block-wise quantisation). Vectors and
matrices of few rows stay floats: a rounded segment embedding would move every token the same way. The file is an
ordinary safetensors file under the names of Transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from companion.model.checkpoints import usable_folder
from companion.model.heads import BertForPreTraining
from companion.model.names import to_transformers
from companion.support.files import atomic_file
from companion.support.require import require
from companion.text.tokenizer import Tokenizer

GROUP = 16  # columns that share a scale
FEW = 8  # a matrix of so few rows stays as it is
LEVELS = 127
SCALE = ".scale"  # ends the name of the scales of a matrix


def export_for_browser(model: str | Path, folder: str | Path) -> int:
    """Write a checkpoint so that it runs in a page.

    Parameters
    ----------
    model : str or Path
        A checkpoint with both pre-training heads: a bundled name, a folder, or a hub id.
    folder : str or Path
        Where to write `model.safetensors`, `config.json` and `vocab.txt`; made if it is not there.

    Returns
    -------
    int
        Bytes that a reader fetches.

    Raises
    ------
    ValueError
        If the network has a size that the pages' program does not compute.
    """
    network = BertForPreTraining.from_pretrained(model)
    tokenizer = Tokenizer.from_pretrained(model)
    _check(network)
    folder = usable_folder(folder)
    splitting = {
        "lowercase": tokenizer.lowercase,
        "strip_accents": tokenizer.lowercase if tokenizer.strip_accents is None else tokenizer.strip_accents,
        "tokenize_chinese_chars": tokenizer.tokenize_chinese_chars,
    }
    with atomic_file(folder / "model.safetensors") as file:
        file.write_bytes(save(quantise(to_transformers(network.state_dict()))))
    with atomic_file(folder / "config.json") as file:
        file.write_text(json.dumps(network.config.to_dict() | {"tokenizer": splitting}) + "\n", encoding="utf-8")
    with atomic_file(folder / "vocab.txt") as file:
        file.write_text("".join(f"{token}\n" for token in tokenizer.vocabulary), encoding="utf-8", newline="\n")
    return sum((folder / name).stat().st_size for name in ("model.safetensors", "config.json", "vocab.txt"))


def size_in_browser(network: BertForPreTraining) -> int:
    """Return how many bytes its weights take when they are stored for the browser."""
    return sum(tensor.nbytes for tensor in quantise(to_transformers(network.state_dict())).values())


def _check(network: BertForPreTraining) -> None:
    config = network.config
    require("hidden_act", config.hidden_act, config.hidden_act == "gelu", "'gelu', the only one in bert.js")
    for name in ("hidden_size", "intermediate_size"):
        size = getattr(config, name)
        require(name, size, size % GROUP == 0, f"a multiple of {GROUP}")


def quantise(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with every matrix in 8 bits and its scales beside it.

    Parameters
    ----------
    state : mapping of str to Tensor
        Matrices (rows, columns), whose columns are a multiple of `GROUP`, and vectors.

    Returns
    -------
    dict of str to Tensor
        For a matrix an int8 tensor of its shape and, under its name and `.scale`, fp16 (rows, columns / GROUP); for
        anything else the tensor as fp32.
    """
    stored: dict[str, Tensor] = {}
    for name, weight in state.items():
        if weight.ndim != 2 or len(weight) <= FEW:
            stored[name] = weight.float().contiguous()
            continue
        groups = weight.float().unflatten(1, (-1, GROUP))  # (rows, groups, GROUP)
        scales = (groups.abs().amax(-1) / LEVELS).half()  # (rows, groups)
        steps = scales.float().clamp_min(torch.finfo(torch.half).tiny)[..., None]
        stored[name] = (groups / steps).round().clamp(-LEVELS, LEVELS).to(torch.int8).flatten(1).contiguous()
        stored[name + SCALE] = scales.contiguous()
    return stored


def dequantise(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the floats that the stored weights stand for: the network as a page computes it."""
    return {
        name: _floats(weight, stored[name + SCALE]) if name + SCALE in stored else weight
        for name, weight in stored.items()
        if not name.endswith(SCALE)
    }


def _floats(weight: Tensor, scales: Tensor) -> Tensor:
    groups = weight.float().unflatten(1, (scales.shape[1], -1))  # (rows, groups, GROUP)
    return (groups * scales.float()[..., None]).flatten(1)  # (rows, columns)
