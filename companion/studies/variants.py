"""The variants of pre-training that are compared."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

BASE = "base"
HEAD_WIDTH = 32  # dimensions of a head in every variant
SHORT_ROW = 16  # tokens of a row in a first stretch on short rows
CURVE_POINTS = 20


@dataclass(frozen=True)
class Variant:
    """One way to pre-train. The defaults are the base, which the others change in one thing.

    Parameters
    ----------
    question : str
        What the change is about.
    against : str
        Name of the variant that differs from this one in that thing alone.
    yardstick : {"text", "words", "own"}
        What the two are compared on: rows of the base's form with single pieces masked, the same with whole words
        masked, or rows of the variant's own form. Always 15% masked.
    figure : {"mlm", "nats_per_character"}
        What is compared, as `FIGURES` says; lower is better.
    layers, hidden_size, vocab_size : int
        The model's shape.
    initializer_range : float
        Standard deviation of the first weights.
    batch_size, max_tokens : int
        Rows of a batch, and tokens of a row.
    short_share : float
        Share of the positions that are trained on first, on rows of 16 tokens of one segment each.
    pairs, next_sentence : bool
        Rows of two segments, and whether to learn from them which follow each other.
    masking_probability, whole_words, dropout : float, bool, float
        As in `PretrainingConfig`.
    learning_rate : float
        The highest one.

    Raises
    ------
    ValueError
        If `yardstick` or `figure` is unknown, or next sentences are to be learned without pairs.
    """

    question: str = ""
    against: str = BASE
    yardstick: str = "text"
    figure: str = "mlm"
    layers: int = 2
    hidden_size: int = 128
    vocab_size: int = 1024
    initializer_range: float = 0.05
    batch_size: int = 32
    max_tokens: int = 32
    short_share: float = 0.0
    pairs: bool = False
    next_sentence: bool = False
    masking_probability: float = 0.15
    whole_words: bool = False
    dropout: float = 0.0
    learning_rate: float = 2e-3

    def __post_init__(self) -> None:
        if self.yardstick not in YARDSTICKS:
            raise ValueError(f"yardstick={self.yardstick!r} is unknown; choose one of {', '.join(YARDSTICKS)}")
        if self.figure not in FIGURES:
            raise ValueError(f"figure={self.figure!r} is unknown; choose one of {', '.join(FIGURES)}")
        if self.next_sentence and not self.pairs:
            raise ValueError("next_sentence=True needs rows of two segments; pass pairs=True too")

    @property
    def changes(self) -> dict[str, Any]:
        """What differs from the base."""
        names = [field.name for field in dataclasses.fields(self) if field.name not in _DESCRIPTION]
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(Variant, name)}


_DESCRIPTION = ("question", "against", "yardstick", "figure")
YARDSTICKS = ("text", "words", "own")
FIGURES = {"mlm": "nats per masked token", "nats_per_character": "nats per character"}
_LONG: dict[str, Any] = {"batch_size": 8, "max_tokens": 128}
VARIANTS = {
    BASE: Variant(),
    "masking 10%": Variant("masking rate", masking_probability=0.10),
    "masking 25%": Variant("masking rate", masking_probability=0.25),
    "masking 40%": Variant("masking rate", masking_probability=0.40),
    "whole words": Variant("whole-word masking", yardstick="words", whole_words=True),
    "vocabulary 4096": Variant("vocabulary", yardstick="words", figure="nats_per_character", vocab_size=4096),
    "4 layers of 96": Variant("depth against width", layers=4, hidden_size=96),
    "1 layer of 192": Variant("depth against width", against="4 layers of 96", layers=1, hidden_size=192),
    "rows of 128": Variant("row length", **_LONG),
    "short rows first": Variant("row length", against="rows of 128", yardstick="own", **_LONG, short_share=0.5),
    "then pairs": Variant("two segments a row", against="short rows first", **_LONG, short_share=0.5, pairs=True),
    "then pairs with NSP": Variant(
        "next-sentence prediction",
        against="then pairs",
        yardstick="own",
        **_LONG,
        short_share=0.5,
        pairs=True,
        next_sentence=True,
    ),
    "dropout 0.1": Variant("dropout", dropout=0.1),
    "learning rate 5e-3": Variant("learning rate", learning_rate=5e-3),
    "batch of 128": Variant("batch size", batch_size=128),
    "first weights 0.02": Variant("initialisation", initializer_range=0.02),
}
