"""From text to token ids on disk: sources, sentences, and a memory-mapped corpus that is prepared once.

A prepared corpus is a folder: ``tokens.bin`` (the ids of all sentences, one after another), ``sentences.bin`` and
``documents.bin`` (where each begins) and ``meta.json``. Reading, splitting and tokenising stream, so the memory needed
does not grow with the text.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from companion.files import atomic_folder, recover_folder, sha256
from companion.pretraining.docstrings import installed_checksum, installed_documents

FORMAT, VERSION = "companion.corpus", 1
DOCUMENT_END = ""
Source = str | Path | Sequence[str | Path]

_OPENERS = {".txt": open, ".gz": gzip.open, ".xz": lzma.open}
_SUFFIXES = (".txt", ".txt.gz", ".txt.xz")


class CorpusError(ValueError):
    """A folder that is no complete corpus of this format."""


class BatchTokenizer(Protocol):
    """What preparation needs of a tokenizer."""

    vocabulary: Sequence[str]

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
                "prepare_corpus writes it anew"
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
    source: Source, tokenizer: BatchTokenizer, folder: str | Path, *, limit: int | None = None, progress: bool = True
) -> Corpus:
    """Tokenise a source into `folder`, or open it when it already holds this source in this vocabulary.

    The source is hashed at every call (text files by their contents, at the speed of the disk; see `source_checksum`),
    so that changed text is noticed and prepared anew. The folder appears under its name only when it is complete.

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
    return write_corpus(read_paragraphs(source, limit), tokenizer, folder, meta, progress)


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
            raise ValueError(f"source={meta['source']!r} holds no text with limit={meta['limit']}; nothing was written")
        (temporary / "meta.json").write_text(json.dumps({**meta, **counts}, indent=1), encoding="utf-8")
    return Corpus.open(folder)


def read_documents(source: Source, limit: int | None = None) -> Iterator[list[list[str]]]:
    """Yield each document as a list of paragraphs, each a list of sentences.

    Holds one document at a time. Arguments and errors are those of `read_paragraphs`.
    """
    document: list[list[str]] = []
    for paragraph in read_paragraphs(source, limit):
        if paragraph != DOCUMENT_END:
            document.append(split_sentences(paragraph))
        elif document:
            yield document
            document = []


def read_paragraphs(source: Source, limit: int | None = None) -> Iterator[str]:
    """Yield the paragraphs of a source, and an empty string after each document.

    Parameters
    ----------
    source : str, Path or sequence of them
        - A text file (``.txt``, ``.txt.gz``, ``.txt.xz``; UTF-8): one paragraph a line, an empty line between
          documents. A folder stands for all such files in it, in the order of their paths, and a pattern with ``*``
          for the files that match. A file's end ends a document.
        - ``"python-docs"``: the docstrings of the Python packages installed here, one document a module.
        - A folder written by ``datasets.save_to_disk``, or ``"hub:owner/name"`` or ``"hub:owner/name/config"``
          (streamed, split "train"): one document a row of the column ``text``, one paragraph a line.
    limit : int, optional
        Stop before the paragraph with which the text would pass this many bytes (UTF-8, line ends not counted).

    Raises
    ------
    FileNotFoundError
        If a path does not exist or a pattern matches nothing.
    ValueError
        If a file has another ending.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} must be a positive number of bytes, or None for the whole source")
    return _closed(raw_paragraphs(source, limit))


def raw_paragraphs(source: Source, limit: int | None = None, skip: int = 0) -> Iterator[str]:
    """Yield what `read_paragraphs` does, before empty documents are left out and one that `limit` cut off is closed.

    Parameters
    ----------
    source, limit
        As in `read_paragraphs`; `limit` counts from where the reading begins.
    skip : int
        Begin after so many ends of documents, those of empty ones counted: rows of a data set, by its own
        ``skip`` (which downloads those of the hub), or empty lines and ends of text files, which are read and dropped.
    """
    return _limited(_open_source(source, skip), limit)


def source_checksum(source: Source, *, contents: bool = True) -> str:
    """Return a SHA-256 that changes when the source does.

    Text files and saved data sets: names and contents; names and sizes without `contents`, which reads none of them
    and so does not notice an edit that keeps the size. ``"python-docs"``: names and sizes of the modules, so an edit
    inside an installed file that keeps its size is not noticed. ``"hub:..."``: the name alone, since the rows
    cannot be hashed without downloading them; remove the folder to fetch a changed set again.
    """
    if source == "python-docs":
        return installed_checksum()
    if isinstance(source, str) and source.startswith("hub:"):
        return hashlib.sha256(source.encode()).hexdigest()
    files = _saved_dataset_files(source) or _text_files(source)
    lines = "\n".join(f"{sha256(file) if contents else file.stat().st_size}  {file.name}" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def vocabulary_checksum(tokenizer: BatchTokenizer) -> str:
    """Return a SHA-256 of what decides the ids: the vocabulary, and how case, accents and Chinese are treated.

    The treatment shows in the ids of the vocabulary itself, as it is, in capitals and with accents.
    """
    words = " ".join(tokenizer.vocabulary)
    probes = [words, words.upper(), words.replace("a", "á").replace("e", "é"), words.replace(" ", " 京")]
    ids = [list(map(int, row)) for row in tokenizer.encode_batch(probes)]
    return hashlib.sha256(json.dumps([list(tokenizer.vocabulary), ids]).encode()).hexdigest()


# A sentence ends at . ! ? or an ellipsis, with closing quotes or brackets, before white space and something that can
# begin a sentence; at the Chinese and Japanese marks no white space is needed.
_BOUNDARY = re.compile(
    r"""(?P<mark>[.!?…]+)["'”’»)\]]*\s+(?=["'“‘«(\[¿¡]*[\w])|[。！？]+[”’」』）]*\s*(?=\S)""", re.VERBOSE
)
_LAST_WORD = re.compile(r"[^\s(\[\"“]*$")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")
_OPENING = "\"'“‘«([¿¡"
_ABBREVIATIONS = frozenset(
    """mr mrs ms dr prof st mt rev hon gov sen rep pres gen col maj capt cmdr lt sgt cpl pvt adm messrs mme mlle
    jr sr esq vs cf viz approx ca eds trans resp incl excl inc ltd co corp bros dept est univ assn
    jan feb mar apr jun jul aug sept sep oct nov dec e.g i.e""".split()
)
_ABBREVIATIONS_BEFORE_NUMBERS = frozenset("no nos vol vols p pp fig figs eq eqs sec ch art op".split())


def split_sentences(paragraph: str) -> list[str]:
    """Split a paragraph into sentences.

    A sentence ends at ``.``, ``!``, ``?`` or ``…`` (and closing quotes or brackets) before white space and a word that
    does not begin with a small letter. A full stop does not end one after an abbreviation of a short English list (some
    count only before a number: ``No. 5``), or after initials (``E. R. Bernstein``, ``U.S. Army``). Chinese and Japanese
    end marks split without white space.

    Limits: a sentence that really ends with an abbreviation or with initials ("... in the U.S. He left") is joined to
    the next; one that begins with a small letter is joined to the one before. Pre-training needs no better.
    """
    sentences, start = [], 0
    for match in _BOUNDARY.finditer(paragraph):
        if match["mark"] is None or _ends_sentence(paragraph, start, match):
            sentences.append(paragraph[start : match.end()].strip())
            start = match.end()
    sentences.append(paragraph[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _ends_sentence(paragraph: str, start: int, match: re.Match) -> bool:
    follows = paragraph[match.end() : match.end() + 4].lstrip(_OPENING)
    if follows[:1].islower():
        return False
    if match["mark"] != ".":
        return True
    word = _LAST_WORD.search(paragraph, max(start, match.start() - 24), match.start())[0].lstrip(_OPENING)
    if word.lower() in _ABBREVIATIONS_BEFORE_NUMBERS:
        return not follows[:1].isdigit()
    return word.lower() not in _ABBREVIATIONS and (word == "I" or not _INITIALS.fullmatch(word))


def _limited(paragraphs: Iterator[str], limit: int | None) -> Iterator[str]:
    """Pass paragraphs on up to `limit` bytes."""
    total = 0
    for paragraph in paragraphs:
        total += len(paragraph.encode())
        if limit is not None and total > limit:
            return
        yield paragraph


def _closed(paragraphs: Iterator[str]) -> Iterator[str]:
    """Close the last document, and leave out empty ones."""
    inside = False
    for paragraph in paragraphs:
        if paragraph != DOCUMENT_END or inside:
            yield paragraph
        inside = paragraph != DOCUMENT_END
    if inside:
        yield DOCUMENT_END


def _open_source(source: Source, skip: int = 0) -> Iterator[str]:
    if isinstance(source, str) and source.startswith("hub:"):
        return _dataset_paragraphs(_hub_rows(source.removeprefix("hub:")), skip)
    if _saved_dataset_files(source):
        return _dataset_paragraphs(_saved_rows(Path(source)), skip)
    if source == "python-docs":
        paragraphs = chain.from_iterable((*texts, DOCUMENT_END) for _, texts in installed_documents())
    else:
        paragraphs = chain.from_iterable(map(_file_paragraphs, _text_files(source)))
    return _after_documents(paragraphs, skip)


def _after_documents(paragraphs: Iterator[str], count: int) -> Iterator[str]:
    """Drop paragraphs up to the end of document number `count`."""
    while count:
        count -= next(paragraphs, DOCUMENT_END) == DOCUMENT_END
    return paragraphs


def _file_paragraphs(path: Path) -> Iterator[str]:
    with _open_text(path) as file:
        for line in file:
            yield " ".join(line.split())  # an empty line is DOCUMENT_END
    yield DOCUMENT_END


def _open_text(path: Path) -> IO[str]:
    return _OPENERS[path.suffix](path, "rt", encoding="utf-8")


def _text_files(source: Source) -> list[Path]:
    """Return the text files that a source names, sorted within each folder or pattern."""
    if not isinstance(source, str | Path):
        return [file for part in source for file in _text_files(part)]
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*.txt*") if file.name.endswith(_SUFFIXES))
    elif "*" in str(source):
        anchor = Path(path.anchor)
        files = sorted(anchor.glob(str(path.relative_to(anchor))))
    else:
        files = [path] if path.is_file() else []
    if not files:
        raise FileNotFoundError(
            f"source={str(source)!r} is no text file, no folder with {', '.join(_SUFFIXES)} files and no pattern that "
            "matches any; other sources are 'python-docs' and 'hub:owner/name'"
        )
    for file in files:
        if not file.name.endswith(_SUFFIXES):
            raise ValueError(f"source={str(file)!r} does not end in {', '.join(_SUFFIXES)}; rename or convert the file")
    return files


def _saved_dataset_files(source: Source) -> list[Path]:
    """Return the files of a folder written by ``datasets.save_to_disk``, [] for any other source."""
    if not isinstance(source, str | Path):
        return []
    path = Path(source)
    marks = ("dataset_dict.json", "state.json")
    if not any((path / mark).is_file() for mark in marks):
        return []
    return sorted(file for file in path.rglob("*") if file.suffix in (".arrow", ".json"))


def _saved_rows(folder: Path) -> Iterable[dict]:
    from datasets import DatasetDict, load_from_disk

    loaded = load_from_disk(str(folder))
    return loaded["train"] if isinstance(loaded, DatasetDict) else loaded


def _hub_rows(name: str) -> Iterable[dict]:
    from datasets import load_dataset

    parts = name.split("/")
    if len(parts) not in (2, 3):
        raise ValueError(f"source='hub:{name}' is not of the form 'hub:owner/name' or 'hub:owner/name/config'")
    return load_dataset("/".join(parts[:2]), *parts[2:], split="train", streaming=True)


def _dataset_paragraphs(rows: Any, skip: int) -> Iterator[str]:
    for row in rows.skip(skip) if skip else rows:
        if "text" not in row:
            raise ValueError(f"the data set has the columns {sorted(row)}; rename the one with the text to 'text'")
        for line in row["text"].splitlines():
            if line.strip():
                yield " ".join(line.split())
        yield DOCUMENT_END


def _write_tokens(paragraphs: Iterator[str], tokenizer: BatchTokenizer, folder: Path, progress: bool) -> dict:
    """Stream paragraphs through the tokenizer into the three files; return the counts for meta.json."""
    dtype = "<u2" if len(tokenizer.vocabulary) < 2**16 else "<i4"
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
        sentences, documents = [], []
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
