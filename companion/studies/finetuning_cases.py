"""Fine-tuning and prediction as they are compared: which texts, how long, and whose way of doing it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from companion.config import PRESETS, BertConfig
from companion.data.labelled import load_dataset
from companion.studies.cases import Contender
from companion.studies.interleave import check_clock
from companion.support.devices import precision_for
from companion.support.require import choice, integer, number, require

# Deciles of the number of words of a text. "short": of the training part of SST-2, phrases of film reviews (67,349
# texts); "long": evenly from 50 to 500, for whole reviews.
LENGTHS = {"short": (1, 2, 3, 4, 5, 7, 9, 12, 15, 21, 52), "long": tuple(range(50, 501, 45))}
VOCABULARY = 8192  # of the tokenizer of `mini`, which all read with


@dataclass(frozen=True)
class FinetuningCase:
    """What is fine-tuned, or predicted, in a comparison, and how it is timed.

    Parameters
    ----------
    model : str
        A preset of `BertConfig`.
    vocab_size : int
        Rows of the token embeddings; those beyond the tokenizer's are trained by nothing but weigh on the optimiser.
    lengths : {"short", "long"}
        Of the texts, in words; see `LENGTHS`.
    texts : int
        How many are read in a pass.
    rounds : int
        Passes of each contender that are timed, after one that is not.
    max_length : int
        Tokens of a text.
    batch_size : int
    learning_rate : float
    precisions : tuple of str
        This package's, as in `companion.support.devices.precision_for`.
    compiled : bool
        Compare with Trainer under `torch_compile=True` too.
    against : tuple of str
        Names of those that fine-tuning is compared with, such as `"Trainer fp32"`; all by default. Each has a process
        of its own, and all of them hold their memory to the end.
    device : str, optional
    threads : int, optional
        Of PyTorch on the CPU; None takes its default.
    clock : {"wall", "cpu"}
    seed : int
        Of texts and weights.

    Raises
    ------
    ValueError
        If a value is out of range; the message names it.
    """

    model: str = "mini"
    vocab_size: int = VOCABULARY
    lengths: str = "short"
    texts: int = 512
    rounds: int = 5
    max_length: int = 128
    batch_size: int = 32
    learning_rate: float = 1e-4
    precisions: tuple[str, ...] = ("auto", "fp32")
    compiled: bool = False
    against: tuple[str, ...] = ()
    device: str | None = None
    threads: int | None = None
    clock: str = "wall"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "precisions", tuple(self.precisions))
        object.__setattr__(self, "against", tuple(self.against))
        choice("model", self.model, PRESETS)
        choice("lengths", self.lengths, LENGTHS)
        integer("vocab_size", self.vocab_size, VOCABULARY)
        for name in ("texts", "rounds", "batch_size"):
            integer(name, getattr(self, name), 1)
        integer("max_length", self.max_length, 3, 512)
        number("learning_rate", self.learning_rate, above=0)
        require("precisions", self.precisions, bool(self.precisions), "one precision or more")
        if self.threads is not None:
            integer("threads", self.threads, 1)
        check_clock(self.clock, self.threads, self.device)
        for name in self.against:
            choice("against", name, [one.name for one in self._all_trainers()])

    @property
    def config(self) -> BertConfig:
        """The network's configuration."""
        return BertConfig.preset(self.model, vocab_size=self.vocab_size)

    @property
    def ours(self) -> list[Contender]:
        """This package in each precision; `"auto"` and the one that it stands for count once."""
        names = dict.fromkeys(precision_for(self.device, name) for name in self.precisions)
        return [Contender("companion", name) for name in names]

    @property
    def trainers(self) -> list[Contender]:
        """Whom fine-tuning is compared with."""
        return [one for one in self._all_trainers() if not self.against or one.name in self.against]

    def _all_trainers(self) -> list[Contender]:
        ways = [("padded loop", "fp32"), ("Trainer", "fp32"), ("Trainer grouped", "fp32")]
        if any(contender.precision == "bf16" for contender in self.ours):
            ways += [("Trainer", "bf16"), ("Trainer grouped", "bf16")]
        compiled = [("Trainer compiled", "fp32")] if self.compiled else []
        return [Contender(*way) for way in ways + compiled]


def made_texts(case: FinetuningCase) -> tuple[list[str], list[str]]:
    """Return the texts of a case and their labels: words of the bundled reviews of one label, cut to drawn lengths."""
    rng = np.random.default_rng(case.seed)
    reviews = load_dataset("reviews")["train"]
    words: dict[str, list[str]] = {}
    for text, label in zip(reviews["text"], reviews["label"], strict=True):
        words.setdefault(label, []).extend(text.split())
    deciles = LENGTHS[case.lengths]
    lengths = np.interp(rng.random(case.texts), np.linspace(0, 1, len(deciles)), deciles).round().astype(int)
    labels = [sorted(words)[i % len(words)] for i in range(case.texts)]
    starts = rng.random(case.texts)
    texts = []
    for label, start, count in zip(labels, starts, lengths, strict=True):
        first = int(start * (len(words[label]) - count))
        texts.append(" ".join(words[label][first : first + count]))
    return texts, labels
