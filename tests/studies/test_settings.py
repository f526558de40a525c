"""The search over learning rates: it sees the training texts alone, and puts the best rate first."""

from __future__ import annotations

from pathlib import Path

import pytest

from companion.finetuning import TextClassifier
from companion.finetuning.metrics import accuracy
from companion.finetuning.new_head import default_learning_rate
from companion.studies.settings import FACTORS, search_learning_rate
from tests.toys import save_tiny


@pytest.fixture
def estimator(tmp_path: Path) -> TextClassifier:
    return TextClassifier(
        save_tiny(tmp_path / "tiny", words="good bad red blue the"), epochs=1, max_length=16, progress=False
    )


TEXTS = [f"{colour} {word}" for colour in ("red", "blue") for word in ("good", "bad")] * 10
LABELS = [text.split()[1] for text in TEXTS]


def test_every_rate_is_scored_as_training_with_it_scores(estimator: TextClassifier):
    seen: list[list[str]] = []

    def score(truth, predicted):
        seen.append(list(truth))
        return accuracy(truth, predicted)

    found = search_learning_rate(estimator, TEXTS, LABELS, score, rows=20)
    default = default_learning_rate(16)
    assert sorted(one["learning_rate"] for one in found) == pytest.approx([factor * default for factor in FACTORS])
    assert found[0]["score"] >= found[-1]["score"]
    assert [len(truth) for truth in seen] == [4] * len(FACTORS)  # a fifth of 20 rows, the same for each
    assert seen[0] == seen[1]
    assert estimator.learning_rate is None and not hasattr(estimator, "model_")


def test_of_equal_scores_the_lower_rate_comes_first(estimator: TextClassifier):
    found = search_learning_rate(estimator, TEXTS, LABELS, lambda truth, predicted: 1.0, rows=20)
    assert found[0]["learning_rate"] < found[1]["learning_rate"]


def test_the_best_comes_first(estimator: TextClassifier):
    scores = iter([0.25, 0.75])
    found = search_learning_rate(estimator, TEXTS, LABELS, lambda truth, predicted: next(scores), rows=20)
    assert [one["score"] for one in found] == [0.75, 0.25]
    assert found[0]["learning_rate"] > found[1]["learning_rate"]


def test_too_few_rows_are_refused(estimator: TextClassifier):
    with pytest.raises(ValueError, match="rows=9 is not allowed"):
        search_learning_rate(estimator, TEXTS, LABELS, accuracy, rows=9)
