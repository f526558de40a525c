"""The settings of a pre-training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from companion.config import PRESETS, BertConfig
from companion.data.plain import Source
from companion.training.settings import TrainingSettings


@dataclass(frozen=True)
class Phase:
    """The first steps of a run, on rows of another shape than the rest of it.

    BERT itself was pre-trained on rows of 128 tokens for nine tenths of its steps (Devlin et al. 2019, appendix A.2).

    Parameters
    ----------
    steps : int
    batch_size, max_tokens : int
        Rows of a batch, and tokens of a row.
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
        for name in ("steps", "batch_size", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is not allowed; it must be an integer above 0")
        if not 0 < self.masking_probability < 1:
            raise ValueError(f"masking_probability={self.masking_probability} is not allowed; it must be in (0, 1)")


@dataclass(frozen=True)
class PretrainingConfig:
    """What to pre-train, on what and how.

    Parameters
    ----------
    source : str, Path or sequence of them
        The text, as in `companion.data.plain.read_paragraphs`: files, folders, patterns, `"python-docs"`, ...
    folder : str or Path
        Everything the run writes: `tokenizer/`, `corpus-*/`, `checkpoint/`, `log.jsonl`, and at the end `model/` (opens
        with `from_pretrained`) and `record.json`.
    training : TrainingSettings
        Steps, learning rate, schedule, precision, seed ...
    model : str or BertConfig
        A preset (`"mini"`), whose `vocab_size` is then the tokenizer's, or a whole configuration.
    initial : str or Path, optional
        A checkpoint to go on from, with its shape and, unless another is named, its tokenizer: to pre-train further, or
        on text of another field.
    tokenizer : str or Path, optional
        A bundled name, folder or hub id. None learns a vocabulary of `vocab_size` from the source.
    vocab_size, limit_alphabet : int
        Size of a learned vocabulary, and how many different characters it keeps (rarer ones become `[UNK]`).
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
        Rows of a batch, and tokens of a row.
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
    tokenizer: str | Path | None = None
    vocab_size: int = 8192
    limit_alphabet: int = 200
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
        if isinstance(self.model, str) and self.model not in PRESETS:
            raise ValueError(
                f"model={self.model!r} is unknown; choose one of {', '.join(PRESETS)}, or pass a BertConfig"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} is not allowed; it must be a probability in [0, 1)")
        if self.validation_batches < 1:
            raise ValueError(f"validation_batches={self.validation_batches} is not allowed; it must be above 0")
        self.phases  # noqa: B018  checked here, where they are given
        if self.stream is not None:
            self._check_stream()

    @property
    def phases(self) -> list[Phase]:
        """The earlier phases and the main one, which takes the steps that are left."""
        left = self.training.steps - sum(phase.steps for phase in self.earlier)
        if left < 1:
            raise ValueError(
                f"earlier={list(self.earlier)} takes all of steps={self.training.steps}; at least one must be left"
            )
        main = Phase(left, self.batch_size, self.max_tokens, self.masking_probability, self.next_sentence)
        return [*self.earlier, main]

    def _check_stream(self) -> None:
        if not self.stream > 0:
            raise ValueError(f"stream={self.stream} is not allowed; it must be a number of megabytes above 0, or None")
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
