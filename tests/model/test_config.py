"""BertConfig: its defaults, what it refuses, and Transformers' `config.json` both ways."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from companion.config import PRESETS, BertConfig

SHARED = [field.name for field in dataclasses.fields(BertConfig) if field.name != "labels"]


@st.composite
def configs(draw: st.DrawFn) -> BertConfig:
    heads = draw(st.integers(1, 4))
    num_labels = draw(st.integers(1, 12))
    label = st.text("abcXYZ-é", min_size=1, max_size=5)
    labels = draw(st.one_of(st.just(()), st.lists(label, min_size=num_labels, max_size=num_labels, unique=True)))
    return BertConfig(
        vocab_size=draw(st.integers(2, 100)),
        hidden_size=heads * draw(st.integers(1, 16)),
        num_hidden_layers=draw(st.integers(1, 4)),
        num_attention_heads=heads,
        hidden_act=draw(st.sampled_from(["gelu", "gelu_new", "relu"])),
        hidden_dropout_prob=draw(st.floats(0, 0.9)),
        layer_norm_eps=draw(st.floats(1e-12, 1e-3)),
        pad_token_id=draw(st.integers(0, 1)),
        classifier_dropout=draw(st.none() | st.floats(0, 0.9)),
        num_labels=num_labels,
        labels=tuple(labels),
        problem_type=draw(st.sampled_from([None, "regression", "multi_label_classification"])),
    )


@pytest.mark.parametrize("name", SHARED)
def test_the_defaults_are_those_of_transformers(name: str):
    assert getattr(BertConfig(), name) == getattr(transformers.BertConfig(), name)


def test_the_defaults_are_bert_base_and_the_presets_the_published_sizes():
    assert BertConfig.preset("base") == BertConfig()
    sizes = {name: (c.num_hidden_layers, c.hidden_size) for name in PRESETS for c in [BertConfig.preset(name)]}
    assert sizes == {
        "tiny": (2, 128),
        "mini": (4, 256),
        "small": (4, 512),
        "medium": (8, 512),
        "base": (12, 768),
        "large": (24, 1024),
    }
    large = BertConfig.preset("large")
    assert (large.num_attention_heads, large.intermediate_size, large.head_dim) == (16, 4096, 64)


def test_a_preset_takes_changes():
    config = BertConfig.preset("mini", vocab_size=8000, intermediate_size=99)
    assert (config.hidden_size, config.vocab_size, config.intermediate_size) == (256, 8000, 99)


def test_an_unknown_preset_is_named_with_those_there_are():
    with pytest.raises(
        ValueError,
        match="preset='huge' is not allowed; it must be one of 'tiny', 'mini', 'small', 'medium', 'base', 'large'",
    ):
        BertConfig.preset("huge")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("vocab_size", 0, "an integer above 0"),
        ("num_hidden_layers", 1.5, "an integer above 0"),
        ("type_vocab_size", -1, "an integer above 0"),
        ("hidden_size", 770, "a multiple of num_attention_heads=12"),
        ("hidden_act", "swish", "one of 'gelu', 'gelu_new', 'relu'"),
        ("hidden_dropout_prob", 1.0, r"a probability in \[0, 1\)"),
        ("attention_probs_dropout_prob", -0.1, r"a probability in \[0, 1\)"),
        ("classifier_dropout", 1.0, r"None or a probability in \[0, 1\)"),
        ("initializer_range", 0.0, "a number above 0"),
        ("layer_norm_eps", 0.0, "a number above 0"),
        ("pad_token_id", 30522, "an integer from 0 to 30521"),
        ("labels", ("a", "b", "c"), "empty or num_labels=2 names"),
        ("labels", ("a", "a"), "names that differ from one another"),
        ("labels", "ab", "a sequence of names, not one str"),
        ("labels", (0, 1), "names of type str"),
        ("vocab_size", True, "an integer above 0"),
        ("num_attention_heads", "12", "an integer above 0"),
        ("num_labels", None, "an integer above 0"),
        ("hidden_dropout_prob", "a", r"a probability in \[0, 1\)"),
        ("hidden_dropout_prob", float("nan"), r"a probability in \[0, 1\)"),
        ("classifier_dropout", False, r"None or a probability in \[0, 1\)"),
        ("layer_norm_eps", None, "a number above 0"),
        ("pad_token_id", 0.0, "an integer from 0 to 30521"),
        ("pad_token_id", -1, "an integer from 0 to 30521"),
        ("hidden_act", None, "one of"),
        ("problem_type", "ranking", "one of None, 'single_label"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_allowed(name: str, value: object, allowed: str):
    with pytest.raises(ValueError, match=rf"{name}=.* is not allowed; it must be {allowed}"):
        BertConfig(**{name: value})


def test_numbers_of_other_libraries_become_pythons_own():
    config = BertConfig(vocab_size=np.int64(50), hidden_size=torch.tensor(24), num_attention_heads=np.int32(4))
    config = config.replace(hidden_dropout_prob=np.float32(0.5), layer_norm_eps=1)
    assert [type(value) for value in (config.vocab_size, config.hidden_size)] == [int, int]
    assert (config.hidden_dropout_prob, type(config.layer_norm_eps)) == (0.5, float)
    assert json.loads(config.to_json_string())["vocab_size"] == 50


def test_a_config_cannot_be_changed_in_place_but_keeps_what_other_libraries_write_beside():
    config = BertConfig()
    for name, value in (("hidden_size", 5), ("labels", ("a", "b")), ("id2label", {0: "a"}), ("model_type", "gpt2")):
        with pytest.raises(dataclasses.FrozenInstanceError, match=rf"use config.replace\({name}=...\)"):
            setattr(config, name, value)
    before = hash(config)
    config.use_cache, config.pad_token_id = False, 0  # as transformers.Trainer does
    assert config.use_cache is False and "use_cache" not in config.to_dict()
    assert config == BertConfig() and hash(config) == before


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("num_label", "use num_labels"),
        ("hidden_dropout", "use hidden_dropout_prob"),
        ("id2label", r"use labels=\('negative', 'positive'\)"),
        ("torch_dtype", r"use model.to\(dtype\) after loading"),
        ("quux", "is no entry of BertConfig. The entries are vocab_size, hidden_size,"),
    ],
)
@pytest.mark.parametrize("call", [BertConfig().replace, partial(BertConfig.preset, "mini")], ids=["replace", "preset"])
def test_an_unknown_entry_is_named_with_the_nearest(call: Callable[..., BertConfig], name: str, hint: str):
    with pytest.raises(TypeError, match=f"{name} is no entry of BertConfig.*{hint}|{hint}"):
        call(**{name: 3})


def test_replacing_labels_and_their_number_keeps_the_two_in_step():
    named = BertConfig().replace(labels=["a", "b", "c"])
    assert (named.num_labels, named.labels) == (3, ("a", "b", "c"))
    assert named.replace(num_labels=4).labels == ()
    assert named.replace(num_labels=3).labels == ("a", "b", "c")
    assert named.replace(hidden_dropout_prob=0.0).labels == ("a", "b", "c")
    with pytest.raises(ValueError, match="labels="):
        named.replace(labels=("a", "b"), num_labels=3)


@given(configs())
def test_what_is_written_reads_back_the_same(config: BertConfig):
    assert BertConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@given(configs())
def test_transformers_reads_what_is_written_and_what_it_writes_is_read(config: BertConfig):
    theirs = transformers.BertConfig.from_dict(config.to_dict())
    for name in SHARED:
        assert getattr(theirs, name) == getattr(config, name), name
    names = config.labels or tuple(f"LABEL_{i}" for i in range(config.num_labels))
    assert theirs.id2label == dict(enumerate(names))
    assert theirs.label2id == {name: i for i, name in enumerate(names)}
    assert BertConfig.from_dict(json.loads(theirs.to_json_string(use_diff=False))) == config
    assert BertConfig.from_dict(json.loads(theirs.to_json_string(use_diff=True))) == config


def test_labels_are_ordered_by_number_and_not_by_letter():
    names = [f"name{i}" for i in range(12)]
    entries = {"id2label": {str(i): names[i] for i in sorted(range(12), key=str)}}  # "10" stands before "2"
    assert BertConfig.from_dict(entries).labels == tuple(names)


def test_generic_label_names_count_as_none():
    config = BertConfig.from_dict({"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}})
    assert (config.num_labels, config.labels) == (3, ())


def test_a_file_of_the_first_release_is_read(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"architectures": ["BertForMaskedLM"], "gradient_checkpointing": false, "vocab_size": 28996}')
    assert BertConfig.from_file(path) == BertConfig(vocab_size=28996)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("model_type", "roberta"),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("tie_word_embeddings", False),
    ],
)
def test_another_architecture_is_refused_by_name(entry: str, value: object):
    with pytest.raises(ValueError, match=f"{entry}={value!r} is "):
        BertConfig.from_dict({entry: value})


def test_null_entries_of_a_file_stand_for_the_default():
    entries = {"vocab_size": 50, "pad_token_id": None, "classifier_dropout": None, "hidden_act": None, "id2label": None}
    assert BertConfig.from_dict(entries) == BertConfig(vocab_size=50)
    assert transformers.BertConfig.from_dict({"pad_token_id": None}).pad_token_id is None, "no padding there either"


@pytest.mark.parametrize(
    ("id2label", "message"),
    [
        ({"0": "O", "1": "O"}, "labels=.* names that differ"),
        ({"0": "a", "2": "b"}, "id2label=.* without gaps"),
        ({"a": "b"}, "id2label=.* names by their numbers"),
        (["a", "b"], "id2label=.* names by their numbers"),
    ],
)
def test_label_names_of_a_file_that_are_none_are_refused(id2label: object, message: str):
    with pytest.raises(ValueError, match=message):
        BertConfig.from_dict({"id2label": id2label})


def test_label_names_of_a_file_that_are_numbers_become_text():
    assert BertConfig.from_dict({"id2label": {"0": 5, "1": True}}).labels == ("5", "True")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}", "holds none of a BERT's sizes"),
        (b"[1]", "holds none of a BERT's sizes"),
        (b'{"unrelated": 1}', "holds none of a BERT's sizes"),
        (b"", "is empty; fetch or write it again"),
        (b'{"vocab_size": 5', r"is not JSON \(line 1, column 17"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>404</html>", "is a web page"),
        ('{"vocab_size": 5}'.encode("utf-16"), "is in UTF-16; convert it"),
        (b'{\n"vocab_size": 5, "name": "\xe9"}', "line 2, is not UTF-8 .byte 0xe9"),
        (b'{"vocab_size": "many"}', "vocab_size='many' is not allowed; it must be an integer above 0"),
        (b'{"model_type": "roberta"}', "model_type='roberta' is not 'bert'"),
    ],
)
def test_a_file_that_is_no_config_is_named_with_what_it_is(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "config.json").write_bytes(content)
    for path in (tmp_path, tmp_path / "config.json"):
        with pytest.raises(ValueError, match=rf"config\.json.*{message}"):
            BertConfig.from_file(path)


def test_a_byte_order_mark_and_googles_file_name_are_read(tmp_path: Path):
    google = (
        '{"attention_probs_dropout_prob": 0.1, "directionality": "bidi", "hidden_size": 24, "num_attention_heads": 4}'
    )
    (tmp_path / "bert_config.json").write_text(google)
    assert BertConfig.from_file(tmp_path) == BertConfig(hidden_size=24, num_attention_heads=4)
    (tmp_path / "config.json").write_bytes(b"\xef\xbb\xbf" + b'{"vocab_size": 7}\r\n')
    assert BertConfig.from_file(tmp_path) == BertConfig(vocab_size=7)
    with pytest.raises(FileNotFoundError, match="config.json"):
        BertConfig.from_file(tmp_path / "nowhere" / "config.json")
