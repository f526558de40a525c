"""From text to token ids on disk: sources, sentences, and a memory-mapped corpus that is prepared once.

A prepared corpus is a folder: ``tokens.bin`` (the ids of all sentences, one after another), ``sentences.bin`` and
``documents.bin`` (where each begins) and ``meta.json``. Reading, splitting and tokenising stream, so the memory needed
does not grow with the text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from companion.data.plain import DOCUMENT_END, CorpusError, Source, read_paragraphs, source_checksum
from companion.support.files import atomic_folder, recover_folder
from companion.text.sentences import split_sentences

FORMAT, VERSION = "companion.corpus", 1


class BatchTokenizer(Protocol):
    """What preparation needs of a tokenizer."""

    @property
    def vocabulary(self) -> Sequence[str]:
        """The tokens in the order of their ids."""

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each text, without special tokens."""


class Corpus:
    """Token ids of documents and sentences, memory-mapped from a folder that `prepare_corpus` wrote.

    Attributes
    ----------
    tokens : (num_tokens,) read-only memory map, uint16 or int32
        The ids of all sentences, without special tokens.
    sentence_starts : (num_sentences + 1,) int64
        Position in `tokens` where each sentence begins; the last entry is `num_tokens`.
    document_starts : (num_documents + 1,) int64
        Number of the sentence with which each document begins; the last entry is `num_sentences`.
    num_tokens, num_sentences, num_documents : int
    meta : dict
        ``meta.json``: the counts, the checksums of source and vocabulary, the limit.
    folder : Path
    """

    def __init__(self, folder: Path, meta: dict):
        self.folder, self.meta = folder, meta
        self.num_tokens: int = meta["num_tokens"]
        self.num_sentences: int = meta["num_sentences"]
        self.num_documents: int = meta["num_documents"]
        self.tokens = _map_file(folder / "tokens.bin", meta["dtype"], self.num_tokens)
        self.sentence_starts = _map_file(folder / "sentences.bin", "<i8", self.num_sentences + 1)
        self.document_starts = _map_file(folder / "documents.bin", "<i8", self.num_documents + 1)

    @classmethod
    def open(cls, folder: str | Path) -> Corpus:
        """Open a prepared corpus.

        Raises
        ------
        CorpusError
            If the folder has no ``meta.json`` of this format and version, or a file has not the size it tells.
        """
        folder = Path(folder)
        meta = _read_meta(folder)
        if meta.get("version") != VERSION:
            raise CorpusError(
                f"{folder} has version {meta.get('version')} of the format, this package reads {VERSION}; "
                "prepare_corpus writes it again"
            )
        return cls(folder, meta)

    def __reduce__(self):
        return Corpus.open, (self.folder,)  # a worker process maps the files again instead of receiving a copy

    def __repr__(self) -> str:
        return (
            f"Corpus({str(self.folder)!r}: {self.num_documents:,} documents, {self.num_sentences:,} sentences, "
            f"{self.num_tokens:,} tokens)"
        )


def prepare_corpus(
    source: Source,
    tokenizer: BatchTokenizer,
    folder: str | Path,
    *,
    limit: int | None = None,
    copy: str | Path | None = None,
    progress: bool = True,
) -> Corpus:
    """Tokenise a source into `folder`, or open it when it already holds this source in this vocabulary.

    The source is hashed at every call (text files by their contents, at the speed of the disk; see `source_checksum`),
    so that changed text is noticed and prepared again. The folder appears under its name only when it is complete.

    Parameters
    ----------
    source : str, Path or sequence of them
        Text files, folders of them, or patterns such as ``"data/train-*.txt.xz"``; ``"python-docs"``; or a set of
        the `datasets` library (see `read_paragraphs`).
    tokenizer : Tokenizer
        Its ``encode_batch`` gives ids without special tokens; it uses all cores.
    folder : str or Path
        Written, or replaced if it holds a corpus of another source or vocabulary.
    limit : int, optional
        Stop before the paragraph with which the text would pass this many bytes (UTF-8).
    copy : str or Path, optional
        A text file with the same paragraphs, to be read in place of a source that is slow to read.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Corpus

    Raises
    ------
    FileNotFoundError, ValueError
        If the source names nothing that can be read, or holds no text.
    CorpusError
        If `folder` exists and is something else than a corpus; it is left alone.
    """
    identity = corpus_identity(source, tokenizer, limit)
    if (corpus := reusable_corpus(folder, identity)) is not None:
        return corpus
    meta = {**identity, "source": str(source)}
    paragraphs = read_paragraphs(source, limit) if copy is None else read_paragraphs(copy)
    return write_corpus(paragraphs, tokenizer, folder, meta, progress)


def corpus_identity(
    source: Source, tokenizer: BatchTokenizer, limit: int | None = None, *, contents: bool = True
) -> dict[str, str | int | None]:
    """Return the entries of ``meta.json`` that two corpora of one text share; `contents` as in `source_checksum`."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "source_checksum": source_checksum(source, contents=contents),
        "vocabulary_checksum": vocabulary_checksum(tokenizer),
        "limit": limit,
    }


def reusable_corpus(folder: str | Path, identity: dict) -> Corpus | None:
    """Open `folder` if it is the corpus of this identity; None if it is that of another, or nothing yet.

    Raises
    ------
    CorpusError
        If `folder` exists and is something else than a corpus.
    """
    folder = Path(folder)
    recover_folder(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    meta = _read_meta(folder)
    if any(meta.get(key) != value for key, value in identity.items()):
        return None
    return Corpus(folder, meta)


def write_corpus(
    paragraphs: Iterator[str], tokenizer: BatchTokenizer, folder: str | Path, meta: dict, progress: bool = True
) -> Corpus:
    """Tokenise `paragraphs` into `folder`, with `meta` (an identity and the `source`) and the counts as ``meta.json``.

    Raises
    ------
    ValueError
        If there is no text; nothing is written.
    """
    with atomic_folder(folder) as temporary:
        counts = _write_tokens(paragraphs, tokenizer, temporary, progress)
        if not counts["num_tokens"]:
            raise ValueError(
                f"source={meta['source']!r} holds no text with limit={meta['limit']}; nothing was written. Name files "
                "that are not empty"
            )
        (temporary / "meta.json").write_text(json.dumps({**meta, **counts}, indent=1), encoding="utf-8")
    return Corpus.open(folder)


def vocabulary_checksum(tokenizer: BatchTokenizer) -> str:
    """Return a SHA-256 of what decides the ids: the vocabulary, and how case, accents and Chinese are treated."""
    treatment = {name: getattr(tokenizer, name, None) for name in ("lowercase", "tokenize_chinese_chars")}
    accents = getattr(tokenizer, "strip_accents", None)
    treatment["strip_accents"] = treatment["lowercase"] if accents is None else accents
    return hashlib.sha256(json.dumps([list(tokenizer.vocabulary), treatment]).encode()).hexdigest()


def _write_tokens(paragraphs: Iterator[str], tokenizer: BatchTokenizer, folder: Path, progress: bool) -> dict:
    """Stream paragraphs through the tokenizer into the three files; return the counts for meta.json."""
    dtype = "<u2" if len(tokenizer.vocabulary) <= 2**16 else "<i4"
    writer = _Writer(folder, dtype)
    with writer, _progress_bar(progress) as bar:
        for texts in _sentence_batches(paragraphs):
            writer.add(texts, tokenizer.encode_batch([text for text in texts if text != DOCUMENT_END]))
            bar.update(sum(len(text.encode()) for text in texts))
    return writer.counts()


class _Writer:
    """Appends encoded sentences to the files of a corpus; drops sentences and documents without tokens."""

    def __init__(self, folder: Path, dtype: str):
        self.folder, self.dtype = folder, dtype
        self.tokens = self.sentences = self.documents = 0
        self.open_document = False

    def __enter__(self) -> _Writer:
        names = ("tokens.bin", "sentences.bin", "documents.bin")
        self.files = [open(self.folder / name, "wb") for name in names]
        return self

    def __exit__(self, error_type: type | None, *rest: object) -> None:
        if error_type is None:
            self._write(1, [self.tokens])
            self._write(2, [self.sentences])
        for file in self.files:
            file.close()

    def add(self, texts: list[str], encoded: list[list[int]]) -> None:
        """Append the sentences of `texts`; `encoded` has the ids of those that are not DOCUMENT_END."""
        remaining = iter(encoded)
        ids: list[int] = []
        sentences: list[int] = []
        documents: list[int] = []
        for text in texts:
            if text == DOCUMENT_END:
                self.open_document = False
                continue
            sentence = next(remaining)
            if not sentence:
                continue
            if not self.open_document:
                documents.append(self.sentences + len(sentences))
                self.open_document = True
            sentences.append(self.tokens + len(ids))
            ids.extend(sentence)
        self.files[0].write(np.array(ids, dtype=self.dtype).tobytes())
        self._write(1, sentences)
        self._write(2, documents)
        self.tokens += len(ids)
        self.sentences += len(sentences)
        self.documents += len(documents)

    def _write(self, index: int, starts: list[int]) -> None:
        self.files[index].write(np.array(starts, dtype="<i8").tobytes())

    def counts(self) -> dict:
        """Return the entries of meta.json that describe the files."""
        return {
            "dtype": self.dtype,
            "num_tokens": self.tokens,
            "num_sentences": self.sentences,
            "num_documents": self.documents,
        }


def _sentence_batches(paragraphs: Iterator[str], characters: int = 1 << 18) -> Iterator[list[str]]:
    """Gather sentences, and DOCUMENT_END after each document, into lists of about `characters`."""
    batch: list[str] = []
    size = 0
    for paragraph in paragraphs:
        batch.extend(split_sentences(paragraph) or [DOCUMENT_END])
        size += len(paragraph) + 1
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _progress_bar(shown: bool):
    from tqdm.auto import tqdm

    return tqdm(desc="preparing", unit="B", unit_scale=True, disable=not shown)


def _read_meta(folder: Path) -> dict:
    path = folder / "meta.json"
    if not path.is_file():
        raise CorpusError(
            f"{folder} holds no prepared corpus (no meta.json); pass another folder or run prepare_corpus"
        )
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorpusError(f"{path} is not JSON ({error}); remove the folder and prepare the corpus again") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise CorpusError(f"{path} was not written by prepare_corpus; pass the folder of a prepared corpus")
    return meta


def _map_file(path: Path, dtype: str, count: int) -> np.ndarray:
    """Memory-map `count` numbers, after checking that the file holds exactly these."""
    expected = count * np.dtype(dtype).itemsize
    found = path.stat().st_size if path.is_file() else None
    if found != expected:
        size = "missing" if found is None else f"{found} bytes long"
        raise CorpusError(
            f"{path} is {size}, meta.json says {expected}; remove the folder and prepare the corpus again"
        )
    return np.memmap(path, dtype=dtype, mode="r", shape=(count,))
