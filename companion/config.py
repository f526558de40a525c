"""The shape of a BERT: one frozen, validated dataclass that reads and writes Transformers' `config.json`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Layers and hidden size of the published models: tiny to medium from Turc et al. (2019), base and large from
# Devlin et al. (2019). Every one has 64 dimensions a head and a feed-forward layer of four times the hidden size.
PRESETS = {
    "tiny": (2, 128),
    "mini": (4, 256),
    "small": (4, 512),
    "medium": (8, 512),
    "base": (12, 768),
    "large": (24, 1024),
}
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


@dataclass(frozen=True)
class BertConfig:
    """Every size and rate of a BERT. The defaults are BERT-base, uncased (Devlin et al. 2019, section 3).

    Parameters
    ----------
    vocab_size : int
        Number of word pieces.
    hidden_size : int
        Width of every token's vector; a multiple of `num_attention_heads`.
    num_hidden_layers, num_attention_heads : int
        Encoder layers, and attention heads in each.
    intermediate_size : int
        Width of the feed-forward layer, four times `hidden_size` in every published model.
    hidden_act : {"gelu", "gelu_new", "relu"}
        Activation of the feed-forward layer; `"gelu"` is the exact (erf) form, `"gelu_new"` its tanh approximation.
    hidden_dropout_prob, attention_probs_dropout_prob : float
        Dropout after embeddings and sub-layers, and on attention weights; in [0, 1).
    max_position_embeddings : int
        Longest sequence, in tokens.
    type_vocab_size : int
        Number of segments.
    initializer_range : float
        Standard deviation of the normal distribution that weights are drawn from.
    layer_norm_eps : float
        Added to the variance in LayerNorm.
    pad_token_id : int
        Id of `[PAD]`.
    classifier_dropout : float, optional
        Dropout before a classification head; `hidden_dropout_prob` when None.
    num_labels : int
        Outputs of a classification head.
    labels : tuple of str
        Their names, in order; empty when they have none.
    problem_type : str, optional
        Loss of `BertForSequenceClassification`: `"single_label_classification"`, `"multi_label_classification"`
        or `"regression"`. None lets `num_labels` and the dtype of the labels decide, as Transformers does.

    Raises
    ------
    ValueError
        If a value is out of range; the message names it.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    classifier_dropout: float | None = None
    num_labels: int = 2
    labels: tuple[str, ...] = ()
    problem_type: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        for name in _POSITIVE:
            _require(isinstance(getattr(self, name), int) and getattr(self, name) > 0, self, name, "an integer above 0")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            _require(0 <= getattr(self, name) < 1, self, name, "a probability in [0, 1)")
        for name in ("initializer_range", "layer_norm_eps"):
            _require(getattr(self, name) > 0, self, name, "a number above 0")
        _require(self.hidden_act in ACTIVATIONS, self, "hidden_act", f"one of {', '.join(ACTIVATIONS)}")
        _require(
            self.hidden_size % self.num_attention_heads == 0,
            self,
            "hidden_size",
            f"a multiple of num_attention_heads={self.num_attention_heads}",
        )
        _require(0 <= self.pad_token_id < self.vocab_size, self, "pad_token_id", f"in [0, {self.vocab_size})")
        dropout = self.classifier_dropout
        _require(dropout is None or 0 <= dropout < 1, self, "classifier_dropout", "None or a probability in [0, 1)")
        _require(
            len(self.labels) in (0, self.num_labels), self, "labels", f"empty or num_labels={self.num_labels} names"
        )
        _require(self.problem_type in (None, *PROBLEM_TYPES), self, "problem_type", f"None or one of {PROBLEM_TYPES}")

    @property
    def head_dim(self) -> int:
        """Dimensions of one attention head: `hidden_size / num_attention_heads`."""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def preset(cls, name: str, **changes: Any) -> BertConfig:
        """Return a published size by name: tiny, mini, small, medium, base or large, with `changes` applied."""
        if name not in PRESETS:
            raise ValueError(f"preset {name!r} is unknown; choose one of {', '.join(PRESETS)}")
        layers, hidden = PRESETS[name]
        sizes = {
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": hidden // 64,
            "intermediate_size": 4 * hidden,
        }
        return cls(**(sizes | changes))

    def replace(self, **changes: Any) -> BertConfig:
        """Return a copy with `changes` applied; changing `labels` alone changes `num_labels` with it."""
        if changes.get("labels") and "num_labels" not in changes:
            changes["num_labels"] = len(changes["labels"])
        elif changes.get("num_labels", self.num_labels) != self.num_labels and "labels" not in changes:
            changes["labels"] = ()
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of Transformers' `config.json` for this model."""
        entries = dataclasses.asdict(self)
        names = entries.pop("labels") or tuple(f"LABEL_{i}" for i in range(self.num_labels))
        entries.pop("num_labels")
        return entries | {
            "model_type": "bert",
            "id2label": {str(i): name for i, name in enumerate(names)},
            "label2id": {name: i for i, name in enumerate(names)},
        }

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> BertConfig:
        """Return the config that a `config.json` describes; entries that BERT does not have are passed over.

        Raises
        ------
        ValueError
            If the file is of another architecture, or of a BERT variant that this model does not compute.
        """
        if entries.get("model_type", "bert") != "bert":
            raise ValueError(f"model_type={entries['model_type']!r} is not 'bert'; only BERT's architecture is here")
        _refuse_variants(entries)
        known = {field.name for field in dataclasses.fields(cls)} - {"labels"}
        values = {name: value for name, value in entries.items() if name in known}
        return cls(**(values | _labels(entries)))

    @classmethod
    def from_file(cls, path: str | Path) -> BertConfig:
        """Read a `config.json`."""
        with open(path, encoding="utf-8") as file:
            return cls.from_dict(json.load(file))


ACTIVATIONS = ("gelu", "gelu_new", "relu")
_POSITIVE = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "num_labels",
)


def _require(condition: bool, config: BertConfig, name: str, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{name}={getattr(config, name)!r} is not allowed; it must be {allowed}")


def _labels(entries: Mapping[str, Any]) -> dict[str, Any]:
    id2label = entries.get("id2label")
    if not id2label:
        return {}
    names = tuple(name for _, name in sorted(id2label.items(), key=lambda item: int(item[0])))
    generic = names == tuple(f"LABEL_{i}" for i in range(len(names)))
    return {"num_labels": len(names), "labels": () if generic else names}


_COMPUTED = (
    ("position_embedding_type", "absolute"),
    ("is_decoder", False),
    ("add_cross_attention", False),
    ("tie_word_embeddings", True),
)


def _refuse_variants(entries: Mapping[str, Any]) -> None:
    for name, ours in _COMPUTED:
        if entries.get(name, ours) != ours:
            raise ValueError(f"{name}={entries[name]!r} is a variant that this BERT does not compute; it has {ours!r}")
