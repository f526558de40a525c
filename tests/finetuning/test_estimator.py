"""What every fine-tuned estimator owes scikit-learn."""

from __future__ import annotations

import pytest
from sklearn.utils import estimator_checks

from companion import finetuning


@pytest.mark.parametrize("name", ["TextClassifier", "TextRegressor"])
@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimators_unfitted,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_set_params,
    ],
    ids=lambda check: check.__name__,
)
def test_scikit_learn_finds_what_it_expects(check, name: str):
    check(name, getattr(finetuning, name)())
