"""What every fine-tuned estimator owes scikit-learn: its own checks, on texts made of the numbers that they use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

from companion.finetuning import TextClassifier, TextRegressor
from tests.toys import WORDS, save_tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> None:
    OnNumbers.folder = save_tiny(tmp_path_factory.mktemp("models") / "tiny")


class OnNumbers:
    """Reads rows of numbers, as scikit-learn's checks pass them, as texts: one word for each number."""

    folder: Path

    def _read(self, name: str, texts: Any) -> list[str]:
        rows = validate_data(self, texts, reset=name == "X" and not hasattr(self, "model_"), dtype=float)
        words = np.clip(np.round(2 * rows) + len(WORDS) // 2, 0, len(WORDS) - 1).astype(int)
        return [" ".join(WORDS[i] for i in row) for row in words]

    def _start(self, seed: int, **changes: Any) -> Any:
        self.model = self.folder
        try:
            return super()._start(seed, **changes)
        finally:
            self.model = "mini"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = False, True
        return tags


class Classifier(OnNumbers, TextClassifier):
    pass


class Regressor(OnNumbers, TextRegressor):
    pass


EXPECTED = {
    "check_classifiers_train": "asks for a score that one pass over rounded numbers misses; see test_classifier",
    "check_regressors_train": "asks for a score that one pass over rounded numbers misses; see test_regressor",
    "check_sample_weight_equivalence_on_dense_data": "batches are drawn over rows, so a row twice is not a weight of 2",
}


@parametrize_with_checks(
    [Classifier(epochs=1, max_length=48), Regressor(epochs=1, max_length=48)],
    expected_failed_checks=lambda estimator: EXPECTED,
)
def test_scikit_learn_finds_what_it_expects(estimator, check):
    check(estimator)
