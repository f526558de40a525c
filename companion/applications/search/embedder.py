"""Vectors of texts for every estimator of scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from companion.applications.search.vectors import POOLINGS, embed
from companion.model.encoder import BertModel
from companion.support.containers import as_texts
from companion.support.devices import best_device
from companion.support.require import choice, integer
from companion.text.tokenizer import Tokenizer


class SentenceEmbedder(TransformerMixin, BaseEstimator):
    """Turn texts into the vectors of a BERT that is not trained further, for a pipeline of scikit-learn.

    Parameters
    ----------
    model : str or Path
        Checkpoint of the encoder and its tokenizer, as in `BertModel.from_pretrained`.
    pooling : {"mean", "cls", "max"}
        As in `companion.applications.search.vectors.pool`.
    batch_size : int
        Texts that go through the model together.
    max_length : int, optional
        As in `companion.applications.search.vectors.embed`.
    device, precision : str, optional
        As in `companion.support.devices`.

    Attributes
    ----------
    model_ : BertModel
    tokenizer_ : Tokenizer

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> pipeline = make_pipeline(SentenceEmbedder("mini"), LogisticRegression())
    >>> pipeline.fit(["red", "blue", "a red one", "a blue one"], [0, 1, 0, 1]).predict(["red"]).shape
    (1,)
    """

    def __init__(
        self,
        model: str | Path = "mini",
        *,
        pooling: str = "mean",
        batch_size: int = 32,
        max_length: int | None = None,
        device: str | None = None,
        precision: str | None = None,
    ) -> None:
        self.model = model
        self.pooling = pooling
        self.batch_size = batch_size
        self.max_length = max_length
        self.device = device
        self.precision = precision

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803
        """Check the texts and open the model; nothing is learned."""
        choice("pooling", self.pooling, POOLINGS)
        integer("batch_size", self.batch_size, 1)
        as_texts("X", X)
        self.tokenizer_ = Tokenizer.from_pretrained(self.model)
        self.model_ = BertModel.from_pretrained(self.model).to(best_device(self.device))
        return self

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return one vector per text, (texts, hidden), fp32."""
        check_is_fitted(self, "model_")
        options: dict[str, Any] = {"pooling": self.pooling, "batch_size": self.batch_size, "precision": self.precision}
        return embed(as_texts("X", X), self.model_, self.tokenizer_, max_length=self.max_length, **options)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return a name for every dimension of the vectors."""
        check_is_fitted(self, "model_")
        return np.array([f"bert{i}" for i in range(self.model_.config.hidden_size)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array, tags.requires_fit = True, False, True
        return tags
