"""TextRegressor: what it learns, that the scale of the labels does not matter, that it is saved as what it predicts."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from sklearn.base import clone, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch import nn

from companion import BertForSequenceClassification, Tokenizer
from companion.finetuning import TextRegressor
from companion.finetuning.new_head import with_new_head
from companion.finetuning.regressor import scale_head
from companion.finetuning.texts import encode_texts
from companion.training.batching import GroupedBatches
from companion.training.settings import TrainingSettings
from tests.loops import bare_loop
from tests.toys import FILLERS


def counted_texts(count: int, seed: int = 0) -> tuple[list[str], list[float]]:
    """Make texts whose number is how often the word "good" stands in them, less how often "bad" does."""
    generator = random.Random(seed)
    texts, numbers = [], []
    for _ in range(count):
        good, bad = generator.randint(0, 3), generator.randint(0, 3)
        words = ["good"] * good + ["bad"] * bad + generator.choices(FILLERS, k=4)
        generator.shuffle(words)
        texts.append(" ".join(words))
        numbers.append(float(good - bad))
    return texts, numbers


def quick(tiny: Path, **changes) -> TextRegressor:
    """Return an estimator that trains for moments."""
    return TextRegressor(tiny, **{"epochs": 1, "batch_size": 8, "max_length": 16, "learning_rate": 3e-3} | changes)


@pytest.fixture(scope="module")
def fitted(tiny: Path) -> TextRegressor:
    """Return an estimator that has learned to count; tests must not change it."""
    estimator = quick(tiny, epochs=8, batch_size=16)
    return estimator.fit(*counted_texts(300), validation=counted_texts(60, seed=1))


def test_it_learns_to_count(fitted: TextRegressor):
    texts, numbers = counted_texts(100, seed=2)
    predicted = fitted.predict(texts)
    assert predicted.shape == (100,) and predicted.dtype == np.float64
    assert fitted.score(texts, numbers) > 0.9
    residual, spread = np.subtract(numbers, predicted), np.subtract(numbers, np.mean(numbers))
    assert fitted.score(texts, numbers) == pytest.approx(1 - (residual**2).sum() / (spread**2).sum())


def test_validation_is_recorded_after_every_epoch(fitted: TextRegressor):
    texts, numbers = counted_texts(60, seed=1)
    steps, correlations = fitted.history_.column("validation_pearson")
    assert steps == [19 * epoch for epoch in range(1, 9)]  # 300 texts in batches of 16
    predicted = fitted.predict(texts)
    assert correlations[-1] == pytest.approx(np.corrcoef(numbers, predicted)[0, 1], abs=1e-6)
    variance = np.var(counted_texts(300)[1])
    error = np.mean((predicted - numbers) ** 2) / variance
    assert fitted.history_.column("validation_loss")[1][-1] == pytest.approx(error, rel=1e-3)
    assert fitted.history_.column("validation_spearman")[1][-1] > 0.9


def test_the_scale_of_the_labels_does_not_matter(tiny: Path):
    texts, numbers = counted_texts(24)
    plain = quick(tiny).fit(texts, numbers).predict(texts)
    scaled = quick(tiny).fit(texts, [1e4 + 1000 * number for number in numbers]).predict(texts)
    np.testing.assert_allclose(scaled, 1e4 + 1000 * plain, rtol=1e-5)


def test_a_head_is_scaled_as_its_outputs():
    head, inputs = nn.Linear(3, 1), torch.randn(5, 3)
    expected = 7 + 2 * head(inputs)
    scale_head(head, mean=7.0, deviation=2.0)
    torch.testing.assert_close(head(inputs), expected)


def test_fit_is_a_bare_loop_on_standardised_labels(tiny: Path):
    texts, numbers = counted_texts(20)
    estimator = quick(tiny, epochs=2, random_state=5).fit(texts, numbers)
    rows = encode_texts(Tokenizer.from_pretrained(tiny), texts, max_length=16)
    rows["labels"] = np.float32((np.array(numbers) - np.mean(numbers)) / np.std(numbers))
    model = with_new_head(BertForSequenceClassification, tiny, seed=5, num_labels=1)
    batches = GroupedBatches(rows, batch_size=8, seed=5)
    settings = TrainingSettings(steps=2 * batches.steps_per_epoch, learning_rate=3e-3, seed=5)
    losses = bare_loop(model, batches, settings, weight_decay=0.01)
    assert estimator.history_.column("loss")[1] == pytest.approx(losses, abs=1e-5)


def test_pairs_are_read_in_order(tiny: Path):
    pairs = [("good", "bad bad"), ("bad", "good")] * 6
    estimator = quick(tiny).fit(pairs, [0.0, 1.0] * 6)
    turned = estimator.predict([(second, first) for first, second in pairs])
    assert np.abs(turned - estimator.predict(pairs)).max() > 1e-6


@pytest.mark.parametrize("kind", [np.array, pd.Series, torch.tensor, tuple])
def test_labels_come_in_every_usual_container(tiny: Path, kind):
    texts, numbers = counted_texts(12)
    expected = quick(tiny).fit(texts, numbers).predict(texts)
    np.testing.assert_array_equal(quick(tiny).fit(texts, kind(numbers)).predict(texts), expected)


def test_search_and_cross_validation_take_it(tiny: Path):
    assert is_regressor(quick(tiny)) and clone(quick(tiny, random_state=4)).random_state == 4
    texts, numbers = counted_texts(60)
    search = GridSearchCV(quick(tiny), {"learning_rate": [1e-9, 3e-3], "epochs": [6]}, cv=2).fit(texts, numbers)
    assert search.best_params_["learning_rate"] == 3e-3
    assert cross_val_score(quick(tiny), texts, numbers, cv=2, scoring="r2", error_score="raise").shape == (2,)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1.0], "y has 1 labels, X has 3 texts; every text needs one label"),
        ([1.0, "2", 3.0], r"y\[1\]='2' is no finite number"),
        ([1.0, 2.0, float("nan")], r"y\[2\]=nan is missing"),
        ([1.0, None, 2.0], r"y\[1\]=None is missing"),
        ([2.0, 2.0, 2.0], "y holds 2 only, as one sample would; a regressor needs at least two different numbers"),
    ],
)
def test_wrong_labels_are_named_and_nothing_is_fitted(tiny: Path, labels, message: str):
    estimator = quick(tiny)
    with pytest.raises(ValueError, match=message):
        estimator.fit(["a", "b", "c"], labels)
    with pytest.raises(NotFittedError, match=r"TextRegressor is not fitted yet; call fit\(texts, labels\)"):
        estimator.predict(["a"])


def test_a_saved_regressor_comes_back(fitted: TextRegressor, tmp_path: Path):
    texts, _ = counted_texts(20, seed=3)
    fitted.save(tmp_path / "saved")
    loaded = TextRegressor.load(tmp_path / "saved", device="cpu")
    np.testing.assert_array_equal(loaded.predict(texts), fitted.predict(texts))
    assert loaded.get_params() == fitted.get_params() | {"model": str(fitted.model), "device": "cpu"}


def test_transformers_opens_what_is_saved(fitted: TextRegressor, tmp_path: Path):
    fitted.save(tmp_path / "saved")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert model.config.problem_type == "regression" and model.config.num_labels == 1
    texts, _ = counted_texts(10, seed=4)
    with torch.inference_mode():
        numbers = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits.squeeze(-1)
    np.testing.assert_allclose(numbers, fitted.predict(texts), atol=1e-4)


def test_weights_decide_which_texts_are_learned(tiny: Path):
    texts, numbers = counted_texts(60)
    wrong = [-number for number in numbers]
    weights = [1.0] * 60 + [0.0] * 60
    fitted = quick(tiny, epochs=8).fit(texts + texts, numbers + wrong, sample_weight=weights)
    assert np.corrcoef(fitted.predict(texts), numbers)[0, 1] > 0.7
    assert fitted.score(texts + texts, numbers + wrong, sample_weight=weights) == pytest.approx(
        fitted.score(texts, numbers)
    )


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, torch.tensor])
def test_numbers_of_every_kind_are_taken(tiny: Path, kind):
    texts, numbers = counted_texts(12)
    expected = quick(tiny).fit(texts, numbers).predict(texts)
    found = quick(tiny).fit(texts, [kind(number) for number in numbers])
    np.testing.assert_array_equal(found.predict(texts), expected)
    assert found.score(texts, [kind(number) for number in numbers]) == pytest.approx(found.score(texts, numbers))
