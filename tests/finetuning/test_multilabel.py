"""Several labels per text: an indicator matrix, or lists of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from companion.finetuning import TextClassifier, load
from companion.finetuning.labels import binarise_labels
from companion.finetuning.losses import SequenceObjective
from tests.toys import FILLERS

COLOURS = ["blue", "green"]


def coloured_texts(count: int, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Make texts whose labels are the colours that occur in them."""
    generator = np.random.default_rng(seed)
    labels = [[colour for colour in COLOURS if generator.random() < 0.5] for _ in range(count)]
    texts = [" ".join(generator.permutation([*found, *generator.choice(FILLERS, 3)])) for found in labels]
    return texts, labels


def as_matrix(labels: list[list[str]]) -> np.ndarray:
    return np.array([[int(colour in found) for colour in COLOURS] for found in labels])


@pytest.fixture(scope="module")
def fitted(tiny: Path) -> TextClassifier:
    """Return a classifier that has learned which colours occur; tests must not change it."""
    classifier = TextClassifier(tiny, epochs=24, batch_size=8, max_length=16, learning_rate=1e-3, dropout=0.0)
    return classifier.fit(*coloured_texts(200), validation=coloured_texts(40, seed=1))


def test_every_label_is_learned_by_itself(fitted: TextClassifier):
    texts, labels = coloured_texts(60, seed=2)
    assert fitted.classes_.tolist() == COLOURS
    predicted = fitted.predict(texts)
    assert predicted.shape == (60,) and {type(one) for one in predicted} == {tuple}
    assert fitted.score(texts, labels) == np.mean([set(a) == set(b) for a, b in zip(predicted, labels, strict=True)])
    assert fitted.score(texts, labels) > 0.9


@pytest.mark.parametrize("adapter", [None, "lora"])
def test_a_network_starts_from_the_odds_of_every_label(tiny: Path, adapter):
    texts = [f"alpha {i}" for i in range(8)]
    labels, weights = [["common"]] * 6 + [["common", "rare"], []], [1] * 6 + [2, 4]
    odds = np.log([(8 + 0.5) / (4 + 0.5), (2 + 0.5) / (10 + 0.5)])  # of 12 texts 8 are common, 2 rare
    classifier = TextClassifier(tiny, epochs=1, max_length=16, learning_rate=1e-9, adapter=adapter)
    classifier.fit(texts, labels, sample_weight=np.array(weights) / 12 * 8)
    bias = classifier.model_.classifier.bias.detach().numpy()
    mean = np.array([8 / 12, 2 / 12]) * 8  # weights are brought to a mean of 1
    np.testing.assert_allclose(bias, np.log((mean + 0.5) / (8 - mean + 0.5)), rtol=1e-4)
    assert bias[0] < odds[0] and bias[1] > odds[1], "eight texts say less than twelve"


def test_the_loss_is_that_of_the_head(fitted: TextClassifier):
    batch = fitted.tokenizer_(["blue red", "alpha"]) | {"labels": torch.tensor([[1.0, 0.0], [0.0, 0.0]])}
    with torch.inference_mode():
        sums = SequenceObjective("multi_label_classification").sums(fitted.model_, batch)["classification"]
        assert sums.loss.item() == pytest.approx(2 * fitted.model_(**batch).loss.item(), rel=1e-5)


def test_a_label_is_given_from_a_probability_of_one_half_on(fitted: TextClassifier):
    texts, _ = coloured_texts(30, seed=3)
    probabilities = fitted.predict_proba(texts)
    assert probabilities.shape == (30, 2) and not np.allclose(probabilities.sum(-1), 1)
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-fitted.decision_function(texts).astype(float))))
    np.testing.assert_allclose(fitted.predict_log_proba(texts), np.log(probabilities))
    for row, labels in zip(probabilities, fitted.predict(texts), strict=True):
        assert labels == tuple(colour for colour, p in zip(COLOURS, row, strict=True) if p >= 0.5)


def test_validation_is_scored_by_text_and_by_label(fitted: TextClassifier):
    texts, labels = coloured_texts(40, seed=1)
    assert fitted.history_.column("validation_accuracy")[1][-1] == pytest.approx(fitted.score(texts, labels))
    p, truth = fitted.predict_proba(texts), as_matrix(labels)
    loss = -np.where(truth, np.log(p), np.log(1 - p)).mean()
    assert fitted.history_.column("validation_loss")[1][-1] == pytest.approx(loss, rel=1e-3)
    assert fitted.history_.column("classification_accuracy")[1][-1] > 0.8


@pytest.mark.parametrize(
    "kind",
    [np.array, np.ndarray.tolist, torch.tensor, lambda m: m.astype(bool), lambda m: pd.DataFrame(m, columns=COLOURS)],
    ids=["array", "lists", "tensor", "bool", "DataFrame"],
)
def test_an_indicator_matrix_is_answered_with_one(tiny: Path, fitted: TextClassifier, kind):
    texts, labels = coloured_texts(24)
    matrix = kind(as_matrix(labels))
    classifier = TextClassifier(tiny, epochs=1, max_length=16).fit(texts, matrix)
    assert classifier.classes_.tolist() == (COLOURS if isinstance(matrix, pd.DataFrame) else [0, 1])
    predicted = classifier.predict(texts)
    assert predicted.shape == (24, 2) and predicted.dtype == np.int64
    assert classifier.score(texts, matrix) == (predicted == as_matrix(labels)).all(-1).mean()
    same = TextClassifier(tiny, epochs=1, max_length=16).fit(texts, labels)
    np.testing.assert_array_equal(same.predict_proba(texts), classifier.predict_proba(texts))


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset])
def test_lists_of_labels_come_in_every_container(kind):
    classes, matrix, lists = binarise_labels([kind(["b", "a"]), kind(), kind(["b"])], 3)
    assert (classes.tolist(), matrix.tolist(), lists) == (["a", "b"], [[1, 1], [0, 0], [0, 1]], True)


@pytest.mark.parametrize("form", ["lists", "indicator"])
def test_it_comes_back_from_disk_and_opens_in_transformers(tiny: Path, tmp_path: Path, form: str):
    texts, labels = coloured_texts(24)
    labels = labels if form == "lists" else as_matrix(labels)
    classifier = TextClassifier(tiny, epochs=1, max_length=16).fit(texts, labels)
    classifier.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved", device="cpu")
    assert loaded.multilabel_ == form and loaded.classes_.tolist() == classifier.classes_.tolist()
    np.testing.assert_array_equal(loaded.predict(texts), classifier.predict(texts))
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert theirs.config.problem_type == "multi_label_classification"
    (tmp_path / "saved" / "companion.json").unlink()  # as others save it
    foreign = load(tmp_path / "saved", device="cpu")
    np.testing.assert_allclose(foreign.predict_proba(texts), classifier.predict_proba(texts))


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([["a"], "b", ["c"]], TypeError, r"y\[1\]='b' is no list; with several labels per text each text needs a list"),
        ([["a"], ["a"], []], ValueError, "y holds 1 different labels; several per text need at least two"),
        ([["a"], ["b", None], []], ValueError, r"y\[1\]\[1\]=None is missing"),
        ([["a"], ["b"]], ValueError, "y has 2 rows, X has 3 texts"),
        (np.array([[0, 2], [1, 0], [1, 1]]), ValueError, "y is an array of several columns; it must hold 0 and 1 only"),
        ([["a", 1], ["b"], []], TypeError, "y mixes str and numbers"),
    ],
)
def test_wrong_labels_are_named(tiny: Path, labels, error, message: str):
    with pytest.raises(error, match=message):
        TextClassifier(tiny, epochs=1, max_length=16).fit(["red", "blue", "green"], labels)


def test_class_weight_is_refused_and_a_new_label_is_named(tiny: Path, fitted: TextClassifier):
    texts, labels = coloured_texts(8)
    with pytest.raises(ValueError, match="class_weight is for one label per text; pass sample_weight to fit"):
        TextClassifier(tiny, class_weight="balanced", max_length=16).fit(texts, labels)
    with pytest.raises(ValueError, match=r"'pink' is no label that was learned, which are: \['blue', 'green'\]"):
        fitted.score(["red"], [["pink"]])
