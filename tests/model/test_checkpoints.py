"""Checkpoints: Transformers' folders both ways, the hub's cache, old names, and everything that must be refused."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

import companion
from companion.config import BertConfig
from companion.model.checkpoints import load_weights, read_weights
from companion.model.encoder import BertModel
from companion.model.heads import BertForMaskedLM, BertForPreTraining, BertForSequenceClassification
from companion.model.names import from_transformers, to_transformers
from tests.models import IDS, MASK, assert_same_outputs, make, outputs

CLASSES = [
    "BertModel",
    "BertForPreTraining",
    "BertForMaskedLM",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertForQuestionAnswering",
    "BertForMultipleChoice",
]


def rewrite(folder: Path, change: object) -> None:
    """Replace the tensors of a folder by what `change` makes of them."""
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")


@pytest.fixture
def saved(tmp_path: Path, small_config: BertConfig) -> Path:
    make(BertForPreTraining, small_config).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("name", CLASSES)
def test_transformers_opens_what_is_saved_and_its_own_comes_back(tmp_path, small_config, name: str):
    cls = BertModel if name == "BertModel" else getattr(companion, name)
    ours = make(cls, small_config)
    ours.save_pretrained(tmp_path / "ours")
    theirs, loading = getattr(transformers, name).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(loading.values()), loading
    assert_same_outputs(ours, theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    back = cls.from_pretrained(tmp_path / "theirs")
    assert_same_outputs(ours, back)
    assert back.config == ours.config
    assert not back.training


def test_the_saved_config_names_the_class(saved: Path):
    assert json.loads((saved / "config.json").read_text())["architectures"] == ["BertForPreTraining"]
    assert transformers.AutoModelForPreTraining.from_pretrained(saved).__class__.__name__ == "BertForPreTraining"


@pytest.mark.parametrize("name", CLASSES[1:])
def test_another_head_opens_the_same_encoder_and_says_what_is_new(saved: Path, caplog, name: str):
    with caplog.at_level(logging.WARNING):
        model = getattr(companion, name).from_pretrained(saved)
    whole = BertForPreTraining.from_pretrained(saved)
    torch.testing.assert_close(model.bert(IDS).last_hidden_state, whole.bert(IDS).last_hidden_state)
    new = {
        "BertForPreTraining": [],
        "BertForMaskedLM": [],
        "BertForSequenceClassification": ["classifier.weight", "classifier.bias"],
        "BertForTokenClassification": ["classifier.weight", "classifier.bias"],
        "BertForQuestionAnswering": ["qa_outputs.weight", "qa_outputs.bias"],
        "BertForMultipleChoice": ["classifier.weight", "classifier.bias"],
    }[name]
    messages = [record.getMessage() for record in caplog.records if record.name == "companion.model.checkpoints"]
    assert len(messages) == bool(new)
    assert all(part in messages[0] for part in new)
    assert not new or "newly initialised" in messages[0]


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertForSequenceClassification"])
def test_transformers_opens_the_folder_with_another_head_too(saved: Path, name: str):
    theirs = getattr(transformers, name).from_pretrained(saved)
    ours = getattr(companion, name).from_pretrained(saved)
    torch.testing.assert_close(
        theirs.bert(IDS, MASK).last_hidden_state, ours.bert(IDS, MASK).last_hidden_state, atol=1e-5, rtol=1e-5
    )


def test_an_encoder_alone_opens_as_a_model_with_a_head_and_back(tmp_path, small_config, caplog):
    encoder = make(BertModel, small_config)
    encoder.save_pretrained(tmp_path / "encoder")
    with caplog.at_level(logging.WARNING):
        model = BertForSequenceClassification.from_pretrained(tmp_path / "encoder")
    assert "classifier.weight, classifier.bias" in caplog.text and "pooler" not in caplog.text
    torch.testing.assert_close(model.bert(IDS).pooler_output, encoder(IDS).pooler_output)
    model.save_pretrained(tmp_path / "model")
    assert_same_outputs(BertModel.from_pretrained(tmp_path / "model"), encoder)


def test_a_pooler_that_the_file_does_not_have_is_named(tmp_path, small_config, caplog):
    make(BertForMaskedLM, small_config).save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        BertModel.from_pretrained(tmp_path)
    assert "pooler.dense.weight, pooler.dense.bias: newly initialised" in caplog.text


def test_what_is_set_on_loading_goes_over_the_file(saved: Path):
    model = BertForSequenceClassification.from_pretrained(saved, labels=("no", "yes", "maybe"), hidden_dropout_prob=0.3)
    assert (model.config.num_labels, model.classifier.out_features, model.dropout.p) == (3, 3, 0.3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_stored_in_half_the_size_come_back_in_fp32(tmp_path, small_config, dtype: torch.dtype):
    model = make(BertModel, small_config)
    model.save_pretrained(tmp_path, dtype=dtype)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {dtype}
    back = BertModel.from_pretrained(tmp_path)
    for before, after in zip(model.parameters(), back.parameters(), strict=True):
        assert torch.equal(after, before.to(dtype).float())
    assert model.embeddings.norm.weight.dtype == torch.float32, "saving must not change the model"
    transformers.BertModel.from_pretrained(tmp_path)


def test_names_map_one_to_one_there_and_back(small_config: BertConfig):
    for name in CLASSES:
        cls = BertModel if name == "BertModel" else getattr(companion, name)
        state = cls(small_config).state_dict()
        theirs = to_transformers(state)
        expected = getattr(transformers, name)(transformers.BertConfig.from_dict(small_config.to_dict())).state_dict()
        tied = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "bert.embeddings.position_ids"}
        assert set(theirs) == {name for name in expected if name not in tied}
        assert list(from_transformers(theirs)) == list(state)


def test_a_first_release_file_with_gamma_and_beta_and_redundant_tensors_is_read(saved: Path):
    before = outputs(BertForPreTraining.from_pretrained(saved))

    def as_in_2018(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        old = {}
        for name, tensor in state.items():
            name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            old[name] = tensor
        old["bert.embeddings.position_ids"] = torch.arange(16)[None]
        old["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"].clone()
        old["cls.predictions.decoder.bias"] = state["cls.predictions.bias"].clone()
        assert sum(name.endswith(("gamma", "beta")) for name in old) == 12
        return old

    rewrite(saved, as_in_2018)
    for old, new in zip(before, outputs(BertForPreTraining.from_pretrained(saved)), strict=True):
        assert torch.equal(old, new)


def test_an_encoder_under_the_prefix_bert_and_one_without_are_the_same(saved: Path):
    whole = BertForPreTraining.from_pretrained(saved)
    rewrite(saved, lambda state: {name.removeprefix("bert."): tensor for name, tensor in state.items()})
    assert_same_outputs(BertForPreTraining.from_pretrained(saved), whole)
    assert_same_outputs(BertModel.from_pretrained(saved), whole.bert)


def test_a_pickle_is_read_if_it_holds_tensors_alone(saved: Path):
    before = BertForPreTraining.from_pretrained(saved)
    torch.save(load_file(saved / "model.safetensors"), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    assert_same_outputs(BertForPreTraining.from_pretrained(saved), before)


class Malicious:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(saved: Path):
    (saved / "model.safetensors").unlink()
    torch.save({"bert.embeddings.word_embeddings.weight": Malicious(saved / "ran")}, saved / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model.bin is a pickle that would run code when opened \(.*mkdir"):
        BertForPreTraining.from_pretrained(saved)
    assert not (saved / "ran").exists()
    torch.load(saved / "pytorch_model.bin", weights_only=False)
    assert (saved / "ran").exists(), "or the file would have proved nothing"


def test_safetensors_are_preferred_to_a_pickle(saved: Path):
    (saved / "pytorch_model.bin").write_bytes(b"not a pickle")
    BertForPreTraining.from_pretrained(saved)


@pytest.mark.parametrize("safe", [True, False])
def test_weights_in_several_files_are_put_together(saved: Path, safe: bool):
    before = BertForPreTraining.from_pretrained(saved)
    theirs = transformers.BertForPreTraining.from_pretrained(saved)
    folder = saved.parent / "sharded"
    theirs.save_pretrained(folder, max_shard_size="10KB")
    if not safe:
        shards = json.loads((folder / "model.safetensors.index.json").read_text())
        for file in set(shards["weight_map"].values()):
            torch.save(load_file(folder / file), folder / file.replace("safetensors", "bin"))
            (folder / file).unlink()
        shards["weight_map"] = {k: v.replace("safetensors", "bin") for k, v in shards["weight_map"].items()}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(shards))
        (folder / "model.safetensors.index.json").unlink()
    assert len(list(folder.glob("model-0*"))) > 1
    assert_same_outputs(BertForPreTraining.from_pretrained(folder), before)


def test_a_folder_without_weights_is_refused_by_name(saved: Path):
    (saved / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"saved' holds no weights; expected one of model.safetensors, pytorch"):
        BertForPreTraining.from_pretrained(saved)
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        read_weights(saved)


def test_missing_unexpected_and_misshapen_weights_are_all_named(saved: Path):
    def spoil(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        del state["bert.encoder.layer.1.attention.self.key.weight"]
        state["bert.encoder.layer.2.output.dense.weight"] = torch.zeros(1)
        state["bert.embeddings.position_embeddings.weight"] = torch.zeros(8, 24)
        return state

    rewrite(saved, spoil)
    with pytest.raises(ValueError, match="do not fit BertForPreTraining") as caught:
        BertForPreTraining.from_pretrained(saved)
    message = str(caught.value)
    assert str(saved) in message
    assert "missing: bert.encoder.layers.1.attention.key.weight." in message
    assert "unexpected: bert.encoder.layers.2.feed_forward.contract.weight." in message
    assert "misshapen: bert.embeddings.positions.weight: (8, 24) on file, (16, 24) in the model." in message


def test_a_classifier_of_another_size_is_an_error_and_not_a_new_one(tmp_path, small_config):
    make(BertForSequenceClassification, small_config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"classifier.weight: \(5, 24\) on file, \(2, 24\) in the model"):
        BertForSequenceClassification.from_pretrained(tmp_path, num_labels=2)


def test_nothing_is_loaded_when_something_does_not_fit(small_config: BertConfig):
    model, other = make(BertModel, small_config), make(BertModel, small_config, seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = other.state_dict()
    state.pop("encoder.layers.1.feed_forward.expand.bias")
    with pytest.raises(ValueError, match="missing: encoder.layers.1.feed_forward.expand.bias"):
        load_weights(model, state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_model_of_another_architecture_is_refused(saved: Path):
    entries = json.loads((saved / "config.json").read_text()) | {"model_type": "roberta"}
    (saved / "config.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match="model_type='roberta' is not 'bert'"):
        BertModel.from_pretrained(saved)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "base_model.", "module._orig_mod.", "_orig_mod.module.", "model.", "bert."]
)
def test_what_wrappers_put_before_the_names_is_taken_off(saved: Path, prefix: str):
    whole = BertForPreTraining.from_pretrained(saved)

    def wrapped(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if prefix == "bert.":  # one layer compiled by itself
            return {name.replace("encoder.layer.1.", "encoder.layer.1._orig_mod."): t for name, t in state.items()}
        return {prefix + name: tensor for name, tensor in state.items()}

    rewrite(saved, wrapped)
    assert_same_outputs(BertForPreTraining.from_pretrained(saved), whole)
    assert_same_outputs(BertModel.from_pretrained(saved), whole.bert)


def test_a_network_saved_by_its_own_wrapper_opens(tmp_path: Path, small_config: BertConfig):
    model = make(BertModel, small_config)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(nn.DataParallel(model).state_dict(), tmp_path / "pytorch_model.bin")
    assert_same_outputs(BertModel.from_pretrained(tmp_path), model)


@pytest.mark.parametrize("name", ["loss_fct.weight", "crf.transitions", "module.loss_fct.weight"])
def test_what_was_trained_beside_the_network_is_a_warning(saved: Path, caplog, name: str):
    whole = BertForPreTraining.from_pretrained(saved)
    rewrite(saved, lambda state: state | {name: torch.zeros(3)})
    with caplog.at_level(logging.WARNING):
        assert_same_outputs(BertForPreTraining.from_pretrained(saved), whole)
    assert f"also holds {name.removeprefix('module.')}, which BertForPreTraining does not have" in caplog.text
    theirs = transformers.BertForPreTraining.from_pretrained(saved)
    assert_same_outputs(theirs.eval(), whole)


def test_a_message_names_five_weights_and_the_number_of_the_others(saved: Path):
    rewrite(saved, lambda state: {f"roberta.{name}": tensor for name, tensor in state.items()})
    with pytest.raises(ValueError, match=r"missing: bert.embeddings.*; and \d+ more\. Compare") as caught:
        BertForPreTraining.from_pretrained(saved)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("kept", ["cls.predictions.bias", "cls.predictions.decoder.bias"])
def test_the_bias_of_the_decoder_is_found_under_either_name(saved: Path, kept: str):
    whole = BertForPreTraining.from_pretrained(saved)

    def one_name(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in state.items() if name != "cls.predictions.bias"} | {
            kept: state["cls.predictions.bias"]
        }

    rewrite(saved, one_name)
    assert_same_outputs(BertForPreTraining.from_pretrained(saved), whole)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "is a Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html>\n<html>Not found</html>", "is a web page, not the file"),
        (b"", "is empty; fetch or write it again"),
        (b"no weights at all, but longer than the eight bytes of a header", "is cut short, damaged or of another kind"),
        (None, r"is cut short, damaged or of another kind \(\d+ bytes\); fetch"),
    ],
)
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_of_weights_that_is_none_is_named_with_what_it_is(saved: Path, file: str, content: bytes, message: str):
    if file.endswith("bin"):
        torch.save(load_file(saved / "model.safetensors"), saved / file)
        (saved / "model.safetensors").unlink()
    whole = (saved / file).read_bytes()
    (saved / file).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match=rf"{file} {message}"):
        BertForPreTraining.from_pretrained(saved)


def test_a_pickle_of_something_else_is_refused(saved: Path):
    (saved / "model.safetensors").unlink()
    torch.save([torch.zeros(3)], saved / "pytorch_model.bin")
    with pytest.raises(ValueError, match="a mapping of names to tensors"):
        BertModel.from_pretrained(saved)


def test_a_shard_that_is_missing_is_named(saved: Path):
    weights = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (saved / "model.safetensors").unlink()
    (saved / "model.safetensors.index.json").write_text(json.dumps(weights))
    with pytest.raises(FileNotFoundError, match="model-00001-of-00001.safetensors"):
        BertModel.from_pretrained(saved)


def test_a_release_of_google_with_its_own_name_of_the_config_opens(saved: Path):
    whole = BertForPreTraining.from_pretrained(saved)
    (saved / "config.json").rename(saved / "bert_config.json")
    assert_same_outputs(BertForPreTraining.from_pretrained(saved), whole)
