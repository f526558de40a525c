"""The encoder by its parts and as a whole: formulas, counts of parameters, invariances."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from companion.config import BertConfig
from companion.model.dropout import Dropout
from companion.model.encoder import BertModel, EncoderLayer, FeedForward, Pooler, activation, first_token
from companion.model.heads import BertForPreTraining, BertForTokenClassification


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter, biases and LayerNorm too, a random value, so that none can be left out unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        mean = 1.0 if name.endswith("norm.weight") else 0.0
        parameter.data = mean + 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.fixture
def model(small_config: BertConfig) -> BertModel:
    return randomised(BertModel(small_config))


def random_ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(1, 50, shape, generator=torch.Generator().manual_seed(seed))


def norm(values: Tensor, layer: nn.LayerNorm, eps: float) -> Tensor:
    centred = values - values.mean(-1, keepdim=True)
    return layer.weight * centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps) + layer.bias


@pytest.mark.parametrize(
    ("name", "at_one", "at_minus_one"),
    [("gelu", 0.8413447, -0.1586553), ("gelu_new", 0.8411920, -0.1588080), ("relu", 1.0, 0.0)],
)
def test_activations_at_plus_and_minus_one(name: str, at_one: float, at_minus_one: float):
    # GELU(x) = x Φ(x), and Φ(1) = 0.8413447; its tanh form 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))).
    values = activation(name, torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(values, torch.tensor([at_one, at_minus_one]), atol=1e-6, rtol=0)


def test_the_feed_forward_network_expands_activates_and_contracts(small_config: BertConfig):
    layer = randomised(FeedForward(small_config))
    hidden = torch.randn(2, 3, 24)
    inner = hidden @ layer.expand.weight.T + layer.expand.bias
    inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    torch.testing.assert_close(layer(hidden), inner @ layer.contract.weight.T + layer.contract.bias)
    assert inner.shape[-1] == 40


@pytest.mark.parametrize("eps", [1e-12, 0.7])
def test_a_layer_adds_its_input_and_normalises_after_each_half(small_config: BertConfig, eps: float):
    layer = randomised(EncoderLayer(small_config.replace(layer_norm_eps=eps)))
    hidden = torch.randn(2, 3, 24)
    middle = norm(hidden + layer.attention(hidden)[0], layer.attention_norm, eps)
    expected = norm(middle + layer.feed_forward(middle), layer.feed_forward_norm, eps)
    torch.testing.assert_close(layer(hidden)[0], expected, atol=1e-5, rtol=1e-5)


def test_the_pooler_is_tanh_of_a_dense_layer_on_the_first_token_alone(small_config: BertConfig):
    pooler = randomised(Pooler(small_config))
    hidden = torch.randn(2, 3, 24)
    expected = torch.tanh(hidden[:, 0] @ pooler.dense.weight.T + pooler.dense.bias)
    torch.testing.assert_close(pooler(hidden), expected)
    hidden[:, 1:] = 9.0
    torch.testing.assert_close(pooler(hidden), expected)


def parameters_by_formula(layers: int, hidden: int, vocabulary: int = 30522) -> int:
    """Embeddings and their norm; a layer's four square maps, its 4x feed-forward and two norms; the pooler."""
    embeddings = (vocabulary + 512 + 2) * hidden + 2 * hidden
    attention = 4 * (hidden * hidden + hidden)
    feed_forward = hidden * 4 * hidden + 4 * hidden + 4 * hidden * hidden + hidden
    return embeddings + layers * (attention + feed_forward + 4 * hidden) + hidden * hidden + hidden


@pytest.mark.parametrize(
    ("preset", "layers", "hidden", "total"), [("base", 12, 768, 109_482_240), ("large", 24, 1024, 335_141_888)]
)
def test_the_number_of_parameters_is_the_published_one(preset: str, layers: int, hidden: int, total: int):
    assert parameters_by_formula(layers, hidden) == total
    with torch.device("meta"):
        model = BertModel(BertConfig.preset(preset))
    assert sum(parameter.numel() for parameter in model.parameters()) == total


def test_pre_training_adds_its_heads_and_shares_the_vocabulary_matrix():
    with torch.device("meta"):
        model = BertForPreTraining(BertConfig.preset("base"))
    masked_language = (768 * 768 + 768) + 2 * 768 + 30522
    next_sentence = 2 * 768 + 2
    total = sum(parameter.numel() for parameter in model.parameters())
    assert total == parameters_by_formula(12, 768) + masked_language + next_sentence == 110_106_428


@pytest.mark.parametrize("std", [0.02, 0.1])
def test_weights_start_with_the_std_of_the_config_and_biases_at_zero(std: float):
    torch.manual_seed(0)
    model = BertForTokenClassification(BertConfig.preset("tiny", vocab_size=1000, initializer_range=std, num_labels=50))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert (parameter == (1.0 if name.endswith("norm.weight") else 0.0)).all(), name
        else:
            six_sigma = 6 / math.sqrt(2 * parameter.numel())
            assert abs(parameter.std().item() / std - 1) < six_sigma, name
            assert abs(parameter.mean().item() / std) < 6 / math.sqrt(parameter.numel()), name
    assert (model.bert.embeddings.tokens.weight[0] == 0).all()
    assert (model.bert.embeddings.tokens.weight[1] != 0).all()


def test_the_layers_are_applied_in_order_and_all_states_are_returned(model: BertModel):
    ids = random_ids(2, 7)
    output = model(ids, output_hidden_states=True, output_attentions=True)
    state = model.embeddings(ids)
    for layer, found, weights in zip(model.encoder.layers, output.hidden_states[:-1], output.attentions, strict=True):
        torch.testing.assert_close(found, state)
        state, expected_weights = layer(state, None, True)
        torch.testing.assert_close(weights, expected_weights)
        assert weights.shape == (2, 4, 7, 7)
    torch.testing.assert_close(output.last_hidden_state, state)
    assert output.hidden_states[-1] is output.last_hidden_state
    torch.testing.assert_close(output.pooler_output, model.pooler(state))


def every_third(states: Tensor) -> Tensor:
    return states.flatten(0, 1)[::3]


@pytest.mark.parametrize("chosen", [every_third, first_token])
@pytest.mark.parametrize("saving", [False, True])
def test_the_states_and_gradients_of_chosen_tokens_are_those_of_all(model: BertModel, chosen, saving: bool):
    ids, mask = random_ids(3, 7), torch.ones(3, 7, dtype=torch.long)
    mask[1, 4:] = 0
    for part in model.modules():
        if isinstance(part, Dropout):
            part.p = 0.0
    found = []
    for few in (True, False):
        model.train().zero_grad()
        model.encoder.checkpointing = {"use_reentrant": False} if saving else None
        output = model(ids, mask, chosen=chosen) if few else model(ids, mask)
        states = output.last_hidden_state if few else chosen(output.last_hidden_state)
        states.square().sum().backward()
        found.append([states.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1])
    for few, of_all in zip(*found, strict=True):
        torch.testing.assert_close(few, of_all, rtol=1e-4, atol=1e-5)


def test_the_last_layer_computes_no_more_than_the_chosen_tokens(model: BertModel):
    seen = []
    for layer in model.encoder.layers:
        layer.feed_forward.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape)))
    model(random_ids(3, 7), chosen=first_token)
    assert seen == [(3, 7, 24), (3, 1, 24)]


def test_a_layer_of_another_class_computes_all_and_the_choice_is_made_after_it(model: BertModel):
    class Layer(EncoderLayer):
        def forward(self, hidden, mask=None, output_attentions=False):
            return super().forward(hidden, mask, output_attentions)

    ids = random_ids(3, 7)
    expected = model(ids, chosen=first_token)
    for layer in model.encoder.layers:
        layer.__class__ = Layer
    torch.testing.assert_close(model(ids, chosen=first_token).pooler_output, expected.pooler_output)


def test_the_pooler_reads_the_first_token_alone_or_among_all(model: BertModel):
    ids = random_ids(3, 7)
    torch.testing.assert_close(model(ids, chosen=first_token).pooler_output, model(ids).pooler_output)
    assert model(ids, chosen=every_third).pooler_output is None


def test_states_and_weights_are_returned_only_if_asked_for(model: BertModel):
    output = model(random_ids(2, 7))
    assert output.hidden_states is None and output.attentions is None
    assert model(random_ids(2, 7), output_attentions=True).hidden_states is None
    assert model(random_ids(2, 7), output_hidden_states=True).attentions is None


def test_a_model_without_pooler_pools_nothing(small_config: BertConfig):
    model = BertModel(small_config, pooler=False)
    assert model(random_ids(1, 3)).pooler_output is None
    assert not any("pooler" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("shown", [True, False])
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_padding_and_the_ids_in_it_change_nothing_at_the_tokens(shown: bool, data: st.DataObject):
    config = BertConfig(50, 24, 2, 4, 40, max_position_embeddings=16)
    model = randomised(BertModel(config), seed=3)
    tokens = data.draw(st.integers(1, 8))
    ids = torch.tensor([data.draw(st.lists(st.integers(0, 49), min_size=tokens, max_size=tokens))])
    segments = torch.tensor([data.draw(st.lists(st.integers(0, 1), min_size=tokens, max_size=tokens))])
    filler = torch.tensor([data.draw(st.lists(st.integers(0, 49), min_size=1, max_size=8))])
    mask = torch.tensor([[1] * tokens + [0] * filler.shape[1]])
    padded = model(
        torch.cat([ids, filler], dim=1),
        mask,
        torch.cat([segments, torch.zeros_like(filler)], dim=1),
        output_attentions=shown,
    )
    alone = model(ids, None, segments)
    torch.testing.assert_close(padded.last_hidden_state[:, :tokens], alone.last_hidden_state, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(padded.pooler_output, alone.pooler_output, atol=1e-5, rtol=1e-5)
    if shown:
        assert all((weights[..., tokens:] == 0).all() for weights in padded.attentions)


def test_padding_that_is_not_masked_does_change_the_tokens(model: BertModel):
    ids = random_ids(1, 6)
    padded = model(torch.cat([ids, torch.zeros(1, 3, dtype=torch.long)], dim=1))
    assert not torch.allclose(padded.last_hidden_state[:, :6], model(ids).last_hidden_state, atol=1e-3)


def test_padding_on_the_left_changes_nothing_if_positions_say_where_tokens_stand(model: BertModel):
    ids = random_ids(1, 5)
    padded = model(
        torch.cat([torch.zeros(1, 3, dtype=torch.long), ids], dim=1),
        torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]]),
        position_ids=torch.tensor([[0, 0, 0, 0, 1, 2, 3, 4]]),
    )
    expected = model(ids).last_hidden_state
    torch.testing.assert_close(padded.last_hidden_state[:, 3:], expected, atol=1e-5, rtol=1e-5)


def test_a_row_does_not_depend_on_the_others_of_its_batch(model: BertModel):
    ids = random_ids(4, 7)
    together = model(ids).last_hidden_state
    for row in range(4):
        torch.testing.assert_close(model(ids[row : row + 1]).last_hidden_state[0], together[row], atol=1e-5, rtol=1e-5)


def test_order_is_seen_through_positions_and_through_nothing_else(model: BertModel):
    ids, order = random_ids(1, 6), torch.tensor([5, 2, 0, 1, 4, 3])
    same_place = torch.zeros(1, 6, dtype=torch.long)
    straight, mixed = (model(i, position_ids=same_place).last_hidden_state for i in (ids, ids[:, order]))
    torch.testing.assert_close(mixed, straight[:, order], atol=1e-5, rtol=1e-5)
    straight, mixed = (model(i).last_hidden_state for i in (ids, ids[:, order]))
    assert not torch.allclose(mixed, straight[:, order], atol=1e-2)


def test_the_segment_of_one_token_is_seen_by_all(model: BertModel):
    ids = random_ids(1, 6)
    difference = model(ids, None, torch.tensor([[0, 0, 0, 0, 0, 1]])).last_hidden_state - model(ids).last_hidden_state
    assert (difference.abs().amax(-1) > 1e-4).all()


def test_vectors_may_take_the_place_of_ids(model: BertModel):
    ids = random_ids(2, 5)
    given_vectors = model(inputs_embeds=model.embeddings.tokens(ids)).last_hidden_state
    torch.testing.assert_close(given_vectors, model(ids).last_hidden_state)


def test_dropout_is_off_in_evaluation_and_repeats_with_its_seed_in_training(model: BertModel):
    ids = random_ids(2, 5)
    still = [model(ids).last_hidden_state for _ in range(2)]
    assert torch.equal(*still)
    torch.manual_seed(0)
    first, second = (model.train()(ids).last_hidden_state for _ in range(2))
    torch.manual_seed(0)
    assert torch.equal(model(ids).last_hidden_state, first)
    assert not torch.allclose(first, second) and not torch.allclose(first, still[0])


@pytest.mark.parametrize("rate", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_each_rate_of_dropout_acts_on_its_own(small_config: BertConfig, rate: str):
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    ids = random_ids(2, 5)
    none = randomised(BertModel(small_config.replace(**rates))).train()
    torch.testing.assert_close(none(ids).last_hidden_state, none.eval()(ids).last_hidden_state, atol=1e-5, rtol=1e-5)
    one = randomised(BertModel(small_config.replace(**rates | {rate: 0.5}))).train()
    assert not torch.allclose(one(ids).last_hidden_state, none(ids).last_hidden_state, atol=1e-2)


def test_dropout_acts_after_the_attention_and_after_the_feed_forward_network(small_config: BertConfig):
    model = BertModel(small_config).train()
    seen = []
    for name, part in model.named_modules():
        if name.endswith("dropout"):
            part.register_forward_hook(lambda *_, name=name: seen.append(name))
    model(random_ids(1, 4))
    layers = ["encoder.layers.0.dropout"] * 2 + ["encoder.layers.1.dropout"] * 2
    assert seen == ["embeddings.dropout", *layers]


def test_more_tokens_than_positions_are_refused(model: BertModel):
    with pytest.raises(ValueError, match="17 tokens"):
        model(random_ids(1, 17))


@pytest.mark.gpu
@pytest.mark.parametrize("shown", [True, False])
def test_a_gpu_gives_what_the_cpu_gives(model: BertModel, shown: bool):
    ids, mask = random_ids(3, 9), (torch.arange(9) < torch.tensor([[9], [5], [1]])).long()
    expected = model(ids, mask)
    found = model.cuda()(ids.cuda(), mask.cuda(), output_attentions=shown)
    torch.testing.assert_close(found.last_hidden_state.cpu(), expected.last_hidden_state, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.pooler_output.cpu(), expected.pooler_output, atol=1e-4, rtol=1e-4)


def test_on_a_cpu_under_autocast_every_state_is_in_the_precision_of_the_products(small_config: BertConfig):
    torch.manual_seed(0)
    model, ids = BertModel(small_config).eval(), torch.randint(5, 50, (2, 8))
    with torch.no_grad():
        exact = model(ids, output_hidden_states=True).hidden_states
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states = model(ids, output_hidden_states=True).hidden_states
    assert {state.dtype for state in exact} == {torch.float32}
    assert {state.dtype for state in states} == {torch.bfloat16}
    for state, reference in zip(states, exact, strict=True):
        torch.testing.assert_close(state.float(), reference, rtol=0, atol=0.05)
