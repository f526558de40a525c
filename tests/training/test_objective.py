"""What an objective returns: any name, sums and counts under the same, and readable errors for anything else."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from companion.config import BertConfig
from companion.model.heads import (
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from companion.training.inference import evaluate
from companion.training.loop import train
from companion.training.objective import HeadObjective, Sums
from companion.training.settings import TrainingSettings

RUN = TrainingSettings(steps=2, learning_rate=1e-2, log_every=1, device="cpu")
CONFIG = BertConfig(40, 16, 1, 2, 32, max_position_embeddings=16, num_labels=3, hidden_dropout_prob=0.0)
CONFIG = CONFIG.replace(attention_probs_dropout_prob=0.0)


class Line(nn.Module):
    """y = weight · x."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


class Made:
    """An objective of two functions."""

    def __init__(self, counts, sums) -> None:
        self.counts, self.sums = counts, sums


def squares(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    return (model(batch["x"]) ** 2).sum()


BATCH = {"x": torch.tensor([1.0, 2.0, 3.0])}  # the squares of 2x add up to 56


def fit(objective: object, settings: TrainingSettings = RUN) -> dict[str, float]:
    """Train on the same batch; return what the first step logged."""
    return train(Line(), [BATCH] * 4, objective, settings, progress=False).records[0]


@pytest.mark.parametrize("name", ["start_position", "a", "x_accuracy", "loss", "_", "mlm accuracy"])
def test_a_loss_may_have_any_name(name: str):
    record = fit(Made(lambda batch: {name: 3}, lambda model, batch: {name: Sums(squares(model, batch))}))
    assert record["loss"] == record[name] == pytest.approx(56 / 3)
    assert set(record) == {"step", "loss", "learning_rate", name, "grad_norm", "seconds"}


def test_two_losses_are_added_each_over_its_own_labels():
    def sums(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Sums]:
        return {"start_position": Sums(squares(model, batch), torch.tensor(2)), "end_position": Sums(model.weight)}

    record = fit(Made(lambda batch: {"start_position": torch.tensor(4), "end_position": 1}, sums))
    assert record["start_position"] == pytest.approx(14) and record["end_position"] == pytest.approx(2)
    assert record["loss"] == pytest.approx(16)
    assert record["start_position_accuracy"] == pytest.approx(0.5)
    assert "end_position_accuracy" not in record


@pytest.mark.parametrize("name", ["step", "learning_rate", "grad_norm", "seconds"])
def test_a_loss_may_not_be_called_as_another_entry_of_the_log(name: str):
    with pytest.raises(ValueError, match=f"the loss '{name}' has the name of another entry of the log"):
        fit(Made(lambda batch: {name: 3}, lambda model, batch: {name: Sums(squares(model, batch))}))


def test_nor_as_the_accuracy_or_the_total_of_others():
    for names in (("a", "a_accuracy"), ("a", "loss")):
        with pytest.raises(ValueError, match=f"the loss '{names[1]}' has the name of another entry"):
            fit(Made(lambda batch, n=names: dict.fromkeys(n, 1), lambda model, batch: {}))


COUNT = {"a": 3}


@pytest.mark.parametrize(
    ("objective", "error", "message"),
    [
        (lambda model, batch: 0, TypeError, "has no method counts; pass an object with counts"),
        (None, TypeError, "objective=None has no method counts"),
        (Made(lambda b: torch.tensor(3), squares), TypeError, r"counts\(batch\) of the objective returned a Tensor"),
        (Made(lambda b: {}, squares), TypeError, r"counts\(batch\) of the objective returned an empty dict"),
        (Made(lambda b: {"a": [3]}, squares), TypeError, r"counts\(batch\)\['a'\] is \[3\]; it must be one number"),
        (
            Made(lambda b: COUNT, squares),
            TypeError,
            r"sums\(model, batch\) of the objective returned a Tensor; it must",
        ),
        (Made(lambda b: COUNT, lambda m, b: ({"a": 1}, {})), TypeError, "returned a tuple"),
        (
            Made(lambda b: COUNT, lambda m, b: {"a": squares(m, b)}),
            TypeError,
            r"\['a'\] is of type Tensor; return Sums",
        ),
        (Made(lambda b: COUNT, lambda m, b: {"a": Sums(3.0)}), TypeError, r"\['a'\].loss must be a tensor of one"),
        (Made(lambda b: COUNT, lambda m, b: {"b": Sums(squares(m, b))}), ValueError, r"losses \['b'\].* has \['a'\]"),
    ],
)
def test_what_an_objective_must_not_return_is_said(objective: object, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        fit(objective)
    if objective is not None and hasattr(objective, "sums"):
        with pytest.raises(error, match=message):
            evaluate(Line(), [BATCH], objective)


def rows(labels: Tensor, **others: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return {"input_ids": torch.randint(5, 40, (4, 6)), "labels": labels, **others}


IGNORE = torch.tensor([[-100, 1, 2, -100, 0, 1], [-100] * 6, [2, 2, -100, -100, 0, 1], [0] * 6])


@pytest.mark.parametrize(
    ("model_class", "config", "batch", "count"),
    [
        (BertForSequenceClassification, CONFIG, rows(torch.tensor([0, 2, 1, 0])), 4),
        (BertForSequenceClassification, CONFIG.replace(num_labels=1), rows(torch.rand(4)), 4),
        (BertForSequenceClassification, CONFIG, rows(torch.rand(4, 3).round()), 4),
        (BertForTokenClassification, CONFIG, rows(IGNORE), 14),
        (BertForMaskedLM, CONFIG, rows(IGNORE), 14),
    ],
    ids=["classes", "regression", "several labels", "tokens", "words"],
)
def test_the_objective_of_a_head_is_its_loss(model_class, config, batch, count):
    torch.manual_seed(0)
    model, objective = model_class(config).eval(), HeadObjective("head")
    expected = model(**batch)
    assert objective.counts(batch)["head"] == count
    sums = objective.sums(model, batch)["head"]
    torch.testing.assert_close(sums.loss / count, expected.loss)
    if batch["labels"].is_floating_point():
        assert sums.correct is None
    else:
        assert sums.correct == (expected.logits.argmax(-1) == batch["labels"]).sum()


def test_the_objective_of_a_head_trains_spans():
    torch.manual_seed(0)
    model = BertForQuestionAnswering(CONFIG)
    batch = rows(torch.zeros(4), start_positions=torch.tensor([1, 2, 3, 0]), end_positions=torch.tensor([2, 3, 4, 0]))
    del batch["labels"]
    first = model.eval()(**batch).loss.item()
    objective = HeadObjective("span", labels="start_positions")
    settings = TrainingSettings(steps=40, learning_rate=1e-2, log_every=1, device="cpu")
    history = train(model, [batch] * 40, objective, settings, progress=False)
    losses = history.column("span")[1]
    assert losses[0] == pytest.approx(first, rel=1e-5) and losses[-1] < 0.2 * first


def test_accumulating_batches_of_a_head_is_one_batch_of_all():
    labels = [torch.tensor([[1, -100, -100, -100, -100, -100]] * 4), IGNORE]
    parts = [rows(one) for one in labels]
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    found = []
    for batches, accumulation in ((parts, 2), ([whole], 1)):
        torch.manual_seed(0)
        model = BertForTokenClassification(CONFIG)
        settings = TrainingSettings(steps=1, accumulation=accumulation, log_every=1, eps=1e-3, device="cpu")
        history = train(model, batches, HeadObjective("tags"), settings, progress=False)
        found.append((history.records[0]["tags"], model.classifier.weight.detach()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1])
