"""The prediction loop: every row what it is alone, in its place; the model as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from companion.config import BertConfig
from companion.model.encoder import BertModel
from companion.model.heads import BertForSequenceClassification, BertForTokenClassification
from companion.training.inference import evaluate, evaluating, predict_rows
from companion.training.objective import HeadObjective, Sums

CONFIG = BertConfig(40, 16, 2, 2, 32, max_position_embeddings=16, num_labels=3)
LENGTHS = [3, 9, 1, 9, 16, 2, 5]


@pytest.fixture
def model() -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(CONFIG)  # in training mode, with dropout


@pytest.fixture
def rows() -> dict[str, list[list[int]]]:
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(5, 40, (length,), generator=generator).tolist() for length in LENGTHS]
    return {
        "input_ids": ids,
        "token_type_ids": [[0] * (len(row) // 2) + [1] * (len(row) - len(row) // 2) for row in ids],
    }


def alone(model: nn.Module, rows: dict[str, list[list[int]]], index: int):
    with torch.no_grad():
        return model(**{name: torch.tensor([column[index]]) for name, column in rows.items()})


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_every_row_is_what_it_is_alone_and_in_its_place(model, rows, batch_size: int):
    found = predict_rows(model, rows, batch_size=batch_size)
    assert found.shape == (7, 3) and found.dtype == torch.float32 and found.device.type == "cpu"
    model.eval()
    for index in range(7):
        torch.testing.assert_close(found[index], alone(model, rows, index).logits[0])


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_entries_per_token_end_with_the_row(rows, batch_size: int):
    torch.manual_seed(0)
    model = BertForTokenClassification(CONFIG).eval()
    found = predict_rows(model, rows, batch_size=batch_size, per_token=True)
    assert [tuple(entry.shape) for entry in found] == [(length, 3) for length in LENGTHS]
    for index, entry in enumerate(found):
        torch.testing.assert_close(entry, alone(model, rows, index).logits[0])


def test_what_is_taken_may_be_computed_from_output_and_batch(rows):
    torch.manual_seed(0)
    model = BertModel(CONFIG).eval()

    def mean(output, batch):
        mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))[..., None]
        return (output.last_hidden_state * mask).sum(1) / mask.sum(1)

    found = predict_rows(model, rows, batch_size=3, take=mean)
    for index in range(7):
        torch.testing.assert_close(found[index], alone(model, rows, index).last_hidden_state[0].mean(0))
    pooled = predict_rows(model, rows, batch_size=2, take="pooler_output")
    torch.testing.assert_close(pooled[4], alone(model, rows, 4).pooler_output[0])


def test_what_is_taken_may_be_a_list_with_an_item_per_row(model, rows):
    sizes = predict_rows(model, rows, take=lambda output, batch: [{"classes": len(row)} for row in output.logits])
    assert sizes == [{"classes": 3}] * 7
    classes = predict_rows(model, rows, batch_size=2, take=lambda output, batch: output.logits.argmax(-1))
    assert classes.dtype == torch.int64 and torch.equal(classes, predict_rows(model, rows).argmax(-1))
    with pytest.raises(ValueError, match="take gives 1 entries for 7 rows; it must give one per row"):
        predict_rows(model, rows, take=lambda output, batch: output.logits[:1])


def test_every_part_of_the_model_is_in_its_own_mode_again(model, rows):
    model.train()
    model.bert.eval()  # as someone who freezes the encoder has it
    before = [part.training for part in model.modules()]
    predict_rows(model, rows)
    assert [part.training for part in model.modules()] == before
    with pytest.raises(KeyError), evaluating(model):
        assert not any(part.training for part in model.modules())
        raise KeyError
    assert [part.training for part in model.modules()] == before


def test_what_is_returned_can_be_changed_and_trained_on(model, rows):
    found = predict_rows(model, rows)
    found += 1
    weight = torch.ones(3, requires_grad=True)
    (found * weight).sum().backward()
    assert weight.grad is not None and not found.requires_grad


def test_neither_predictions_nor_losses_keep_a_graph(model, rows):
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        found = predict_rows(model, rows)
        batch = {"input_ids": torch.full((2, 6), 7), "labels": torch.tensor([0, 2])}
        losses = evaluate(model, [batch], HeadObjective("sentence_class"))
    assert saved == []  # nothing was recorded for a backward pass
    assert found.grad_fn is None
    assert {type(loss) for loss in losses.values()} == {float}


def test_precision_is_that_asked_for_and_the_result_in_fp32(model, rows):
    exact, near = predict_rows(model, rows), predict_rows(model, rows, precision="bf16")
    assert near.dtype == torch.float32
    assert not torch.equal(exact, near)
    torch.testing.assert_close(exact, near, atol=0.03, rtol=0)


def test_no_rows_and_no_batch_size_are_refused(model):
    with pytest.raises(ValueError, match="rows are empty"):
        predict_rows(model, {"input_ids": []})
    with pytest.raises(ValueError, match="batch_size=0 is not allowed; it must be an integer above 0"):
        predict_rows(model, {"input_ids": [[1]]}, batch_size=0)


def test_evaluation_is_a_mean_over_all_labels_and_not_over_batches(model):
    torch.manual_seed(5)
    ids = torch.randint(5, 40, (7, 6))
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    model.eval()
    logits = model(ids).logits
    loss = nn.functional.cross_entropy(logits, labels).item()
    accuracy = (logits.argmax(-1) == labels).float().mean().item()
    model.train()
    parts = ({"input_ids": ids[a:b], "labels": labels[a:b]} for a, b in ((0, 5), (5, 7)))
    found = evaluate(model, parts, HeadObjective("sentence_class"), prefix="validation_")
    expected = {"validation_sentence_class": loss, "validation_sentence_class_accuracy": accuracy}
    assert found == pytest.approx(expected, rel=1e-5)
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())


def test_a_loss_without_a_label_is_0_and_no_batch_is_refused():
    class Nothing:
        def counts(self, batch):
            return {"a": 0}

        def sums(self, model, batch):
            return {"a": Sums(torch.tensor(0.0), torch.tensor(0))}

    assert evaluate(nn.Linear(1, 1), [{}], Nothing()) == {"a": 0.0, "a_accuracy": 0.0}
    with pytest.raises(ValueError, match="batches are empty"):
        evaluate(nn.Linear(1, 1), [], Nothing())
