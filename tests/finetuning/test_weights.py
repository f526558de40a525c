"""Weights of texts and classes, and early stopping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from companion.finetuning import TextClassifier, TextRegressor
from companion.finetuning.labels import label_weights
from companion.finetuning.losses import SequenceObjective
from companion.finetuning.new_head import with_new_head
from companion.finetuning.stopping import EarlyStopping
from companion.finetuning.targets import Targets, split_indices
from companion.model.heads import BertForSequenceClassification
from tests.toys import keyword_texts


def quick(tiny: Path, **changes) -> TextClassifier:
    """Return an estimator that trains for moments."""
    return TextClassifier(tiny, **{"epochs": 1, "batch_size": 8, "max_length": 16, "learning_rate": 3e-3} | changes)


def test_a_weight_of_two_is_a_text_that_comes_twice(tiny: Path):
    model = with_new_head(BertForSequenceClassification, tiny, num_labels=2)
    ids, labels = torch.tensor([[2, 7, 3], [2, 8, 3]]), torch.tensor([0, 1])
    for kind, targets in (
        ("single_label_classification", labels),
        ("multi_label_classification", torch.tensor([[1.0, 0.0], [1.0, 1.0]])),
    ):
        objective = SequenceObjective(kind)
        weighted = {"input_ids": ids, "labels": targets, "weights": torch.tensor([1.0, 2.0])}
        repeated = {"input_ids": ids[[0, 1, 1]], "labels": targets[[0, 1, 1]]}
        assert objective.counts(weighted)["classification"] == objective.counts(repeated)["classification"] == 3
        first, second = (objective.sums(model, batch)["classification"] for batch in (weighted, repeated))
        torch.testing.assert_close(first.loss, second.loss)
        assert first.correct == second.correct


def test_the_loss_of_equal_weights_is_that_of_none(tiny: Path):
    texts, labels = keyword_texts(24)
    plain, weighted = quick(tiny).fit(texts, labels), quick(tiny).fit(texts, labels, sample_weight=[5] * 24)
    np.testing.assert_allclose(weighted.predict_proba(texts), plain.predict_proba(texts), atol=1e-5)


def test_texts_of_weight_zero_teach_nothing(tiny: Path):
    texts, labels = keyword_texts(120)
    turned = [{"positive": "negative", "negative": "positive"}[label] for label in labels]
    weights = np.repeat([1.0, 0.0], 120)
    fitted = quick(tiny, epochs=4).fit(texts + texts, labels + turned, sample_weight=weights)
    assert fitted.score(texts, labels) == 1.0


def test_class_weights_by_hand():
    classes, ids = np.array(["a", "b"]), np.array([0, 0, 0, 1])
    assert label_weights(None, classes, ids) is None
    np.testing.assert_allclose(label_weights("balanced", classes, ids), [4 / 6, 4 / 6, 4 / 6, 2])
    np.testing.assert_allclose(label_weights({"b": 3}, classes, ids), [1, 1, 1, 3])


def test_a_class_that_weighs_much_is_predicted_more(tiny: Path):
    texts, labels = keyword_texts(48)
    shares = [
        quick(tiny, class_weight={"positive": weight}, epochs=1).fit(texts, labels).predict_proba(texts)[:, 1].mean()
        for weight in (0.1, 1, 10)
    ]
    assert shares[0] < shares[1] < shares[2]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "sample_weight has 1 numbers, X has 8 texts"),
        ([1.0] * 7 + [-1.0], r"sample_weight\[7\]=-1.0 is not allowed"),
        ([1.0] * 7 + [float("nan")], r"sample_weight\[7\]=nan is not allowed"),
        ([1.0] * 7 + ["x"], r"sample_weight\[7\]='x' is not allowed"),
        ([0.0] * 8, "above zero for at least one text"),
    ],
)
def test_wrong_weights_are_named(tiny: Path, weights, message: str):
    with pytest.raises(ValueError, match=message):
        quick(tiny).fit(*keyword_texts(8), sample_weight=weights)


def test_stopping_keeps_the_weights_of_the_best_epoch():
    model, stopping = torch.nn.Linear(1, 1), EarlyStopping(patience=2)
    asked = []
    for epoch, loss in enumerate([0.9, 0.5, 0.6, 0.7], start=1):
        torch.nn.init.constant_(model.weight, epoch)
        stopping.note(model, loss)
        asked.append(stopping.on_step(None))
    assert asked == [False, False, False, True]
    assert (stopping.best_epoch, stopping.best_loss) == (2, 0.5)
    stopping.restore(model)
    assert model.weight.item() == 2


def test_a_loss_that_is_no_number_at_first_does_not_leave_it_without_weights():
    model, stopping = torch.nn.Linear(1, 1), EarlyStopping(patience=1)
    stopping.note(model, float("nan"))
    stopping.restore(model)
    assert stopping.best_epoch == 1


@pytest.mark.parametrize("given", [True, False])
def test_training_stops_early_and_predicts_with_the_best_epoch(tiny: Path, given: bool):
    texts, labels = keyword_texts(40)
    noise = list(np.random.default_rng(0).permutation(labels))  # nothing to be learned: the loss soon rises
    validation = (texts, noise[::-1]) if given else None
    estimator = quick(tiny, epochs=30, early_stopping=True, n_iter_no_change=2, validation_fraction=0.25)
    estimator.fit(texts, noise, validation=validation)
    losses = estimator.history_.column("validation_loss")[1]
    assert estimator.history_.stopped_early and estimator.n_iter_ == len(losses) < 30
    assert estimator.best_epoch_ == int(np.argmin(losses)) + 1 == estimator.n_iter_ - 2
    if given:
        p = estimator.predict_proba(texts)[np.arange(40), (np.array(noise[::-1]) == "positive").astype(int)]
        assert -np.log(p).mean() == pytest.approx(min(losses), abs=1e-4)


def test_early_stopping_ends_after_the_last_epoch_too(tiny: Path):
    estimator = quick(tiny, epochs=2, early_stopping=True, n_iter_no_change=5).fit(*keyword_texts(60))
    assert estimator.n_iter_ == 2 and estimator.best_epoch_ == 2


def test_what_is_held_out_has_the_shares_of_the_classes():
    targets = Targets({"labels": np.arange(100)}, strata=np.repeat([0, 1], [80, 20]))
    train, held = split_indices(targets, 100, 0.2, seed=0)
    assert sorted([*train, *held]) == list(range(100)) and len(held) == 20
    assert (targets.strata[held] == 1).sum() == 4
    np.testing.assert_array_equal(split_indices(targets, 100, 0.2, seed=0)[1], held)
    rare = Targets({"labels": np.arange(10)}, strata=np.arange(10))  # one text per class: by chance alone
    assert len(split_indices(rare, 10, 0.3, seed=0)[1]) == 3
    with pytest.raises(ValueError, match="validation_fraction=0.9 is not allowed; it must be small enough"):
        split_indices(rare, 1, 0.9, seed=0)


def test_a_regressor_stops_early(tiny: Path):
    texts, _ = keyword_texts(40)
    numbers = np.random.default_rng(0).normal(size=40)
    estimator = TextRegressor(
        tiny, epochs=30, batch_size=8, max_length=16, learning_rate=3e-3, early_stopping=True
    ).fit(texts, numbers)
    assert estimator.history_.stopped_early and estimator.n_iter_ < 30
