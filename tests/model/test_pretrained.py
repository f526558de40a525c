"""What every model can do beside computing: load without drawing, be resized, save memory, say what is wrong."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor, nn

from companion.config import BertConfig
from companion.model.encoder import BertModel
from companion.model.heads import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from tests.models import IDS, assert_same_outputs, make

MODELS = [
    BertModel,
    BertForPreTraining,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertForQuestionAnswering,
    BertForMultipleChoice,
]


@pytest.fixture
def saved(tmp_path: Path, small_config: BertConfig) -> Path:
    make(BertModel, small_config).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def states(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


@pytest.mark.parametrize("cls", MODELS)
def test_loading_draws_nothing_and_leaves_no_weight_without_a_value(tmp_path, small_config, monkeypatch, cls):
    make(cls, small_config).save_pretrained(tmp_path)
    before = torch.get_rng_state()
    monkeypatch.setattr(torch.nn.init, "normal_", lambda tensor, **_: tensor.is_meta or pytest.fail("drawn"))
    model = cls.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    for name, tensor in states(model):
        assert (tensor.device.type, tensor.dtype, tensor.is_contiguous()) == ("cpu", torch.float32, True), name
        assert tensor.requires_grad, name
    assert not model.training


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_stored_in_another_type_become_fp32_of_their_own(tmp_path, small_config, stored: torch.dtype):
    model = make(BertModel, small_config)
    model.save_pretrained(tmp_path, dtype=stored)
    loaded = BertModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.pooler.dense.weight, model.pooler.dense.weight.to(stored).float())
    assert len({p.untyped_storage().data_ptr() for p in loaded.parameters()}) == len(list(loaded.parameters()))


@pytest.mark.parametrize("cls", MODELS[1:])
def test_new_heads_are_those_that_the_class_would_draw_now_and_the_generator_stays(saved: Path, small_config, cls):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    loaded, again = cls.from_pretrained(saved), cls.from_pretrained(saved)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(7)
    drawn = dict(cls(small_config).named_parameters())
    base = BertModel.from_pretrained(saved)
    for name, parameter in loaded.named_parameters():
        expected = base.get_parameter(name[5:]) if name.startswith("bert.") else drawn[name]
        assert torch.equal(parameter, expected) and torch.equal(again.get_parameter(name), expected), name
    torch.manual_seed(8)
    heads = [name for name, p in loaded.named_parameters() if not name.startswith("bert.") and p.dim() > 1]
    other = cls.from_pretrained(saved)
    assert heads and all(not torch.equal(other.get_parameter(name), loaded.get_parameter(name)) for name in heads)


class WithBuffers(BertModel):
    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.register_buffer("rates", torch.arange(3.0), persistent=False)


def test_buffers_that_no_file_holds_have_their_values(saved: Path):
    model = WithBuffers.from_pretrained(saved)
    assert torch.equal(model.rates, torch.arange(3.0)) and "rates" not in model.state_dict()
    assert_same_outputs(model, BertModel.from_pretrained(saved))


def test_training_goes_on_from_loaded_weights(saved: Path):
    model = BertForTokenClassification.from_pretrained(saved).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    labels = torch.ones_like(IDS)
    losses = []
    for _ in range(5):
        loss = model(IDS, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_an_option_that_does_not_exist_is_named_with_the_nearest():
    with pytest.raises(TypeError, match="num_label is no entry of BertConfig; use num_labels. The entries are vocab_s"):
        BertForSequenceClassification.from_pretrained("mini", num_label=3)


@pytest.mark.parametrize("cls", [BertModel, BertForMaskedLM, BertForQuestionAnswering])
@pytest.mark.parametrize(
    ("config", "advice"),
    [
        ("mini", r"did you mean {}.from_pretrained\('mini'\)\?"),
        (Path("runs/docs"), r"{}.from_pretrained\('runs/docs'\)"),
        (transformers.BertConfig(), r"pass BertConfig.from_dict\(config.to_dict\(\)\)"),
        (None, r"such as BertConfig.preset\('mini'\)"),
        ({"vocab_size": 5}, r"such as BertConfig.preset"),
    ],
)
def test_a_model_made_from_a_name_says_how_to_load_one(cls: type[nn.Module], config: object, advice: str):
    with pytest.raises(TypeError, match=".*; .*" + advice.format(cls.__name__)):
        cls(config)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (({"input_ids": IDS},), TypeError, r"input_ids is a dict of inputs; unpack it: model\(\*\*batch\)"),
        ((IDS[0],), ValueError, r"the shape \(4,\); it must be \(batch, tokens\); add a dimension .*ids\[None\]"),
        ((IDS[None],), ValueError, r"the shape \(1, 2, 4\); it must be \(batch, tokens\)$"),
        (([[1, 2]],), TypeError, "input_ids is of type list; it must be a tensor"),
        (("a text",), TypeError, "input_ids is of type str; it must be a tensor"),
        ((IDS.float(),), TypeError, "input_ids is of dtype torch.float32; ids must be integers"),
        ((IDS + 40,), ValueError, "input_ids holds 70, and this model knows 0 to 49; use the tokenizer that belongs"),
        ((IDS - 1,), ValueError, "input_ids holds -1, and this model knows 0 to 49"),
        ((IDS, None, IDS), ValueError, "token_type_ids holds 30, and this model knows 0 to 2"),
        ((IDS, None, None, IDS), ValueError, "position_ids holds 30, and this model knows 0 to 15"),
        ((IDS, IDS[0]), ValueError, r"attention_mask has the shape \(4,\)"),
        ((IDS, IDS.T), ValueError, r"attention_mask has the shape \(4, 2\); for this input it must be \(2, 4\) or"),
        ((IDS, IDS[:, :3]), ValueError, r"attention_mask has the shape \(2, 3\); .* or \(2, 4, 4\)"),
        ((IDS, IDS[None]), ValueError, r"attention_mask has the shape \(1, 2, 4\); .* or \(2, 4, 4\)"),
        ((None, None, None, None, torch.zeros(4, 24)), ValueError, r"inputs_embeds has the shape \(4, 24\)"),
        ((), ValueError, "pass exactly one of input_ids and inputs_embeds"),
    ],
)
@pytest.mark.parametrize("cls", [BertModel, BertForMaskedLM, BertForSequenceClassification])
def test_inputs_of_another_form_are_named(small_config: BertConfig, cls, inputs, error: type, message: str):
    with pytest.raises(error, match=message):
        make(cls, small_config)(*inputs)


@pytest.mark.parametrize("cls", MODELS)
def test_where_it_is_and_how_large_it_is(small_config: BertConfig, cls: type[nn.Module]):
    model = make(cls, small_config)
    theirs = getattr(transformers, cls.__name__)(transformers.BertConfig.from_dict(model.config.to_dict()))
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)
    assert model.num_parameters() == theirs.num_parameters() == sum(p.numel() for p in model.parameters())
    assert model.num_parameters() - model.num_parameters(exclude_embeddings=True) == (50 + 16 + 3) * 24
    model.base_model.embeddings.requires_grad_(False)
    theirs.base_model.embeddings.requires_grad_(False)
    assert model.num_parameters(only_trainable=True) == theirs.num_parameters(only_trainable=True)
    assert model.to(torch.bfloat16).dtype == torch.bfloat16 and model.to("meta").device.type == "meta"


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("count", [53, 50, 20])
def test_the_vocabulary_can_grow_and_shrink(tmp_path, small_config: BertConfig, cls: type[nn.Module], count: int):
    model = make(cls, small_config)
    old = model.get_input_embeddings().weight.detach().clone()
    bias = model.mlm_head.bias.detach().clone() if hasattr(model, "mlm_head") else None
    new = model.resize_token_embeddings(count)
    assert new is model.get_input_embeddings() and new.weight.requires_grad and new.padding_idx == 0
    assert torch.equal(new.weight[: min(count, 50)], old[:count])
    assert torch.equal(new.weight[50:], old.mean(0).expand(max(count - 50, 0), 24))
    assert model.config.vocab_size == model.base_model.config.vocab_size == new.num_embeddings == count
    if bias is not None:
        torch.testing.assert_close(model.mlm_head.bias[50:], bias.mean().expand(max(count - 50, 0)))
        assert torch.equal(model.mlm_head.bias[: min(count, 50)], bias[:count])
    model.save_pretrained(tmp_path)
    assert_same_outputs_within(model, cls.from_pretrained(tmp_path), count)
    theirs = getattr(transformers, cls.__name__).from_pretrained(tmp_path)
    assert_same_outputs_within(model, theirs.eval(), count)


def assert_same_outputs_within(first: nn.Module, second: nn.Module, count: int) -> None:
    if count > int(IDS.max()):
        assert_same_outputs(first, second)
    assert first.config.vocab_size == second.config.vocab_size == count


def test_a_resized_network_is_tied_and_learns_its_new_rows(small_config: BertConfig):
    model = make(BertForMaskedLM, small_config)
    model.resize_token_embeddings(52, pad_to_multiple_of=8)
    ids = IDS.clone()
    ids[0, 1] = 51
    output = model(ids, labels=ids)
    assert output.logits.shape == (2, 4, 56)
    output.loss.backward()
    assert (model.get_input_embeddings().weight.grad[50:] != 0).any(-1).all(), "from both ends"
    assert model.mlm_head.bias.grad.shape == (56,) and sum(p.shape == (56, 24) for p in model.parameters()) == 1


def test_before_training_a_new_token_is_as_likely_as_the_average_one(small_config: BertConfig):
    model = make(BertForMaskedLM, small_config)
    before = model(IDS).logits
    model.resize_token_embeddings(52)
    logits = model(IDS).logits
    torch.testing.assert_close(logits[..., :50], before)
    torch.testing.assert_close(logits[..., 50:], before.mean(-1, keepdim=True).expand(-1, -1, 2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "new_num_tokens=0 is not allowed; it must be an integer above 0"),
        ((2.5,), "new_num_tokens=2.5"),
        ((3,), "new_num_tokens=3 is not allowed; it must be above pad_token_id=7"),
        ((60, 0), "pad_to_multiple_of=0"),
    ],
)
def test_a_size_that_is_none_is_refused_and_nothing_changes(small_config: BertConfig, arguments, message: str):
    model = make(BertModel, small_config.replace(pad_token_id=7))
    with pytest.raises(ValueError, match=message):
        model.resize_token_embeddings(*arguments)
    assert model.get_input_embeddings().num_embeddings == model.config.vocab_size == 50


def test_frozen_embeddings_and_their_type_stay_so(small_config: BertConfig):
    model = make(BertForMaskedLM, small_config).to(torch.float64)
    model.get_input_embeddings().requires_grad_(False)
    model.resize_token_embeddings(60)
    weight = model.get_input_embeddings().weight
    assert (weight.requires_grad, weight.dtype) == (False, torch.float64)
    assert model.resize_token_embeddings() is model.get_input_embeddings()


def gradients(model: nn.Module, **inputs: Tensor) -> tuple[float, dict[str, Tensor]]:
    torch.manual_seed(3)
    model.zero_grad()
    loss = model(**inputs).loss
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("options", [None, {"use_reentrant": False, "preserve_rng_state": True}])
def test_gradient_checkpointing_changes_neither_loss_nor_gradients(small_config: BertConfig, options):
    model = make(BertForMaskedLM, small_config).train()  # dropout as published: the second pass must draw the same
    inputs = {"input_ids": IDS, "labels": IDS}
    loss, expected = gradients(model, **inputs)
    ran = []
    model.bert.encoder.layers[0].register_forward_pre_hook(lambda *_: ran.append(1))
    model.gradient_checkpointing_enable(options)
    assert model.is_gradient_checkpointing
    again, found = gradients(model, **inputs)
    assert (again, len(ran)) == (loss, 2), "a layer runs once forward and once again for the backward pass"
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing and gradients(model, **inputs)[0] == loss and len(ran) == 3


@pytest.mark.parametrize(("every", "again"), [(1, [2, 2, 2, 2]), (2, [2, 1, 2, 1]), (3, [2, 1, 1, 2])])
def test_gradient_checkpointing_may_leave_layers_out(small_config: BertConfig, every: int, again: list[int]):
    model = make(BertForMaskedLM, small_config.replace(num_hidden_layers=4)).train()
    _, expected = gradients(model, input_ids=IDS, labels=IDS)
    ran = [0, 0, 0, 0]
    for index, layer in enumerate(model.bert.encoder.layers):
        layer.register_forward_pre_hook(lambda *_, index=index: ran.__setitem__(index, ran[index] + 1))
    model.activation_checkpointing_enable(every_n_layers=every)
    _, found = gradients(model, input_ids=IDS, labels=IDS)
    assert ran == again and all(torch.equal(found[name], expected[name]) for name in expected)
    with pytest.raises(ValueError, match="offload=True"):
        model.gradient_checkpointing_enable(offload=True)
    with pytest.raises(ValueError, match="every_n_layers=0"):
        model.gradient_checkpointing_enable(every_n_layers=0)


def test_gradient_checkpointing_rests_outside_training_and_returns_what_is_asked_for(small_config: BertConfig):
    model = make(BertModel, small_config)
    asked = {"output_hidden_states": True, "output_attentions": True}
    expected = model(IDS, **asked)
    model.gradient_checkpointing_enable()
    assert_equal_tuples(model(IDS, **asked), expected)
    model.train()
    torch.manual_seed(0)
    found = model(IDS, **asked)
    model.gradient_checkpointing_disable()
    torch.manual_seed(0)
    assert_equal_tuples(found, model(IDS, **asked))


def assert_equal_tuples(first: object, second: object) -> None:
    for a, b in zip(first.hidden_states + first.attentions, second.hidden_states + second.attentions, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("cls", MODELS)
def test_outputs_are_found_by_name_and_by_position_and_as_a_tuple(small_config: BertConfig, cls: type[nn.Module]):
    model = make(cls, small_config)
    ids = IDS[:, None] if cls is BertForMultipleChoice else IDS
    other = getattr(transformers, cls.__name__)(transformers.BertConfig.from_dict(model.config.to_dict()))
    output, theirs = (network(input_ids=ids, output_hidden_states=True) for network in (model, other))
    assert output.to_tuple() == tuple(output) == output[:] and len(output) == len(theirs.to_tuple())
    assert output[0] is output.to_tuple()[0] and output[-1] is output.hidden_states is output["hidden_states"]
    assert [name for name, value in vars(output).items() if value is not None] == list(theirs.keys())
    as_tuple = model(input_ids=ids, output_hidden_states=True, return_dict=False)
    assert isinstance(as_tuple, tuple) and torch.equal(as_tuple[0], output[0]) and len(as_tuple) == len(output)
    assert type(model(input_ids=ids, return_dict=True)) is type(output)


def test_no_state_is_kept_that_was_not_asked_for():
    config = BertConfig(50, 64, 8, 4, 64, max_position_embeddings=16)
    model = make(BertModel, config)
    alive: list[int] = []
    seen: list[weakref.ref[Tensor]] = []

    def count(module: nn.Module, inputs: object, output: tuple[Tensor, None]) -> None:
        seen.append(weakref.ref(output[0]))
        alive.append(sum(ref() is not None for ref in seen))

    for layer in model.encoder.layers:
        layer.register_forward_hook(count)
    with torch.inference_mode():
        model(IDS)
    assert max(alive) <= 2, "the state that a layer reads and the one that it writes"
    with torch.inference_mode():
        kept = model(IDS, output_hidden_states=True)
    assert len(kept.hidden_states) == 9
