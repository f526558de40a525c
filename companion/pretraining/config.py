"""The settings of a pre-training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from companion.config import PRESETS, BertConfig
from companion.data.plain import Source
from companion.support.require import boolean, integer, number, require
from companion.training.settings import TrainingSettings

RENAMED = {"averaging": "ema_decay"}  # names in the records of earlier versions


@dataclass(frozen=True)
class Phase:
    """The first steps of a run, on rows of another shape than the rest of it.

    BERT itself was pre-trained on rows of 128 tokens for nine tenths of its steps (Devlin et al. 2019, appendix A.2).

    Parameters
    ----------
    steps : int
    batch_size, max_tokens : int
        Rows per batch, and tokens per row.
    masking_probability : float
    next_sentence : bool
        Whether the rows are pairs of segments, with next-sentence prediction.

    Raises
    ------
    ValueError
        If a value is out of range; the message names it.
    """

    steps: int
    batch_size: int = 32
    max_tokens: int = 128
    masking_probability: float = 0.15
    next_sentence: bool = True

    def __post_init__(self) -> None:
        _check_rows(self)
        object.__setattr__(self, "steps", integer("steps", self.steps, 1))


@dataclass(frozen=True)
class PretrainingConfig:
    """What to pre-train, on what and how.

    Parameters
    ----------
    source : str, Path or sequence of them
        The text, as in `companion.data.plain.read_paragraphs`: files, folders, patterns, `"python-docs"`, ...
    folder : str or Path
        Everything the run writes: `tokenizer/`, `corpus-*/`, `checkpoint/`, `log.jsonl`, and at the end `model/` (opens
        with `from_pretrained`) with its card, and `record.json`.
    training : TrainingSettings
        Steps, learning rate, schedule, precision, seed ...
    model : str or BertConfig
        A preset (`"mini"`), whose `vocab_size` is then the tokenizer's, or a whole configuration.
    initial : str or Path, optional
        A checkpoint to go on from, with its shape and, unless another is named, its tokenizer: to pre-train further, or
        on text of another field.
    trained_positions : int, optional
        How many positions of `initial` were trained. Those after them start as `continued_positions` of
        `companion.model.embeddings` has them, so that longer rows do not begin with random vectors.
    tokenizer : str or Path, optional
        A bundled name, folder or hub id. None learns a vocabulary of `vocab_size` from the source.
    vocab_size, limit_alphabet : int
        Size of a learned vocabulary, and how many different characters it keeps (rarer ones become `[UNK]`).
    lowercase, strip_accents, tokenize_chinese_chars : bool
        How a learned vocabulary treats the text, as in `companion.text.tokenizer.Tokenizer`; `strip_accents` may be
        None.
    validation : Source, optional
        Held-out text.
    validation_batches : int
        How much of it to measure on.
    limit : int, optional
        Read at most this many bytes of text.
    stream : float, optional
        Megabytes of text to hold at a time, for text larger than the disk: see
        `companion.pretraining.streaming.StreamedBatches`. A vocabulary is then learned from the first of these windows.
        None prepares the whole text once.
    batch_size, max_tokens : int
        Rows per batch, and tokens per row.
    next_sentence : bool
        Train next-sentence prediction, on pairs; otherwise masked language modelling alone, on single segments.
    masking_probability : float
    earlier : sequence of Phase
        What the first steps run on instead: a schedule of row length, batch size and masking rate. Short rows
        first can shorten the start, since attention has fewer places to choose from while it learns where to look.
    whole_words : bool
        Mask all pieces of a word together.
    dropout : float
        In pre-training; the saved configuration keeps that of the preset. 0 is best where text is seen few times
        (Geiping and Goldstein 2023, section 4.2).

    Raises
    ------
    ValueError
        If a value is out of range; the message names it.
    """

    source: Source
    folder: str | Path
    training: TrainingSettings
    model: str | BertConfig = "mini"
    initial: str | Path | None = None
    trained_positions: int | None = None
    tokenizer: str | Path | None = None
    vocab_size: int = 8192
    limit_alphabet: int = 1000
    lowercase: bool = True
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True
    validation: Source | None = None
    validation_batches: int = 50
    limit: int | None = None
    stream: float | None = None
    batch_size: int = 32
    max_tokens: int = 128
    next_sentence: bool = True
    masking_probability: float = 0.15
    whole_words: bool = False
    dropout: float = 0.1
    earlier: Sequence[Phase] = ()

    def __post_init__(self) -> None:
        allowed = f"one of {', '.join(PRESETS)}, or a BertConfig"
        require("model", self.model, isinstance(self.model, BertConfig) or self.model in PRESETS, allowed)
        _check_rows(self)
        for name in ("vocab_size", "limit_alphabet", "validation_batches"):
            object.__setattr__(self, name, integer(name, getattr(self, name), 1))
        for name in ("whole_words", "lowercase", "tokenize_chinese_chars"):
            boolean(name, getattr(self, name))
        if self.strip_accents is not None:
            boolean("strip_accents", self.strip_accents)
        if self.limit is not None:
            integer("limit", self.limit, 1)
        if self.trained_positions is not None:
            integer("trained_positions", self.trained_positions, 1)
            allowed = "None without initial, the checkpoint whose positions they are"
            require("trained_positions", self.trained_positions, self.initial is not None, allowed)
        number("dropout", self.dropout, "a probability in [0, 1)", minimum=0, below=1)
        self._check_steps()
        if self.stream is not None:
            self._check_stream()

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> PretrainingConfig:
        """Return the settings that a TOML file or the record of a run holds; `training` and `earlier` are tables.

        Raises
        ------
        ValueError
            If an entry is unknown or missing, or a value is out of range; the message names it.
        """
        values = dict(entries)
        for name, make in (("training", TrainingSettings), ("model", BertConfig)):
            if isinstance(values.get(name), Mapping):
                values[name] = _made(make, values[name], f"{name}.")
        values["earlier"] = tuple(_made(Phase, phase, "earlier.") for phase in values.get("earlier", ()))
        return _made(cls, values, "")

    @property
    def phases(self) -> list[Phase]:
        """The earlier phases and the main one, which takes the steps that are left."""
        left = self.training.steps - sum(phase.steps for phase in self.earlier)
        main = Phase(left, self.batch_size, self.max_tokens, self.masking_probability, self.next_sentence)
        return [*self.earlier, main]

    def _check_steps(self) -> None:
        taken = sum(phase.steps for phase in self.earlier)
        if taken >= self.training.steps:
            raise ValueError(
                f"earlier={list(self.earlier)} takes all of steps={self.training.steps}; at least one must be left"
            )

    def _check_stream(self) -> None:
        number("stream", self.stream, "a number of megabytes above 0, or None", above=0)
        if self.earlier:
            raise ValueError(
                f"stream={self.stream} has one shape of rows; leave out earlier, or make it a run of its own whose "
                "model the next takes as initial"
            )
        if self.training.workers:
            raise ValueError(
                f"workers={self.training.workers} would each read the whole text with stream={self.stream}; set "
                "workers=0"
            )


def _check_rows(rows: Phase | PretrainingConfig) -> None:
    """Check what decides the rows of a phase."""
    for name in ("batch_size", "max_tokens"):
        object.__setattr__(rows, name, integer(name, getattr(rows, name), 1))
    number("masking_probability", rows.masking_probability, "a share in (0, 1)", above=0, below=1)
    boolean("next_sentence", rows.next_sentence)


def _made(cls: Any, entries: Mapping[str, Any], where: str) -> Any:
    """Return a dataclass of entries, after naming those that it does not have and those that it lacks."""
    entries = {RENAMED.get(name, name): value for name, value in entries.items()}
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if unknown := [name for name in entries if name not in fields]:
        raise ValueError(f"{where}{unknown[0]} is unknown; the entries are {', '.join(fields)}")
    needed = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    if missing := [name for name in needed if name not in entries]:
        raise ValueError(f"{where}{missing[0]} is missing; it has no default")
    return cls(**entries)
