"""What the tests of all estimators start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from companion.finetuning import TextClassifier
from tests.toys import keyword_texts, save_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a very small BERT with random weights and a tokenizer that knows the words used here."""
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def fitted(tiny: Path) -> TextClassifier:
    """Return a classifier that has learned the keyword task; tests must not change it."""
    classifier = TextClassifier(tiny, epochs=6, batch_size=32, max_length=16, learning_rate=3e-3)
    return classifier.fit(*keyword_texts(200), validation=keyword_texts(60, seed=1))
