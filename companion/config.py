"""The shape of a BERT: one frozen, validated dataclass that reads and writes Transformers' `config.json`."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from companion.support.files import read_json
from companion.support.require import choice, integer, number, require

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
        for name in _POSITIVE:
            self._set(name, integer(name, getattr(self, name), minimum=1))
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            self._set(name, number(name, getattr(self, name), "a probability in [0, 1)", minimum=0, below=1))
        for name in ("initializer_range", "layer_norm_eps"):
            self._set(name, number(name, getattr(self, name), above=0))
        if (dropout := self.classifier_dropout) is not None:
            allowed = "None or a probability in [0, 1)"
            self._set("classifier_dropout", number("classifier_dropout", dropout, allowed, minimum=0, below=1))
        self._set("pad_token_id", integer("pad_token_id", self.pad_token_id, 0, self.vocab_size - 1))
        choice("hidden_act", self.hidden_act, ACTIVATIONS)
        choice("problem_type", self.problem_type, (None, *PROBLEM_TYPES))
        multiple = f"a multiple of num_attention_heads={self.num_attention_heads}"
        require("hidden_size", self.hidden_size, self.hidden_size % self.num_attention_heads == 0, multiple)
        self._set("labels", _checked_labels(self.labels, self.num_labels))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def id2label(self) -> dict[int, str]:
        """Names of the outputs of a classification head by their number, `LABEL_0`, `LABEL_1` ... without `labels`."""
        return dict(enumerate(self.labels or tuple(f"LABEL_{i}" for i in range(self.num_labels))))

    @property
    def label2id(self) -> dict[str, int]:
        """Numbers of the outputs of a classification head by their name."""
        return {name: i for i, name in self.id2label.items()}

    @property
    def model_type(self) -> str:
        """The architecture, as `config.json` names it."""
        return "bert"

    @property
    def head_dim(self) -> int:
        """Dimensions of one attention head: `hidden_size / num_attention_heads`."""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def preset(cls, name: str, **changes: Any) -> BertConfig:
        """Return a published size by name: tiny, mini, small, medium, base or large, with `changes` applied."""
        choice("preset", name, PRESETS)
        layers, hidden = PRESETS[name]
        sizes = {
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": hidden // 64,
            "intermediate_size": 4 * hidden,
        }
        return cls(**{**sizes, **_known(changes)})

    def replace(self, **changes: Any) -> BertConfig:
        """Return a copy with `changes` applied; changing `labels` alone changes `num_labels` with it.

        Raises
        ------
        TypeError
            If a change is no entry of the config; names the nearest one.
        ValueError
            If a value is out of range.
        """
        _known(changes)
        if changes.get("labels") and "num_labels" not in changes:
            changes["num_labels"] = len(changes["labels"])
        elif changes.get("num_labels", self.num_labels) != self.num_labels and "labels" not in changes:
            changes["labels"] = ()
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of Transformers' `config.json` for this model."""
        entries = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        entries = {name: value for name, value in entries.items() if name not in ("labels", "num_labels")}
        return entries | {
            "model_type": self.model_type,
            "id2label": {str(i): name for i, name in self.id2label.items()},
            "label2id": self.label2id,
        }

    def to_json_string(self) -> str:
        """Return the content of `config.json` as text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

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
        values = {name: value for name, value in entries.items() if name in known and value is not None}
        return cls(**(values | _labels(entries)))

    @classmethod
    def from_file(cls, path: str | Path) -> BertConfig:
        """Read a `config.json`, or the `bert_config.json` of Google's releases.

        Parameters
        ----------
        path : str or Path
            The file, or the folder that holds it.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If it is not JSON, describes no BERT, or a value is out of range; names the file.
        """
        path = Path(path)
        if path.is_dir():
            path = next((path / name for name in CONFIG_FILES if (path / name).is_file()), path / CONFIG_FILES[0])
        entries = read_json(path)
        if not isinstance(entries, Mapping) or not {"model_type", *_POSITIVE} & entries.keys():
            raise ValueError(f"{path} holds none of a BERT's sizes, such as vocab_size; it is no config of a model")
        try:
            return cls.from_dict(entries)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


CONFIG_FILES = ("config.json", "bert_config.json")
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


# Entries that other libraries take, and what stands for them here.
_OTHER_NAMES = {
    "id2label": "labels=('negative', 'positive')",
    "label2id": "labels=('negative', 'positive')",
    "num_classes": "num_labels",
    "dtype": "model.to(dtype) after loading",
    "torch_dtype": "model.to(dtype) after loading",
    "device_map": "model.to(device) after loading",
}


def _known(changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `changes` if all are entries of the config."""
    names = [field.name for field in dataclasses.fields(BertConfig)]
    for name in changes:
        if name not in names:
            near = _OTHER_NAMES.get(name) or next(iter(difflib.get_close_matches(name, names)), None)
            hint = f"; use {near}" if near else ""
            raise TypeError(f"{name} is no entry of BertConfig{hint}. The entries are {', '.join(names)}")
    return changes


def _checked_labels(labels: Any, count: int) -> tuple[str, ...]:
    require("labels", labels, not isinstance(labels, str), "a sequence of names, not one str")
    labels = tuple(labels)
    require("labels", labels, all(isinstance(name, str) for name in labels), "names of type str")
    require("labels", labels, len(labels) in (0, count), f"empty or num_labels={count} names")
    require("labels", labels, len(set(labels)) == len(labels), "names that differ from one another")
    return labels


def _labels(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return `num_labels` and `labels` as `id2label` of a `config.json` gives them; empty where it gives none."""
    id2label = entries.get("id2label")
    if not id2label:
        return {}
    numbers = "names by their numbers 0, 1, 2 ... without gaps"
    require("id2label", id2label, isinstance(id2label, Mapping), numbers)
    require("id2label", id2label, {str(i) for i in range(len(id2label))} == {str(i) for i in id2label}, numbers)
    names = tuple(str(name) for _, name in sorted(id2label.items(), key=lambda item: int(item[0])))
    generic = names == tuple(f"LABEL_{i}" for i in range(len(names)))
    return {"num_labels": len(names), "labels": () if generic else names}


def _set_attribute(config: BertConfig, name: str, value: Any) -> None:
    """Refuse to change an entry in place; keep what other libraries write beside the entries.

    A network is built from its config, which would be wrong about it afterwards. `transformers.Trainer` sets
    `use_cache` and other entries that a BERT does not have; they are kept on the object and not saved.
    """
    entries = {field.name for field in dataclasses.fields(BertConfig)} | {"id2label", "label2id", "model_type"}
    if name not in entries:
        object.__setattr__(config, name, value)
    elif getattr(config, name) != value:
        raise dataclasses.FrozenInstanceError(
            f"{name} cannot be changed in place; use config.replace({name}=...) and build the model from that"
        )


# After the decorator, whose own refuses every name.
BertConfig.__setattr__ = _set_attribute  # type: ignore[method-assign, assignment]

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
