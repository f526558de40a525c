"""The exporter for the browser: what is rounded, by how much, and what lies in the folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from companion.config import BertConfig
from companion.deployment.browser import GROUP, dequantise, export_for_browser, quantise, size_in_browser
from companion.model.heads import BertForPreTraining
from companion.model.names import from_transformers
from companion.text.tokenizer import Tokenizer

LIMIT = 6.5e6  # bytes that a reader of the book fetches
FILES = ["config.json", "model.safetensors", "vocab.txt"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "mini"
    export_for_browser("mini", folder)
    return folder


def test_a_run_of_columns_worked_by_hand():
    weight = torch.zeros(9, GROUP)
    weight[0, :4] = torch.tensor([1.27, -0.632, 0.01, 0.004])  # one step is 1.27 / 127 = 0.01
    stored = quantise({"w": weight})
    assert stored["w"].dtype == torch.int8
    assert stored["w"][0, :4].tolist() == [127, -63, 1, 0]
    assert stored["w.scale"].shape == (9, 1)
    assert stored["w.scale"][0, 0].item() == pytest.approx(0.01, rel=1e-3)
    assert not dequantise(stored)["w"][1:].any()


def test_every_weight_is_off_by_at_most_half_a_step():
    weight = torch.randn(40, 3 * GROUP, generator=torch.Generator().manual_seed(0))
    steps = quantise({"w": weight})["w.scale"].float().repeat_interleave(GROUP, dim=1)
    error = (dequantise(quantise({"w": weight}))["w"] - weight).abs()
    assert (error <= steps * (0.5 + 127 * 2**-11)).all()  # the second term: the scale itself is rounded to fp16


def test_tiny_weights_do_not_become_infinite():
    weight = torch.full((9, GROUP), 1e-9)
    assert dequantise(quantise({"w": weight}))["w"].abs().max() < 1e-6


def test_vectors_and_matrices_of_few_rows_stay_exact():
    state = {"bias": torch.randn(7), "segments": torch.randn(2, 50)}
    stored = quantise(state)
    assert stored.keys() == state.keys()
    assert all(torch.equal(stored[name], state[name]) for name in state)


def test_the_folder_holds_what_a_page_fetches_and_little_enough(exported: Path):
    assert sorted(path.name for path in exported.iterdir()) == FILES
    assert sum(path.stat().st_size for path in exported.iterdir()) <= LIMIT
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in exported.iterdir()), (
        "a server must be able to read them"
    )


def test_the_size_that_is_announced_is_that_of_the_weights(exported: Path):
    announced = size_in_browser(BertForPreTraining.from_pretrained("mini"))
    assert 0 < (exported / "model.safetensors").stat().st_size - announced < 20_000  # the names of the weights


def test_the_config_says_how_to_split_text_and_which_shape(exported: Path):
    config = json.loads((exported / "config.json").read_text(encoding="utf-8"))
    assert config["tokenizer"] == {"lowercase": True, "strip_accents": True, "tokenize_chinese_chars": True}
    assert BertConfig.from_dict(config) == BertForPreTraining.from_pretrained("mini").config
    lines = (exported / "vocab.txt").read_text(encoding="utf-8").split("\n")
    assert lines[:-1] == Tokenizer.from_pretrained("mini").vocabulary


def test_the_stored_weights_are_those_of_the_network(exported: Path):
    stored = from_transformers(dequantise(load_file(exported / "model.safetensors")))
    exact = BertForPreTraining.from_pretrained("mini").state_dict()
    assert stored.keys() == exact.keys()
    for name, weight in exact.items():
        assert (stored[name] - weight).norm() <= 0.01 * weight.norm(), name


def test_a_second_export_replaces_the_first(tmp_path: Path):
    (tmp_path / "vocab.txt").write_text("old")
    sizes = {export_for_browser("mini", tmp_path) for _ in range(2)}
    assert sizes == {sum(path.stat().st_size for path in tmp_path.iterdir())}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hidden_act": "relu"}, "hidden_act='relu'.*'gelu'"),
        ({"hidden_size": 24}, "hidden_size=24.*a multiple of 16"),
        ({"intermediate_size": 40}, "intermediate_size=40.*a multiple of 16"),
    ],
)
def test_what_the_program_of_the_pages_does_not_compute_is_refused(changes: dict, named: str, tmp_path: Path):
    shape = {"vocab_size": 5, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = BertConfig(**(shape | {"intermediate_size": 64} | changes))
    BertForPreTraining(config).save_pretrained(tmp_path / "checkpoint")
    Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]).save_pretrained(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match=named):
        export_for_browser(tmp_path / "checkpoint", tmp_path / "site")
    assert not (tmp_path / "site").exists()
