"""Weights on disk in Transformers' format, both ways: a bundled name, a folder or a hub id in, safetensors out.

The modules of this package have names of their own (`encoder.layers.0.attention.query`); files carry those of
Transformers (`encoder.layer.0.attention.self.query`). `NAME_MAP` is the one place where the two meet.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from companion.config import BertConfig
from companion.support.files import atomic_folder
from companion.support.locate import locate

logger = logging.getLogger(__name__)
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
# (ours, theirs): pieces of a dotted name, each matched whole, the longer before the shorter.
NAME_MAP = (
    ("embeddings.tokens", "embeddings.word_embeddings"),
    ("embeddings.positions", "embeddings.position_embeddings"),
    ("embeddings.segments", "embeddings.token_type_embeddings"),
    ("embeddings.norm", "embeddings.LayerNorm"),
    ("encoder.layers", "encoder.layer"),
    ("attention.query", "attention.self.query"),
    ("attention.key", "attention.self.key"),
    ("attention.value", "attention.self.value"),
    ("attention.output", "attention.output.dense"),
    ("attention_norm", "attention.output.LayerNorm"),
    ("feed_forward.expand", "intermediate.dense"),
    ("feed_forward.contract", "output.dense"),
    ("feed_forward_norm", "output.LayerNorm"),
    ("mlm_head.dense", "cls.predictions.transform.dense"),
    ("mlm_head.norm", "cls.predictions.transform.LayerNorm"),
    ("mlm_head.bias", "cls.predictions.bias"),
    ("nsp_head", "cls.seq_relationship"),
)
# Released files hold these beside the parameters; each repeats another tensor or is a constant.
REDUNDANT = re.compile(r"(embeddings\.position_ids|cls\.predictions\.decoder\.(weight|bias))$")
# Parts that a task adds to, or leaves out of, the pre-trained network.
HEADS = re.compile(r"^(mlm_head|nsp_head|classifier|qa_outputs|pooler|bert\.pooler)\b")


def read_weights(folder: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint folder under their names on file, all on the CPU.

    Safetensors are read first, then a pickle with `weights_only=True`; a file split into shards is put together.

    Raises
    ------
    FileNotFoundError
        If the folder holds no weights.
    """
    folder = Path(folder)
    for file in WEIGHT_FILES:
        if (folder / file).is_file():
            return _read(folder / file)
        index = folder / f"{file}.index.json"
        if index.is_file():
            shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            return {name: tensor for shard in shards for name, tensor in _read(folder / shard).items()}
    raise FileNotFoundError(f"folder {str(folder)!r} holds no weights; expected one of {', '.join(WEIGHT_FILES)}")


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of ours to Transformers' names."""
    return {_rename(name, NAME_MAP): tensor for name, tensor in state.items()}


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of Transformers, or of an older release of BERT (`gamma`/`beta`), to ours."""
    back = sorted(((theirs, ours) for ours, theirs in NAME_MAP), key=lambda pair: -len(pair[0]))
    renamed = {}
    for name, tensor in state.items():
        name = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
        if not REDUNDANT.search(name):
            renamed[_rename(name, back)] = tensor
    return renamed


def load_weights(module: nn.Module, state: Mapping[str, Tensor], source: str = "the checkpoint") -> None:
    """Copy `state` (our names) into `module`, and leave nothing unsaid about what did not fit.

    A base model's weights load into a model with heads and back: the `bert.` prefix is added or dropped. Heads that
    the file does not have stay as initialised and are named in a warning; heads that the module does not have are
    passed over. Everything else that is missing, left over or of another shape is an error.

    Raises
    ------
    ValueError
        Naming the missing, unexpected and misshapen weights.
    """
    expected = module.state_dict()
    state = _match_prefix(state, expected)
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
        f"{what}: {'; '.join(names)}"
        for what, names in (("missing", lost), ("unexpected", unexpected), ("misshapen", misshapen))
        if names
    ]
    if problems:
        raise ValueError(
            f"weights of {source} do not fit {type(module).__name__}. {'. '.join(problems)}. "
            "Compare config.json with the file, or load the class that the file was saved from"
        )
    module.load_state_dict({name: state[name] for name in expected if name in state}, strict=False)
    if new:
        logger.warning("%s has no weights for %s: newly initialised, to be trained before use", source, ", ".join(new))


class PreTrained:
    """Gives a `torch.nn.Module` with a `config` the methods `from_pretrained` and `save_pretrained`."""

    config: BertConfig

    @classmethod
    def from_pretrained(cls, name: str | Path, **changes: Any) -> Self:
        """Return the model with the weights of a checkpoint, in evaluation mode, in fp32, on the CPU.

        Parameters
        ----------
        name : str or Path
            A bundled name (`"mini"`), a folder, or a hub id.
        **changes
            Entries of `BertConfig` to set otherwise than on file, such as `labels` or `hidden_dropout_prob`.

        Raises
        ------
        FileNotFoundError
            If there is no such checkpoint.
        ValueError
            If its weights do not fit.
        """
        folder = locate(name)
        model = cls(BertConfig.from_file(folder).replace(**changes))
        load_weights(model, from_transformers(read_weights(folder)), source=str(name))
        return model.eval()

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write `config.json` and `model.safetensors`; Transformers opens the folder unchanged.

        The folder is replaced whole and at once. What else lies in it (a vocabulary, a card, folders) is kept.

        Parameters
        ----------
        folder : str or Path
            Where to write.
        dtype : torch.dtype, optional
            Store the weights in this type, for example `torch.float16` at half the size.
        """
        folder = Path(folder)
        state = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in self.state_dict().items()}
        config = self.config.to_dict() | {"architectures": [type(self).__name__]}
        with atomic_folder(folder) as temporary:
            _keep_other_files(folder, temporary)
            save_file(to_transformers(state), temporary / WEIGHT_FILES[0], metadata={"format": "pt"})
            (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _read(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        return load_file(file)
    return torch.load(file, map_location="cpu", weights_only=True)


def _rename(name: str, pairs: Sequence[tuple[str, str]]) -> str:
    for old, new in pairs:
        pattern = rf"(?<![^.]){re.escape(old)}(?![^.])"
        if re.search(pattern, name):
            name = re.sub(pattern, new, name, count=1)
    return name


def _match_prefix(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    wants = any(name.startswith("bert.") for name in expected)
    has = any(name.startswith("bert.") for name in state)
    if has and not wants:
        return {name.removeprefix("bert."): tensor for name, tensor in state.items()}
    if wants and not has:
        on_top = {name for name in state if HEADS.match(name) and not name.startswith("pooler")}
        return {name if name in on_top else f"bert.{name}": tensor for name, tensor in state.items()}
    return dict(state)


def _keep_other_files(folder: Path, temporary: Path) -> None:
    ours = {"config.json", *WEIGHT_FILES, *(f"{name}.index.json" for name in WEIGHT_FILES)}
    if folder.is_dir():
        options = {"symlinks": True, "copy_function": _link, "dirs_exist_ok": True}
        shutil.copytree(folder, temporary, ignore=lambda at, _: ours if Path(at) == folder else (), **options)


def _link(source: str | Path, target: str | Path) -> None:
    """Give a file a second name, which costs no space, or copy it where the disk cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
