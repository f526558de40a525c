"""Marks and fixtures that several tests share."""

from __future__ import annotations

import pytest
import torch

from companion.config import BertConfig


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs a CUDA device; skipped where there is none")
    config.addinivalue_line(
        "markers", "slow: starts processes or a browser, compiles, or compares much; `make unit` leaves it out"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def small_config() -> BertConfig:
    """Two layers, four heads, dropout as published; every size is another number, so that none stands for another."""
    return BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=16,
        type_vocab_size=3,
        num_labels=5,
    )
