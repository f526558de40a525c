"""Toys that several tests share."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from companion.config import BertConfig
from companion.model.encoder import BertModel
from companion.model.heads import IGNORED, BertForMaskedLM
from companion.support.devices import generators_kept, seed_everything
from companion.text.tokenizer import Tokenizer
from companion.training.loop import History, train
from companion.training.objective import Sums
from companion.training.settings import TrainingSettings

CONFIG = BertConfig(50, 16, 2, 2, 32, max_position_embeddings=16)
STEPS = 6
RUN = TrainingSettings(steps=STEPS, learning_rate=1e-2, log_every=1, save_every=1, device="cpu")


class MaskedWords:
    """The objective of `BertForMaskedLM`: cross-entropy, and right answers beside it."""

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"mlm": (batch["labels"] != IGNORED).sum()}

    def sums(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Sums]:
        logits, labels = (
            model(batch["input_ids"], batch["attention_mask"]).logits.flatten(0, 1),
            batch["labels"].flatten(),
        )
        loss = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")
        return {"mlm": Sums(loss, (logits.argmax(-1) == labels).sum())}


class Batches:
    """Batch number i, the same every time; the number of labels differs from batch to batch."""

    def __init__(self, before: Callable[[int], object] = lambda number: None) -> None:
        self.before = before

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        self.before(number)
        generator = torch.Generator().manual_seed(number)
        ids = torch.randint(5, 50, (3, 8), generator=generator)
        chosen = torch.rand(3, 8, generator=generator) < (0.1, 0.6, 0.3)[number % 3]
        return {
            "input_ids": torch.where(chosen, 4, ids),
            "attention_mask": torch.ones_like(ids),
            "labels": torch.where(chosen, ids, IGNORED),
        }


def new_model(**changes: object) -> BertForMaskedLM:
    torch.manual_seed(0)
    return BertForMaskedLM(CONFIG.replace(**changes))


def run(
    settings: TrainingSettings = RUN, model: nn.Module | None = None, **options: object
) -> tuple[nn.Module, History]:
    model = new_model() if model is None else model
    batches = options.pop("batches", Batches())
    return model, train(model, batches, MaskedWords(), settings, progress=False, **options)


def assert_same_weights(first: nn.Module, second: nn.Module, **tolerance: float) -> None:
    """Compare bit for bit, or within a tolerance."""
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        torch.testing.assert_close(
            a.cpu(), b.cpu(), **(tolerance or {"atol": 0, "rtol": 0}), msg=lambda m, n=name: f"{n}: {m}"
        )


def without_time(history: History) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history.records]


def assert_same_run(found: tuple[nn.Module, History], expected: tuple[nn.Module, History]) -> None:
    assert_same_weights(found[0], expected[0])
    assert without_time(found[1]) == without_time(expected[1])
    assert found[1].finished and found[1].step == expected[1].step


FILLERS = "the alpha beta gamma delta who".split()
WORDS = [*FILLERS, *"good bad red blue green".split()]


def save_tiny(folder: Path, positions: int = 48, words: str = " ".join(WORDS)) -> Path:
    """Save a very small BERT with random weights and a tokenizer that knows the words; return its folder."""
    tokenizer = Tokenizer.train([words] * 9, vocab_size=150, max_length=positions)
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": positions}
    with generators_kept():
        seed_everything(7)
        BertModel(BertConfig.preset("tiny", vocab_size=tokenizer.vocab_size, **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def keyword_texts(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Make texts whose label is the word "good" or "bad" somewhere in them."""
    generator = random.Random(seed)
    words = [[*generator.choices(FILLERS, k=generator.randint(1, 8)), ("good", "bad")[i % 2]] for i in range(count)]
    for text in words:
        generator.shuffle(text)
    return [" ".join(text) for text in words], [("positive", "negative")[i % 2] for i in range(count)]


SUBJECTS, VERBS = "cat dog bird fox owl".split(), "sees hears finds likes leaves".split()


def animal_documents(count: int, sentences: int | tuple[int, int] = 6) -> list[list[str]]:
    """Return documents of sentences, as many or between two numbers, in a language of ten words."""
    pick = random.Random(0)
    sizes = (sentences if isinstance(sentences, int) else pick.randint(*sentences) for _ in range(count))
    return [
        [f"The {pick.choice(SUBJECTS)} {pick.choice(VERBS)} the {pick.choice(SUBJECTS)}." for _ in range(size)]
        for size in sizes
    ]


def write_documents(path: Path, documents: Sequence[Sequence[str]], between: str = "\n\n") -> Path:
    """Write documents, a sentence per line, and return the path."""
    path.write_text(between.join("\n".join(document) for document in documents), encoding="utf-8")
    return path


class NumberTokenizer:
    """Reads "7 8 9" as the ids 7, 8, 9, and any other word as the id 1, and counts the texts that it was given.

    After `fail_after` texts it is interrupted.
    """

    def __init__(self, vocabulary: int | Sequence[str] = 1000, fail_after: float = math.inf) -> None:
        self.vocabulary = [f"t{i}" for i in range(vocabulary)] if isinstance(vocabulary, int) else vocabulary
        self.fail_after, self.texts = fail_after, 0

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        self.texts += len(texts)
        if self.texts > self.fail_after:
            raise KeyboardInterrupt
        return [[int(word) for word in text.split()] if text[0].isdigit() else [1] for text in texts]


def same_batch(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return whether two batches, of NumPy or PyTorch, are equal."""
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)
