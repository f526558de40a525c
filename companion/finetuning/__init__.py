"""Fine-tuning: a pre-trained BERT and labelled examples in, a scikit-learn estimator out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "TextClassifier": "companion.finetuning.classifier",
    "TextRegressor": "companion.finetuning.regressor",
}
__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from companion.finetuning.classifier import TextClassifier as TextClassifier
    from companion.finetuning.regressor import TextRegressor as TextRegressor


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
