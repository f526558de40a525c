"""Heads: what each loss counts, by numbers, and what each head reads."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from companion.config import BertConfig
from companion.model.heads import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertWithHead,
    cross_entropy,
    sequence_loss,
    span_loss,
)

MODELS = [
    BertForPreTraining,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertForQuestionAnswering,
]
IDS = torch.tensor([[1, 5, 9, 3], [2, 8, 8, 4], [7, 3, 49, 6]])


def make(cls: type[nn.Module], config: BertConfig, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    model = cls(config.replace(**changes))
    for parameter in model.parameters():
        parameter.data = parameter.data + 0.2 * torch.randn(parameter.shape)
    return model.eval()


def test_cross_entropy_is_the_mean_over_the_labels_that_count():
    # Softmax of (0, ln 3) is (1/4, 3/4), of (0, 0) it is (1/2, 1/2): -ln 3/4 and -ln 1/2; the third label is left out.
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0], [9.0, 0.0]])
    loss = cross_entropy(logits, torch.tensor([1, 0, -100]))
    torch.testing.assert_close(loss, torch.tensor((-math.log(0.75) - math.log(0.5)) / 2))


def test_label_0_counts_like_any_other():
    # A predictor that always says 1 with logits (-5, 5) is wrong by 10 nats wherever the label is 0.
    logits = torch.tensor([[-5.0, 5.0], [-5.0, 5.0]])
    torch.testing.assert_close(cross_entropy(logits, torch.tensor([0, 1])), torch.tensor(5.0000454))


@pytest.mark.parametrize("labels", [[0, 3], [-1, 2], [-100, 7], [-100, -7]])
def test_a_label_that_is_no_class_is_named_with_the_classes_there_are(labels: list[int]):
    message = f"labels holds {[one for one in labels if one not in (-100, 0, 2)][0]}, and there are 3 classes, 0 to 2"
    with pytest.raises(ValueError, match=message):
        cross_entropy(torch.zeros(2, 3), torch.tensor(labels))


def test_without_any_label_the_loss_is_0_with_gradient_0():
    logits = torch.randn(2, 3, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((2, 3), -100))
    loss.backward()
    assert loss.item() == 0.0
    assert (logits.grad == 0).all()


def test_the_sum_is_in_fp32_even_where_logits_are_not():
    logits = torch.randn(8, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels = torch.arange(8)
    loss = cross_entropy(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), labels))


def test_word_logits_are_products_with_the_word_vectors_plus_a_bias(small_config: BertConfig):
    model = make(BertForMaskedLM, small_config)
    head, words = model.mlm_head, model.bert.embeddings.tokens.weight
    hidden = model.bert(IDS).last_hidden_state
    inner = hidden @ head.dense.weight.T + head.dense.bias
    inner = F.layer_norm(
        inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2))), (24,), head.norm.weight, head.norm.bias, 1e-12
    )
    torch.testing.assert_close(model(IDS).logits, inner @ words.T + head.bias, atol=1e-4, rtol=1e-4)


def test_the_eps_of_the_head_is_that_of_the_config(small_config: BertConfig):
    model = make(BertForMaskedLM, small_config, layer_norm_eps=0.3)
    assert [part.eps for part in model.modules() if isinstance(part, nn.LayerNorm)] == [0.3] * 6


@pytest.mark.parametrize("cls", [BertForMaskedLM, BertForPreTraining])
def test_the_word_vectors_are_trained_from_both_ends(small_config: BertConfig, cls: type[nn.Module]):
    model = make(cls, small_config)
    assert sum(parameter.shape == (50, 24) for parameter in model.parameters()) == 1
    given = {"next_sentence_label": torch.tensor([0, 1, 0])} if cls is BertForPreTraining else {}
    model(IDS, labels=IDS, **given).loss.backward()
    gradient = model.bert.embeddings.tokens.weight.grad
    assert (gradient[30] != 0).any(), "a word that is in no text is pushed away by the output end"


def test_the_loss_of_pre_training_is_the_sum_of_both(small_config: BertConfig):
    model = make(BertForPreTraining, small_config)
    labels = torch.full_like(IDS, -100)
    labels[0, 1], labels[2, 2] = 5, 0
    following = torch.tensor([0, 1, 1])
    output = model(IDS, labels=labels, next_sentence_label=following)
    words = output.prediction_logits.log_softmax(-1)
    pairs = output.seq_relationship_logits.log_softmax(-1)
    expected = -(words[0, 1, 5] + words[2, 2, 0]) / 2 - (pairs[0, 0] + pairs[1, 1] + pairs[2, 1]) / 3
    torch.testing.assert_close(output.loss, expected)
    assert model(IDS, labels=labels).loss is None and model(IDS, next_sentence_label=following).loss is None


def test_words_can_be_predicted_at_some_places_only(small_config: BertConfig):
    model = make(BertForPreTraining, small_config)
    output = model(IDS, output_hidden_states=True)
    places = torch.tensor([1, 6, 11])
    some = model.predict_tokens(output.hidden_states[-1].flatten(0, 1)[places])
    torch.testing.assert_close(some, output.prediction_logits.flatten(0, 1)[places])


def test_the_next_sentence_is_read_off_the_pooled_first_token(small_config: BertConfig):
    model = make(BertForPreTraining, small_config)
    pooled = model.bert(IDS).pooler_output
    expected = pooled @ model.nsp_head.weight.T + model.nsp_head.bias
    torch.testing.assert_close(model(IDS).seq_relationship_logits, expected)


def test_a_text_is_classified_by_its_pooled_first_token(small_config: BertConfig):
    model = make(BertForSequenceClassification, small_config)
    expected = model.bert(IDS).pooler_output @ model.classifier.weight.T + model.classifier.bias
    torch.testing.assert_close(model(IDS).logits, expected)
    assert model(IDS).logits.shape == (3, 5)


def test_tokens_are_classified_one_by_one(small_config: BertConfig):
    model = make(BertForTokenClassification, small_config)
    output = model(IDS, labels=torch.tensor([[0, -100, 4, 1], [-100] * 4, [2, -100, -100, -100]]))
    expected = model.bert(IDS).last_hidden_state @ model.classifier.weight.T + model.classifier.bias
    torch.testing.assert_close(output.logits, expected)
    chances = output.logits.log_softmax(-1)
    counted = chances[0, 0, 0] + chances[0, 2, 4] + chances[0, 3, 1] + chances[2, 0, 2]
    torch.testing.assert_close(output.loss, -counted / 4)


LOGITS = torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.0, -0.5]])
SEVERAL = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("problem_type", [None, "single_label_classification"])
def test_one_label_of_several_is_cross_entropy(problem_type: str | None):
    config = BertConfig(num_labels=3, problem_type=problem_type)
    chances = LOGITS.log_softmax(-1)
    loss = sequence_loss(LOGITS, torch.tensor([2, 0]), config)
    torch.testing.assert_close(loss, -(chances[0, 2] + chances[1, 0]) / 2)


@pytest.mark.parametrize("problem_type", [None, "multi_label_classification"])
def test_several_labels_at_once_are_binary_cross_entropies(problem_type: str | None):
    chances = torch.sigmoid(LOGITS)
    expected = -torch.where(SEVERAL == 1, chances, 1 - chances).log().mean()
    loss = sequence_loss(LOGITS, SEVERAL, BertConfig(num_labels=3, problem_type=problem_type))
    torch.testing.assert_close(loss, expected)


def test_whole_numbers_serve_as_several_labels_if_the_config_says_so():
    config = BertConfig(num_labels=3, problem_type="multi_label_classification")
    torch.testing.assert_close(sequence_loss(LOGITS, SEVERAL.long(), config), sequence_loss(LOGITS, SEVERAL, config))


@pytest.mark.parametrize("problem_type", [None, "regression"])
@pytest.mark.parametrize("labels", [torch.tensor([1.0, 3.0]), torch.tensor([[1.0], [3.0]]), torch.tensor([1, 3])])
def test_a_number_is_the_mean_of_squares_and_never_of_a_matrix(problem_type: str | None, labels: Tensor):
    # (2 - 1)² and (0 - 3)²; broadcasting (2, 1) against (2,) would average four differences.
    loss = sequence_loss(torch.tensor([[2.0], [0.0]]), labels, BertConfig(num_labels=1, problem_type=problem_type))
    torch.testing.assert_close(loss, torch.tensor(5.0))


def test_several_numbers_are_one_mean_of_squares():
    config = BertConfig(num_labels=3, problem_type="regression")
    torch.testing.assert_close(sequence_loss(LOGITS, SEVERAL, config), ((LOGITS - SEVERAL) ** 2).mean())


@pytest.mark.parametrize("cls", [BertForSequenceClassification, BertForTokenClassification])
def test_the_classifier_has_its_own_dropout_or_that_of_the_layers(small_config: BertConfig, cls: type[nn.Module]):
    assert make(cls, small_config, hidden_dropout_prob=0.3).dropout.p == 0.3
    assert make(cls, small_config, hidden_dropout_prob=0.3, classifier_dropout=0.0).dropout.p == 0.0
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = make(cls, small_config, **off, classifier_dropout=0.5)
    assert torch.equal(model(IDS).logits, model(IDS).logits)
    assert not torch.allclose(model.train()(IDS).logits, model(IDS).logits)


def test_start_and_end_are_two_scores_a_token_and_their_losses_are_averaged(small_config: BertConfig):
    model = make(BertForQuestionAnswering, small_config)
    output = model(IDS, start_positions=torch.tensor([0, 2, 1]), end_positions=torch.tensor([3, 2, 1]))
    scores = model.bert(IDS).last_hidden_state @ model.qa_outputs.weight.T + model.qa_outputs.bias
    torch.testing.assert_close(output.start_logits, scores[..., 0])
    torch.testing.assert_close(output.end_logits, scores[..., 1])
    start, end = scores[..., 0].log_softmax(1), scores[..., 1].log_softmax(1)
    picked = (start[0, 0] + start[1, 2] + start[2, 1]) / 3 + (end[0, 3] + end[1, 2] + end[2, 1]) / 3
    torch.testing.assert_close(output.loss, -picked / 2)
    assert model(IDS, start_positions=torch.tensor([0, 2, 1])).loss is None


def test_a_choice_is_scored_by_its_own_pooled_first_token(small_config: BertConfig):
    model = make(BertForMultipleChoice, small_config)
    rows = torch.stack([IDS, IDS.flip(1)], dim=1)  # (3 texts, 2 choices, 4 tokens)
    mask = torch.ones_like(rows)
    mask[0, 1, 3] = 0
    output = model(rows, mask, labels=torch.tensor([0, 1, 1]))
    for text in range(3):
        for choice in range(2):
            pooled = model.bert(rows[text, choice][None], mask[text, choice][None]).pooler_output
            score = pooled @ model.classifier.weight.T + model.classifier.bias
            torch.testing.assert_close(output.logits[text, choice], score[0, 0], atol=1e-5, rtol=1e-5)
    chances = output.logits.log_softmax(1)
    torch.testing.assert_close(output.loss, -(chances[0, 0] + chances[1, 1] + chances[2, 1]) / 3)
    vectors = model.bert.embeddings.tokens(rows)
    torch.testing.assert_close(model(inputs_embeds=vectors, attention_mask=mask).logits, output.logits)
    with pytest.raises(ValueError, match=r"input_ids has the shape \(3, 4\); it must be \(batch, choices, tokens\)"):
        model(IDS)


def test_a_position_outside_the_input_counts_for_nothing():
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    expected = -(logits[0].log_softmax(0)[5] + logits[3].log_softmax(0)[0]) / 2
    torch.testing.assert_close(span_loss(logits, torch.tensor([5, 6, -1, 0])), expected)
    assert span_loss(logits, torch.tensor([6, 7, -1, -100])).item() == 0.0


@pytest.mark.parametrize("cls", MODELS)
def test_every_model_hands_its_inputs_to_the_encoder_and_returns_what_is_asked_for(small_config, cls: type[nn.Module]):
    model = make(cls, small_config)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
    segments, places = torch.tensor([[0, 1, 2, 0]] * 3), torch.tensor([[3, 2, 1, 0]] * 3)
    asked = {"output_hidden_states": True, "output_attentions": True}
    output = model(IDS, mask, segments, places, **asked)
    expected = model.bert(IDS, mask, segments, places, **asked)
    assert output.loss is None
    for ours, theirs in zip(
        output.hidden_states + output.attentions, expected.hidden_states + expected.attentions, strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    assert model(IDS).hidden_states is None and model(IDS).attentions is None


@pytest.mark.parametrize("cls", MODELS)
def test_only_the_heads_that_read_the_pooled_token_have_a_pooler(small_config: BertConfig, cls: type[nn.Module]):
    assert (make(cls, small_config).bert.pooler is not None) == (
        cls in (BertForPreTraining, BertForSequenceClassification)
    )


@pytest.mark.parametrize("cls", MODELS)
def test_an_argument_that_does_not_exist_is_an_error(small_config: BertConfig, cls: type[nn.Module]):
    with pytest.raises(TypeError, match="label_ids"):
        make(cls, small_config)(IDS, label_ids=IDS)


def test_a_model_must_say_what_its_heads_are(small_config: BertConfig):
    with pytest.raises(NotImplementedError):
        BertWithHead(small_config)
