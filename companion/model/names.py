"""Names of weights: those of this package's modules, and those that files carry.

The modules of this package have names of their own (`encoder.layers.0.attention.query`); files carry those of
Transformers (`encoder.layer.0.attention.self.query`). `NAME_MAP` is the one place where the two meet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

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
BACK = tuple(sorted(((theirs, ours) for ours, theirs in NAME_MAP), key=lambda pair: -len(pair[0])))
# Released files hold these beside the parameters; each repeats another tensor or is a constant.
REDUNDANT = re.compile(r"(embeddings\.(position|token_type)_ids|cls\.predictions\.decoder\.(weight|bias))$")
# Parts that a task adds to, or leaves out of, the pre-trained network.
HEADS = re.compile(r"^(mlm_head|nsp_head|classifier|qa_outputs|pooler|bert\.pooler)\b")
# What holds the pre-trained network: a name of another kind belongs to something that was trained beside it.
NETWORK = re.compile(r"^(bert|embeddings|encoder)\.")
# Put before every name by DataParallel and DDP, torch.compile, PEFT, and modules that hold the network as `model`.
WRAPPERS = re.compile(r"^((module|_orig_mod|base_model|model)\.)+|(?<=\.)_orig_mod\.")
DECODER_BIAS = "cls.predictions.decoder.bias"


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of ours to Transformers' names."""
    return {rename(name, NAME_MAP): tensor for name, tensor in state.items()}


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of Transformers, or of an older release of BERT (`gamma`/`beta`), to ours.

    What wrappers put before the names (`module.`, `_orig_mod.`, `base_model.`) is taken off.
    """
    state = {WRAPPERS.sub("", name): tensor for name, tensor in state.items()}
    if "cls.predictions.bias" not in state and DECODER_BIAS in state:  # the same bias under its second name
        state["cls.predictions.bias"] = state[DECODER_BIAS]
    renamed = {}
    for name, tensor in state.items():
        name = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
        if not REDUNDANT.search(name):
            renamed[rename(name, BACK)] = tensor
    return renamed


def rename(name: str, pairs: Sequence[tuple[str, str]]) -> str:
    """Replace in a dotted name every piece that `pairs` give another name, such as `NAME_MAP` or `BACK`."""
    for old, new in pairs:
        name = re.sub(rf"(?<![^.]){re.escape(old)}(?![^.])", new, name, count=1)
    return name


def match_prefix(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add or drop `bert.` before the names of `state`, as the names in `expected` have it or not."""
    wants = any(name.startswith("bert.") for name in expected)
    has = any(name.startswith("bert.") for name in state)
    if has and not wants:
        return {name.removeprefix("bert."): tensor for name, tensor in state.items()}
    if wants and not has:
        inside = re.compile(r"(embeddings|encoder|pooler)\.")
        return {f"bert.{name}" if inside.match(name) else name: tensor for name, tensor in state.items()}
    return dict(state)
