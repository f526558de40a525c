"""Probabilities against what came true, a temperature, and thresholds, worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from companion.finetuning.calibration import best_thresholds, calibration_error, fit_temperature, reliability


def test_bins_hold_what_was_stated_and_what_came_true():
    found = reliability([0.72] * 100 + [0.25] * 300, [1] * 70 + [0] * 30 + [1] * 105 + [0] * 195)
    assert found.stated == pytest.approx([0.25, 0.72])
    assert found.observed == pytest.approx([0.35, 0.70])
    assert found.counts.tolist() == [300, 100]


def test_the_error_is_the_distance_weighted_by_the_answers():
    correct = [1] * 70 + [0] * 30 + [1] * 105 + [0] * 195
    assert calibration_error([0.72] * 100 + [0.25] * 300, correct) == pytest.approx((100 * 0.02 + 300 * 0.10) / 400)


def test_one_and_zero_are_in_the_outer_bins():
    assert reliability([0.0, 1.0], [False, True], bins=4).counts.tolist() == [1, 1]
    assert calibration_error([0.0, 1.0], [False, True]) == 0.0


def test_one_bin_compares_the_means():
    assert calibration_error([0.9, 0.5, 0.1], [True, False, False], bins=1) == pytest.approx(0.5 - 1 / 3)


@pytest.mark.parametrize(
    ("probabilities", "correct", "named"),
    [
        ([], [], "probabilities"),
        ([1.2], [1], "probabilities"),
        ([0.5], [1, 0], "correct"),
        ([[0.5]], [1], "prob"),
    ],
)
def test_what_is_no_probability_is_refused(probabilities, correct, named):
    with pytest.raises(ValueError, match=named):
        calibration_error(probabilities, correct)


def test_the_temperature_of_a_network_that_is_twice_too_sure_is_two():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20000, 3))
    p = torch.tensor(logits).softmax(-1).numpy()
    labels = (rng.random((20000, 1)) > p.cumsum(axis=1)).sum(axis=1)  # drawn from the probabilities
    assert fit_temperature(2 * logits, labels) == pytest.approx(2, rel=0.05)
    assert fit_temperature(logits / 2, labels) == pytest.approx(0.5, rel=0.05)


def test_the_temperature_by_hand():
    """Logits (z, 0) and three of four right: the best is sigmoid(z / T) = 3/4, that is T = z / ln 3."""
    assert fit_temperature([[2.0, 0.0]] * 4, [0, 0, 0, 1]) == pytest.approx(2 / math.log(3), rel=1e-3)


def test_the_temperature_does_not_see_a_constant_added_to_a_row():
    logits = np.random.default_rng(1).normal(size=(50, 4))
    labels = np.arange(50) % 4
    assert fit_temperature(logits + 7, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-4)


@pytest.mark.parametrize(("logits", "labels"), [([[1.0, 0.0]], [0, 1]), ([1.0, 0.0], [0, 1]), (np.zeros((0, 2)), [])])
def test_logits_without_their_labels_are_refused(logits, labels):
    with pytest.raises(ValueError, match="logits"):
        fit_temperature(logits, labels)


def test_the_threshold_with_the_best_f1_by_hand():
    """Answered down to 0.4: 2 right of 3 found and 2 wanted, F1 4/5; down to 0.9: 2/3; to 0.2: 4/6."""
    assert best_thresholds([[1], [0], [1], [0]], [[0.9], [0.6], [0.4], [0.2]]) == pytest.approx([0.3])


def test_equal_probabilities_are_not_parted():
    found = best_thresholds([[1], [0], [0], [0]], [[0.4], [0.4], [0.1], [0.1]])
    assert found == pytest.approx([0.25])


def test_of_equally_good_thresholds_the_one_nearest_to_a_half_is_taken():
    assert best_thresholds([[1], [0]], [[0.9], [0.3]]) == pytest.approx([0.6])
    # No cut is better than another where a label never occurs, and there is none where all are 0.
    assert best_thresholds([[0], [0]], [[0.9], [0.3]]).tolist() == [0.5]
    assert best_thresholds([[1], [1]], [[0.0], [0.0]]).tolist() == [0.5]


def test_it_is_the_best_of_all_cuts():
    rng = np.random.default_rng(2)
    truth = rng.random((200, 5)) < 0.2
    stated = np.clip(rng.random((200, 5)) * 0.6 + 0.2 * truth, 0, 1).round(2)  # with ties

    def f1(cut, label):
        answered = stated[:, label] >= cut
        return 2 * (answered & truth[:, label]).sum() / (answered.sum() + truth[:, label].sum())

    for label, cut in enumerate(best_thresholds(truth, stated)):
        assert f1(cut, label) == pytest.approx(max(f1(other, label) for other in np.linspace(0, 1, 401)))


def test_each_label_needs_its_column():
    with pytest.raises(ValueError, match="truth"):
        best_thresholds([[1], [0]], [[0.5, 0.5], [0.5, 0.5]])
