"""Scores, worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from companion.finetuning.metrics import (
    accuracy,
    confusion_matrix,
    entity_scores,
    matthews_correlation,
    pearson,
    precision_recall_f1,
    spearman,
)

# Eight items: of 5 "yes" 4 are found and 1 is missed; of 3 "no" 1 is taken for "yes".
TRUTH = ["yes", "yes", "yes", "yes", "yes", "no", "no", "no"]
PREDICTED = ["yes", "yes", "yes", "yes", "no", "yes", "no", "no"]


def test_accuracy_counts_what_is_right():
    assert accuracy(TRUTH, PREDICTED) == 6 / 8


def test_binary_scores_look_at_the_positive_label():
    assert precision_recall_f1(TRUTH, PREDICTED, average="binary", positive="yes") == pytest.approx(
        (4 / 5, 4 / 5, 4 / 5)
    )
    assert precision_recall_f1(TRUTH, PREDICTED, average="binary", positive="no") == pytest.approx(
        (2 / 3, 2 / 3, 2 / 3)
    )


def test_macro_is_the_mean_over_labels_and_micro_is_accuracy():
    assert precision_recall_f1(TRUTH, PREDICTED).f1 == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert precision_recall_f1(TRUTH, PREDICTED, average="micro") == pytest.approx((6 / 8, 6 / 8, 6 / 8))


def test_f1_is_the_harmonic_mean():
    scores = precision_recall_f1([1, 1, 1, 0], [1, 0, 0, 0], average="binary", positive=1)
    assert scores == pytest.approx((1.0, 1 / 3, 0.5))
    assert scores.f1 == pytest.approx(2 / (1 / scores.precision + 1 / scores.recall))


def test_a_label_that_is_never_predicted_scores_zero_without_a_warning():
    assert precision_recall_f1(["a", "b"], ["a", "a"], average="binary", positive="b") == (0.0, 0.0, 0.0)


def test_matthews_correlation_by_its_formula():
    tp, fn, fp, tn = 4, 1, 1, 2
    expected = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert matthews_correlation(TRUTH, PREDICTED) == pytest.approx(expected)
    assert matthews_correlation(["a"] * 9 + ["b"], ["a"] * 10) == 0.0
    assert matthews_correlation(TRUTH, ["no" if label == "yes" else "yes" for label in TRUTH]) == pytest.approx(-1.0)


def test_confusion_counts_truth_in_rows_and_predictions_in_columns():
    found = confusion_matrix(TRUTH, PREDICTED)
    assert found.labels == ("no", "yes")
    assert found.counts.tolist() == [[2, 1], [1, 4]]
    found = confusion_matrix(TRUTH, PREDICTED, labels=["yes", "maybe", "no"])
    assert found.counts.tolist() == [[4, 0, 1], [0, 0, 0], [1, 0, 2]]
    with pytest.raises(ValueError, match=r"leaves out \['no'\]"):
        confusion_matrix(TRUTH, PREDICTED, labels=["yes"])


def test_correlations_by_hand():
    truth, predicted = [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 10.0]
    assert spearman(truth, predicted) == pytest.approx(1.0)
    assert pearson(truth, predicted) == pytest.approx(14 / math.sqrt(5 * 50))
    assert spearman(truth, predicted[::-1]) == pytest.approx(-1.0)


@pytest.mark.parametrize("yes", [1, 3, 279, 407])
def test_a_constant_answer_has_no_matthews_correlation_and_an_f1_by_formula(yes: int):
    truth, share = [True] * yes + [False] * (408 - yes), yes / 408
    always = [True] * 408
    assert matthews_correlation(truth, always) == 0
    assert accuracy(truth, always) == share
    f1 = precision_recall_f1(truth, always, average="binary", positive=True).f1
    assert f1 == pytest.approx(2 * share / (1 + share))


def test_entities_are_counted_over_all_texts_and_not_per_batch():
    truth = [["B-PER", "B-LOC"], ["B-PER", "O"], ["B-ORG", "O"], ["B-LOC", "O"]]
    predicted = [["B-PER", "B-PER"], ["B-PER", "O"], ["B-LOC", "O"], ["B-LOC", "O"]]
    assert entity_scores(truth, predicted) == pytest.approx((0.6, 0.6, 0.6))
    one_by_one = [entity_scores([t], [p]).f1 for t, p in zip(truth, predicted, strict=True)]
    assert one_by_one == [0.5, 1.0, 0.0, 1.0]  # whose mean, 0.625, is another number


@pytest.mark.parametrize("correlation", [pearson, spearman])
def test_the_correlation_of_all_is_not_the_mean_over_parts(correlation):
    truth, predicted = [1.0, 2.0, 4.0, 5.0], [0.8, 0.9, 0.1, 0.2]
    assert correlation(truth[:2], predicted[:2]) == pytest.approx(1.0)
    assert correlation(truth[2:], predicted[2:]) == pytest.approx(1.0)
    assert correlation(truth, predicted) < -0.5


@pytest.mark.parametrize("correlation", [pearson, spearman])
def test_the_correlation_of_a_constant_is_undefined(correlation):
    assert math.isnan(correlation([1.0, 2.0], [3.0, 3.0]))
    assert math.isnan(correlation([1.0], [2.0]))


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_sequences_of_every_kind_are_compared_by_value(kind):
    assert accuracy(kind([0, 1, 1, 0]), [0, 1, 0, 0]) == 0.75
    assert confusion_matrix([0, 1, 1, 0], kind([0, 1, 0, 0])).counts.tolist() == [[2, 0], [1, 1]]


def test_scalars_of_every_library_are_the_labels_they_stand_for():
    truth = [torch.tensor(1), torch.tensor(0), np.int64(1), 0]
    assert accuracy(truth, [1, 0, 1, 1]) == 0.75
    assert confusion_matrix(truth, [1, 0, 1, 1]).labels == (0, 1)
    assert pearson([np.float32(1), np.float32(2)], [torch.tensor(2.0), torch.tensor(4.0)]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "score", [accuracy, precision_recall_f1, matthews_correlation, confusion_matrix, pearson, spearman]
)
def test_sequences_that_do_not_belong_together_are_refused(score):
    with pytest.raises(ValueError, match="truth has 2 items, predicted has 1"):
        score([1, 2], [1])
    with pytest.raises(ValueError, match="truth is empty"):
        score([], [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average": "weighted"}, "average='weighted' is unknown; choose one of binary, macro, micro"),
        ({"average": "binary"}, "positive=None with average='binary'"),
        ({"positive": "yes"}, "positive='yes' with average='macro'"),
        ({"average": "binary", "positive": "maybe"}, r"positive='maybe' is in neither .* \('no', 'yes'\)"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        precision_recall_f1(TRUTH, PREDICTED, **options)


def test_a_label_that_is_no_label_is_named():
    with pytest.raises(TypeError, match=r"truth and predicted\[1\]=\['a', 'b'\] is of type list"):
        accuracy(["a", ["a", "b"]], ["a", "b"])
    with pytest.raises(ValueError, match=r"predicted\[1\]=nan is missing"):
        accuracy([1, 2], [1, float("nan")])
    with pytest.raises(TypeError, match="truth='yes' is one str"):
        accuracy("yes", ["yes"])
