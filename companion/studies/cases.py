"""What is compared: a network, batches of random tokens for it, and the work that a step on them is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from companion.config import PRESETS, BertConfig
from companion.model.heads import IGNORED
from companion.pretraining.masking import mask_tokens
from companion.studies.costs import training_flops
from companion.studies.interleave import WARM_UP, check_clock
from companion.support.devices import precision_for
from companion.support.require import require
from companion.training.objective import Batch

PAD_ID, CLS_ID, SEP_ID, MASK_ID, FIRST_ORDINARY = 0, 2, 3, 4, 5  # ids as in this package's vocabularies; 1 is [UNK]
SHORT_ROWS = 0.1  # share of rows that are not full, as in the published code's data


@dataclass(frozen=True)
class Contender:
    """One of the loops that are compared: a library (`"companion"` or `"Trainer"`) in a precision."""

    library: str
    precision: str

    @property
    def name(self) -> str:
        """Both in one word pair, such as `"Trainer fp32"`."""
        return f"{self.library} {self.precision}"


@dataclass(frozen=True)
class PretrainingCase:
    """What is pre-trained in a comparison, and how it is timed.

    Parameters
    ----------
    model : str
        A preset of `BertConfig`.
    vocab_size, batch_size, max_tokens : int
        Size of the vocabulary, rows of a batch, tokens of a row.
    steps : int
        Steps of each loop that are timed, after a few that are not.
    dropout, learning_rate : float
    precisions : tuple of str
        This package's, as in `companion.support.devices.precision_for`.
    trainer_bf16 : bool
        Compare with Trainer under `bf16=True` too, beside its default, fp32.
    device : str, optional
        As in `companion.support.devices.best_device`.
    threads : int, optional
        Of PyTorch on the CPU; None takes its default.
    clock : {"wall", "cpu"}
        `"cpu"` counts the processor time of the process: with one thread, that is a step's time on a machine with
        nothing else to do, whatever else it is doing.
    seed : int
        Of weights and data.

    Raises
    ------
    ValueError
        If a value is out of range; the message names it.
    """

    model: str = "mini"
    vocab_size: int = 8192
    batch_size: int = 32
    max_tokens: int = 128
    steps: int = 20
    dropout: float = 0.1
    learning_rate: float = 5e-5
    precisions: tuple[str, ...] = ("auto", "fp32")
    trainer_bf16: bool = True
    device: str | None = None
    threads: int | None = None
    clock: str = "wall"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "precisions", tuple(self.precisions))
        self._require("model", self.model in PRESETS, f"one of {', '.join(PRESETS)}")
        self._require("vocab_size", self.vocab_size > FIRST_ORDINARY, f"above the {FIRST_ORDINARY} special tokens")
        self._require("batch_size", self.batch_size > 0, "an integer above 0")
        self._require("max_tokens", 8 <= self.max_tokens <= 512, "an integer from 8 to BERT's 512 positions")
        self._require("steps", self.steps > 0, "an integer above 0")
        self._require("dropout", 0 <= self.dropout < 1, "a probability in [0, 1)")
        self._require("learning_rate", self.learning_rate > 0, "a number above 0")
        self._require("precisions", bool(self.precisions), "one precision or more")
        self._require("threads", self.threads is None or self.threads > 0, "None or an integer above 0")
        check_clock(self.clock, self.threads, self.device)

    def _require(self, name: str, condition: bool, allowed: str) -> None:
        require(name, getattr(self, name), condition, allowed)

    @property
    def config(self) -> BertConfig:
        """The model's configuration; with the same one, both libraries build the same network."""
        dropout = {"hidden_dropout_prob": self.dropout, "attention_probs_dropout_prob": self.dropout}
        return BertConfig.preset(self.model, vocab_size=self.vocab_size, pad_token_id=PAD_ID, **dropout)

    @property
    def contenders(self) -> list[Contender]:
        """The loops to compare, this package's first; `"auto"` and the precision it stands for count once."""
        ours = dict.fromkeys(precision_for(self.device, name) for name in self.precisions)
        theirs = ["fp32", "bf16"] if self.trainer_bf16 else ["fp32"]
        return [Contender("companion", name) for name in ours] + [Contender("Trainer", name) for name in theirs]


def random_batches(case: PretrainingCase) -> list[Batch]:
    """Return the batches of a case, one more than its steps: pairs of random tokens, masked as in pre-training.

    Random tokens, since no speed depends on what they mean and no machine has to have a certain text; rows are as long
    as in real pre-training data, nine in ten full and the others of any length, padded.

    Returns
    -------
    list of dict
        `input_ids`, `token_type_ids`, `attention_mask` (left out where nothing is padded) and `labels`, int64 tensors
        of (batch, tokens), and `next_sentence_label`, (batch,).
    """
    rng = np.random.default_rng(case.seed)
    return [_random_batch(case, rng) for _ in range(WARM_UP + case.steps + 2)]


def _random_batch(case: PretrainingCase, rng: np.random.Generator) -> Batch:
    rows, tokens = case.batch_size, case.max_tokens
    short = rng.random(rows) < SHORT_ROWS
    lengths = np.where(short, rng.integers(5, tokens, rows), tokens)[:, None]  # of [CLS] a [SEP] b [SEP] at least
    middle = rng.integers(2, lengths - 2)  # the first [SEP]
    places = np.arange(tokens)[None, :]
    ids = rng.integers(FIRST_ORDINARY, case.vocab_size, (rows, tokens))
    ids[:, 0] = CLS_ID
    ids[(places == middle) | (places == lengths - 1)] = SEP_ID
    ids[places >= lengths] = PAD_ID
    special = range(FIRST_ORDINARY)
    input_ids, labels = mask_tokens(ids, vocab_size=case.vocab_size, mask_id=MASK_ID, special_ids=special, rng=rng)
    batch = {
        "input_ids": input_ids,
        "token_type_ids": ((places > middle) & (places < lengths)).astype(np.int64),
        "labels": labels,
        "next_sentence_label": rng.integers(0, 2, rows),
    }
    if short.any():
        batch["attention_mask"] = (places < lengths).astype(np.int64)
    return {name: torch.from_numpy(values) for name, values in batch.items()}


def tokens_per_row(batch: Batch) -> torch.Tensor:
    """Return the number of tokens in each row, padding not counted, (batch,)."""
    mask = batch.get("attention_mask")
    return torch.full((len(batch["input_ids"]),), batch["input_ids"].shape[1]) if mask is None else mask.sum(1)


def model_flops(config: BertConfig, batch: Batch) -> int:
    """Return the floating-point operations that a training step on `batch` needs, whoever takes it.

    Padding is not needed and not counted, nor is what no loss reads; see
    `companion.studies.costs.forward_flops`.
    """
    masked = int((batch["labels"] != IGNORED).sum())
    return training_flops(config, tokens_per_row(batch).tolist(), masked, every_token=False)
