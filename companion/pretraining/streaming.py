"""Text that is larger than the disk: prepared, trained on and forgotten window by window.

A window holds whole documents, the next ones of the source; at the source's end they go on with its first. What a
window holds depends on nothing but the source, the tokenizer and the size of windows, and where it begins is kept in a
ledger. So batch number n stays the same batch, whoever asks for it and when, and a run resumes as exactly as on a
prepared corpus.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from torch.utils.data import Dataset

from companion.devices import process_count
from companion.files import write_json
from companion.pretraining.corpus import (
    DOCUMENT_END,
    BatchTokenizer,
    Corpus,
    CorpusError,
    Source,
    read_paragraphs,
    source_checksum,
    source_files,
    vocabulary_checksum,
    write_corpus,
)
from companion.training import Batch

logger = logging.getLogger(__name__)

LEDGER, WINDOW = "windows.json", "window"
MEGABYTE = 1_000_000


class Batches(Protocol):
    """What is made of a window."""

    steps_per_epoch: int

    def __getitem__(self, number: int) -> Batch:
        """Return batch `number` of the window."""


@dataclass(frozen=True)
class Window:
    """One line of the ledger: the first batch of a window, how many it has, and its first and last paragraph.

    `start` and `end` count the paragraphs of the source before the window and up to its end; `rounds` how often the
    source's end was passed up to the window's end.
    """

    first_batch: int
    batches: int
    start: int
    end: int
    rounds: int
    documents: int
    sentences: int
    tokens: int


class StreamedBatches(Dataset):
    """Batches of a source that is held window by window; only the window in use is on the disk.

    Parameters
    ----------
    source, limit
        As in `companion.pretraining.corpus.read_paragraphs`.
    tokenizer : Tokenizer
    folder : str or Path
        For the window and the ledger. Every process of several has a folder of its own in it.
    megabytes : float
        A window is closed with the document with which it passes this many million bytes (UTF-8), or, if it began with
        the source, with the source.
    make_batches : callable
        Makes the batches of a window from its `Corpus` and its number, always the same of the same.
    """

    def __init__(
        self,
        source: Source,
        tokenizer: BatchTokenizer,
        folder: str | Path,
        megabytes: float,
        make_batches: Callable[[Corpus, int], Batches],
        limit: int | None = None,
    ) -> None:
        self.source, self.tokenizer, self.megabytes, self.limit = source, tokenizer, megabytes, limit
        self.folder = Path(folder) / f"rank-{os.environ.get('RANK', '0')}" if process_count() > 1 else Path(folder)
        self.make_batches = make_batches
        self.identity = {
            "source_checksum": stream_checksum(source),
            "vocabulary_checksum": vocabulary_checksum(tokenizer),
            "limit": limit,
            "stream": megabytes,
        }
        self.windows: list[Window] = self._read_ledger()
        self._opened: int | None = None
        self._reader: tuple[int, Iterator[tuple[str, int, int]]] | None = (
            None  # stands before the window of this number
        )

    def __getitem__(self, number: int) -> Batch:
        """Return batch `number`, counted from 0 and without end."""
        while not self.windows or number >= self.windows[-1].first_batch + self.windows[-1].batches:
            self._open(len(self.windows))
        index = bisect_right([window.first_batch for window in self.windows], number) - 1
        self._open(index)
        return self._batches[number - self.windows[index].first_batch]

    def seen(self, batches: int) -> Sequence[Window]:
        """Return the windows of the first `batches` batches."""
        return [window for window in self.windows if window.first_batch < batches]

    def _open(self, index: int) -> None:
        """Have window `index` on the disk and its batches at hand; enter it in the ledger if it is new."""
        if index == self._opened:
            return
        corpus, end, rounds = self._prepare(index)
        try:
            batches = self.make_batches(corpus, index)
        except ValueError as error:
            raise ValueError(f"a window of stream={self.megabytes} megabytes is too small: {error}") from error
        if index == len(self.windows):
            last = self.windows[-1] if self.windows else None
            first = 0 if last is None else last.first_batch + last.batches
            start = 0 if last is None else last.end
            counts = (corpus.num_documents, corpus.num_sentences, corpus.num_tokens)
            self.windows.append(Window(first, batches.steps_per_epoch, start, end, rounds, *counts))
            rows = [asdict(window) for window in self.windows]
            write_json(self.folder / LEDGER, {"identity": self.identity, "windows": rows})
        self._opened, self._batches = index, batches

    def _prepare(self, index: int) -> tuple[Corpus, int, int]:
        """Return the corpus of a window, from the disk if it is there, where it ends and after how many rounds."""
        known = self.windows[index] if index < len(self.windows) else None
        target = self.folder / WINDOW
        identity = {**self.identity, "window": index}
        if known is not None and (corpus := _stored(target, identity)) is not None:
            return corpus, known.end, known.rounds
        previous = self.windows[index - 1] if index else None
        start, rounds = (previous.end, previous.rounds) if previous else (0, 0)
        reader = self._reader[1] if self._reader is not None and self._reader[0] == index else None
        self._reader = None  # until the window is whole
        reader = reader or endless_paragraphs(self.source, start, rounds, self.limit)
        end = Cursor(start, rounds)
        paragraphs = take_window(reader, self.megabytes * MEGABYTE, end)
        corpus = write_corpus(paragraphs, self.tokenizer, target, identity, progress=False)
        logger.info("window %d: %d documents, %d tokens", index, corpus.num_documents, corpus.num_tokens)
        self._reader = (index + 1, reader)
        return corpus, end.place, end.rounds

    def _read_ledger(self) -> list[Window]:
        """Return the windows that the ledger knows; a lost one, or one of other text, is made anew."""
        try:
            content = json.loads((self.folder / LEDGER).read_text(encoding="utf-8"))
            windows = [Window(**row) for row in content["windows"]]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        return windows if content["identity"] == self.identity else []


@dataclass
class Cursor:
    """Where a window ends: paragraphs of the source before that place, and how often its end was passed."""

    place: int
    rounds: int


def endless_paragraphs(
    source: Source, skip: int = 0, rounds: int = 0, limit: int | None = None
) -> Iterator[tuple[str, int, int]]:
    """Yield the paragraphs of a source from the one after the first `skip` on, again and again.

    Yields
    ------
    str
        The paragraph, empty after each document.
    int
        How many paragraphs of the source there are up to here; 0 at the source's end.
    int
        How often the source's end was reached, this place included; `rounds` at first.

    Raises
    ------
    ValueError
        If the source holds no text.
    """
    while True:
        reader = islice(read_paragraphs(source, limit), skip, None)
        paragraph = next(reader, None)
        if paragraph is None and not skip:
            raise ValueError(f"source={source!r} holds no text with limit={limit}")
        while paragraph is not None:
            following = next(reader, None)
            skip += 1
            yield (paragraph, skip, rounds) if following is not None else (paragraph, 0, rounds + 1)
            paragraph = following
        skip, rounds = 0, rounds + 1


def take_window(reader: Iterator[tuple[str, int, int]], size: float, cursor: Cursor) -> Iterator[str]:
    """Yield paragraphs up to the document that passes `size` bytes; move `cursor` to where the last one ends."""
    start, first_round, taken = cursor.place, cursor.rounds, 0
    for paragraph, cursor.place, cursor.rounds in reader:
        yield paragraph
        taken += len(paragraph.encode())
        whole = cursor.rounds > first_round and cursor.place >= start  # all of it, which is less than a window
        if paragraph == DOCUMENT_END and (taken >= size or whole):
            return


def stream_checksum(source: Source) -> str:
    """Return a SHA-256 of the names and sizes of the files of a source, which may be too long to be read for it.

    Other sources: as in `companion.pretraining.corpus.source_checksum`.
    """
    if (files := source_files(source)) is None:
        return source_checksum(source)
    lines = "\n".join(f"{file.stat().st_size}  {file.name}" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _stored(folder: Path, identity: dict) -> Corpus | None:
    """Open the window on the disk if it is the one wanted."""
    try:
        corpus = Corpus.open(folder)
    except CorpusError:
        return None
    return corpus if all(corpus.meta.get(key) == value for key, value in identity.items()) else None
