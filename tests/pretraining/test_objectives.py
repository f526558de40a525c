"""Pre-training objectives: the sums equal the losses of the heads, and those worked out by hand."""

import pytest
import torch
from torch.nn import functional as F

from companion.config import BertConfig
from companion.model.heads import BertForPreTraining
from companion.pretraining import objectives
from companion.pretraining.objectives import PreTrainingObjective


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 16}
    return BertForPreTraining(BertConfig(vocab_size=50, hidden_size=16, **sizes)).eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.randint(5, 50, (4, 12), generator=generator)
    labels = torch.full((4, 12), -100)
    labels[0, 3], labels[0, 4], labels[2, 7] = 9, 11, 0  # the id 0 is a label like any other
    return {
        "input_ids": input_ids,
        "token_type_ids": torch.tensor([[0] * 6 + [1] * 6] * 4),
        "attention_mask": torch.tensor([[1] * 12] * 3 + [[1] * 8 + [0] * 4]),
        "labels": labels,
        "next_sentence_label": torch.tensor([0, 1, 1, 0]),
    }


def test_counts_are_of_masked_tokens_and_of_pairs(batch):
    counts = PreTrainingObjective().counts(batch)
    assert {name: int(count) for name, count in counts.items()} == {"mlm": 3, "nsp": 4}
    assert set(PreTrainingObjective(next_sentence=False).counts(batch)) == {"mlm"}


def test_sums_equal_the_loss_of_the_model(model, batch):
    sums = PreTrainingObjective().sums(model, batch)
    output = model(**batch)
    torch.testing.assert_close(sums["mlm"].loss / 3 + sums["nsp"].loss / 4, output.loss)


def test_sums_equal_those_over_every_position(model, batch):
    sums = PreTrainingObjective().sums(model, batch)
    output = model(**{name: value for name, value in batch.items() if "label" not in name})
    logits, labels = output.prediction_logits.flatten(0, 1), batch["labels"].flatten()
    torch.testing.assert_close(sums["mlm"].loss, F.cross_entropy(logits, labels, reduction="sum"))
    pairs = F.cross_entropy(output.seq_relationship_logits, batch["next_sentence_label"], reduction="sum")
    torch.testing.assert_close(sums["nsp"].loss, pairs)
    assert sums["mlm"].correct == (logits.argmax(-1) == labels).sum()
    assert sums["nsp"].correct == (output.seq_relationship_logits.argmax(-1) == batch["next_sentence_label"]).sum()


@pytest.mark.parametrize("rows", [1, 2, 3, 128])
def test_the_size_of_a_piece_changes_neither_sums_nor_gradients(model, batch, rows, monkeypatch):
    def sums_and_gradients():
        model.zero_grad()
        sums = PreTrainingObjective().sums(model, batch)
        sum(one.loss for one in sums.values()).backward()
        return sums, [weight.grad for weight in model.parameters()]

    expected = sums_and_gradients()
    monkeypatch.setattr(objectives, "ROWS_ON_CPU", rows)
    torch.testing.assert_close(sums_and_gradients(), expected)


def test_only_masked_positions_are_projected_on_the_vocabulary(model, batch, monkeypatch):
    seen = []
    predict = model.predict_tokens
    monkeypatch.setattr(model, "predict_tokens", lambda hidden: seen.append(hidden.shape) or predict(hidden))
    PreTrainingObjective().sums(model, batch)
    assert seen == [(3, 16)]


def test_both_losses_reach_the_weights(model, batch):
    sums = PreTrainingObjective().sums(model, batch)
    for name, weight in (("mlm", model.mlm_head.bias), ("nsp", model.nsp_head.weight)):
        gradient = torch.autograd.grad(sums[name].loss, weight, retain_graph=True)[0]
        assert gradient.abs().sum() > 0
