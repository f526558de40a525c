"""Text larger than the disk: windows of whole documents, tokenised, trained on and replaced one after the other.

At the source's end the reading begins again, as often as the steps need. What a window was is written down in a small
ledger, so that a run goes on from any batch without tokenising what came before it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch.utils.data import Dataset

from companion.data.plain import DOCUMENT_END, Source, raw_paragraphs
from companion.pretraining.corpus import BatchTokenizer, Corpus, corpus_identity, reusable_corpus, write_corpus
from companion.support.devices import process_count
from companion.support.files import write_json
from companion.training.objective import Batch

LEDGER = "windows.json"
MEGABYTE = 1_000_000


class Place(NamedTuple):
    """A place in a source that is read over and over: full passes, then ends of documents and bytes of this pass."""

    passes: int = 0
    documents: int = 0
    size: int = 0


@dataclass(frozen=True)
class Window:
    """An entry of the ledger: the batches of a window, where it begins and ends in the source, and what it holds."""

    first_batch: int
    batches: int
    start: Place
    end: Place
    documents: int
    sentences: int
    tokens: int


class WindowBatches(Protocol):
    """The batches of one window, as `companion.pretraining.batches.PhaseBatches` has them."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in one pass over the window."""

    def __getitem__(self, number: int) -> Batch:
        """Return batch `number` of the window."""


class WindowReader:
    """Reads a source window by window, from `place` on and without end.

    A window closes with the document with which it passes `megabytes` of UTF-8. Where only one document would be left
    for the next, which could then have no pairs, it takes that one too.

    Parameters
    ----------
    source, limit
        As in `companion.data.plain.read_paragraphs`.
    megabytes : float
    place : Place, optional
        Where the next window begins; moves on while one is read.
    """

    def __init__(self, source: Source, megabytes: float, limit: int | None = None, place: Place | None = None) -> None:
        self.source, self.megabytes, self.limit, self.place = source, megabytes, limit, place or Place()
        self._ahead: deque[tuple[list[str], Place]] = deque()

    def read_window(self) -> Iterator[str]:
        """Yield the paragraphs of the next window, and an empty string after each document."""
        start = self.place
        if not self._ahead:
            self._documents = self._read_documents()
            self._ahead.extend(islice(self._documents, 2))
        while self._ahead:
            paragraphs, self.place = self._ahead.popleft()
            yield from (*paragraphs, DOCUMENT_END)
            self._ahead.extend(islice(self._documents, 1))
            if self.place.size - start.size > self.megabytes * MEGABYTE and len(self._ahead) == 2:
                return
        self.place = Place(start.passes + 1)

    def _read_documents(self) -> Iterator[tuple[list[str], Place]]:
        """Yield the documents of this pass that are not empty, and where each ends."""
        passes, documents, size = self.place
        left = None if self.limit is None else self.limit - size
        document: list[str] = []
        held = 0
        for paragraph in chain(raw_paragraphs(self.source, left, skip=documents), [DOCUMENT_END]):
            if paragraph != DOCUMENT_END:
                document.append(paragraph)
                held += len(paragraph.encode())
                self._check_size(held, documents)
                continue
            documents, size = documents + 1, size + held
            if document:
                yield document, Place(passes, documents, size)
            document, held = [], 0

    def _check_size(self, held: int, documents: int) -> None:
        if held > self.megabytes * MEGABYTE:
            raise ValueError(
                f"stream={self.megabytes} megabytes are too few: document {documents + 1} of the text is longer; pass "
                "a larger stream, or put empty lines between the documents of the text"
            )


class StreamedBatches(Dataset):
    """The batches of window after window: ``batches[number]`` depends on the arguments here and the number alone.

    Window k has the batches of one epoch of `make_batches` on it, with a seed of its own. It is tokenised into
    `folder` when one of its batches is asked for, after the window before has been removed. Several processes each
    read the whole source, into folders of their own below `folder`; the first one keeps the ledger beside it.

    Parameters
    ----------
    source, limit, megabytes
        As in `WindowReader`.
    tokenizer : Tokenizer
    folder : str or Path
        Of the window in use, a `Corpus`.
    make_batches : callable
        Returns the batches of a corpus for a seed.
    seed : int
    settings : dict
        What else decides the batches, for the ledger: values that JSON can hold.
    progress : bool
        Show a progress bar for each window.

    Attributes
    ----------
    identity : dict
        What a run that goes on must share: checksums of names and sizes of the source and of the vocabulary, the limit.
    windows : list of Window
        Those seen so far, in this run or the one that it goes on from.
    """

    def __init__(
        self,
        source: Source,
        tokenizer: BatchTokenizer,
        folder: str | Path,
        make_batches: Callable[[Corpus, int], WindowBatches],
        *,
        megabytes: float,
        limit: int | None = None,
        seed: int = 0,
        settings: dict[str, Any] | None = None,
        progress: bool = True,
    ) -> None:
        rank, self.several = int(os.environ.get("RANK", "0")), process_count() > 1
        self.folder = Path(folder) / f"rank-{rank}" if self.several else Path(folder)
        self.ledger, self.writes_ledger = Path(folder).with_name(LEDGER), rank == 0
        self.source, self.tokenizer, self.make_batches, self.seed = source, tokenizer, make_batches, seed
        self.progress = progress and rank == 0
        self.identity = corpus_identity(source, tokenizer, limit, contents=False) | {"stream": megabytes}
        self.settings = json.loads(json.dumps({**self.identity, **(settings or {}), "seed": seed}))
        self.windows = self._read_ledger()
        self.reader = WindowReader(source, megabytes, limit)
        self.opened: int | None = None
        self.batches: WindowBatches | None = None

    def __getitem__(self, number: int) -> Batch:
        """Return batch `number`, counted from 0 and without end."""
        index = self.find(number)
        batches = self.batches if index == self.opened and self.batches is not None else self._open(index)
        return batches[number - self.windows[index].first_batch]

    def find(self, number: int) -> int:
        """Return which window holds batch `number`; windows not seen before are gone through."""
        if number < 0:
            raise IndexError(f"number={number} is negative; batches count from 0")
        while not self.windows or number >= self.windows[-1].first_batch + self.windows[-1].batches:
            self._open(len(self.windows))
        return bisect_right(self.windows, number, key=lambda window: window.first_batch) - 1

    def text_seen(self, batches: int) -> tuple[dict[str, int], float | None]:
        """Return what the windows of the first `batches` batches hold, and how often these pass over the source.

        Text is counted once, however often it is read. The passes are None if the end of the source is not reached.
        """
        seen = self.windows[: self.find(batches - 1) + 1]
        first = [window for window in seen if window.start.passes == 0]
        counts = {name: sum(getattr(w, name) for w in first) for name in ("documents", "sentences", "tokens")}
        return counts, batches / sum(w.batches for w in first) if first[-1].end.passes else None

    def _open(self, index: int) -> WindowBatches:
        """Open window `index`, return its batches, and enter it in the ledger if it is the first that is not there."""
        start = self.windows[index - 1].end if index else Place()
        identity = self.identity | {"window": index}
        self.opened = self.batches = None  # closes the files
        self._remove_leftovers()
        corpus = reusable_corpus(self.folder, identity)
        if corpus is None or index == len(self.windows):
            del corpus
            corpus = self._write(start, identity)
        try:
            self.batches = self.make_batches(corpus, window_seed(self.seed, index))
        except ValueError as error:
            if corpus.num_documents > 1:
                raise
            message = f"window {index} of stream={self.reader.megabytes}: {error}, or a larger stream"
            raise ValueError(message) from error
        self.opened = index
        if index == len(self.windows):
            self._enter(corpus, start, self.batches)
        return self.batches

    def _write(self, start: Place, identity: dict[str, Any]) -> Corpus:
        """Tokenise the window that begins at `start` in the place of the one on disk."""
        shutil.rmtree(self.folder, ignore_errors=True)  # first, so that two never lie there
        if self.reader.place != start:
            self.reader = WindowReader(self.source, self.reader.megabytes, self.reader.limit, start)
        meta = {**identity, "source": str(self.source)}
        return write_corpus(self.reader.read_window(), self.tokenizer, self.folder, meta, self.progress)

    def _remove_leftovers(self) -> None:
        """Remove what a killed process was writing, and windows of several processes where there is now one."""
        leftovers = list(self.folder.parent.glob(f".{self.folder.name}.*.partial"))
        if not self.several:
            leftovers += self.folder.glob("rank-*")
        for folder in leftovers:
            shutil.rmtree(folder, ignore_errors=True)

    def _enter(self, corpus: Corpus, start: Place, batches: WindowBatches) -> None:
        first = self.windows[-1].first_batch + self.windows[-1].batches if self.windows else 0
        counts = corpus.num_documents, corpus.num_sentences, corpus.num_tokens
        self.windows.append(Window(first, batches.steps_per_epoch, start, self.reader.place, *counts))
        if self.writes_ledger:
            rows = [dataclasses.asdict(window) for window in self.windows]
            write_json(self.ledger, {"settings": self.settings, "windows": rows})

    def _read_ledger(self) -> list[Window]:
        """Return the windows that the ledger holds; none if there is no ledger, or that of other batches."""
        try:
            ledger = json.loads(self.ledger.read_text(encoding="utf-8"))
            if ledger["settings"] != self.settings:
                return []
            places = [{name: Place(*row[name]) for name in ("start", "end")} for row in ledger["windows"]]
            return [Window(**row | place) for row, place in zip(ledger["windows"], places, strict=True)]
        except (OSError, ValueError, KeyError, TypeError):
            return []  # lost or damaged: the windows are gone through again


def window_seed(seed: int, index: int) -> int:
    """Return the seed of window `index` of a run with `seed`."""
    return int(np.random.SeedSequence([seed, index], spawn_key=(2,)).generate_state(1)[0])
