"""The vocabulary of a pre-training run: learned once, kept in its folder, and never taken for another."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from companion.data.plain import read_paragraphs, source_checksum
from companion.pretraining.config import PretrainingConfig
from companion.pretraining.corpus import Corpus, vocabulary_checksum
from companion.pretraining.streaming import WindowReader
from companion.support.files import write_json
from companion.text.tokenizer import Tokenizer
from companion.training.checkpoint import has_checkpoint

logger = logging.getLogger(__name__)

FOLDER, ORIGIN = "tokenizer", "origin.json"  # of the tokenizer in a run's folder, and of what it was made of
TREATMENT = ("lowercase", "strip_accents", "tokenize_chinese_chars")
MOST_UNKNOWN = 0.01  # share of the tokens that may be `[UNK]` without a warning
FEWEST_PAIRS = 0.1  # share of the documents that must have a second sentence, else a warning


def learn_or_load_tokenizer(
    config: PretrainingConfig,
    progress: bool = True,
    copy: str | Path | None = None,
    origin: dict[str, Any] | None = None,
) -> Tokenizer:
    """Return the tokenizer of a run: the one in its folder if it is of these settings, else a new one.

    It is the one that `config` names, or one learned from the source, with `stream` from the first window alone.

    Parameters
    ----------
    config : PretrainingConfig
    progress : bool
        Show a progress bar.
    copy : str or Path, optional
        A text file with the paragraphs of the source, to be read in its place.
    origin : dict, optional
        `tokenizer_origin(config)`, where it is known already.

    Raises
    ------
    ValueError
        If the one in the folder is of other settings and a checkpoint was trained with it, or nobody knows of which.
    """
    folder, origin = Path(config.folder) / FOLDER, origin or tokenizer_origin(config)
    if (folder / "vocab.txt").is_file() and _is_of(folder, origin, has_checkpoint(Path(config.folder))):
        return Tokenizer.from_pretrained(folder)
    tokenizer = _named_tokenizer(config) or _learned_tokenizer(config, progress, copy)
    (folder / ORIGIN).unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)
    write_json(folder / ORIGIN, origin)
    return tokenizer


def needs_text(config: PretrainingConfig, origin: dict[str, Any]) -> bool:
    """Return whether a vocabulary has to be learned from the text."""
    folder = Path(config.folder) / FOLDER
    if (config.tokenizer or config.initial) is not None:
        return False
    found = (folder / "vocab.txt").is_file()
    return not (found and _is_of(folder, origin, has_checkpoint(Path(config.folder))))


def tokenizer_origin(config: PretrainingConfig) -> dict[str, Any]:
    """Return what decides the tokenizer of a run: the named one's checksum, or text and options of a learned one."""
    if (named := _named_tokenizer(config)) is not None:
        return {"vocabulary_checksum": vocabulary_checksum(named)}
    options = ("limit", "stream", "vocab_size", "limit_alphabet", *TREATMENT)
    checksum = source_checksum(config.source, contents=config.stream is None)
    return {"source_checksum": checksum} | {name: getattr(config, name) for name in options}


def check_text(corpus: Corpus, tokenizer: Tokenizer, config: PretrainingConfig) -> None:
    """Warn of a text that will not teach what it is meant to."""
    unknown = float(np.mean(corpus.tokens == tokenizer.unk_id))
    if unknown > MOST_UNKNOWN:
        logger.warning(
            "%.1f%% of the tokens of the text are [UNK], words that the vocabulary cannot spell: raise "
            "limit_alphabet=%s (how many characters are kept), or name a tokenizer of this language",
            100 * unknown,
            config.limit_alphabet,
        )
    has_pairs = float(np.mean(np.diff(corpus.document_starts) > 1))
    if config.next_sentence and has_pairs < FEWEST_PAIRS:
        logger.warning(
            "%.0f%% of the documents have a single sentence, so that nearly every pair is random and next-sentence "
            "prediction learns nothing: put empty lines between documents only, or set next_sentence=False",
            100 * (1 - has_pairs),
        )


@contextmanager
def copied_text(config: PretrainingConfig, origin: dict[str, Any], progress: bool) -> Iterator[Path | None]:
    """Read a source that is slow to read once, into a file that stands for it in the block; None for others."""
    slow = isinstance(config.source, str) and (config.source == "python-docs" or config.source.startswith("hub:"))
    if not slow or config.stream is not None or not needs_text(config, origin):
        yield None
        return
    path = Path(config.folder) / ".text.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(path, "w", encoding="utf-8") as file:
            paragraphs = read_paragraphs(config.source, config.limit)
            file.writelines(f"{paragraph}\n" for paragraph in _shown(paragraphs, config, progress))
        yield path
    finally:
        path.unlink(missing_ok=True)


def _shown(paragraphs: Iterable[str], config: PretrainingConfig, progress: bool) -> Iterator[str]:
    from tqdm.auto import tqdm

    with tqdm(desc="reading", total=config.limit, unit="B", unit_scale=True, disable=not progress) as bar:
        for paragraph in paragraphs:
            bar.update(len(paragraph.encode()))
            yield paragraph


def _is_of(folder: Path, origin: dict[str, Any], was_trained_with: bool) -> bool:
    """Return whether the tokenizer in a run's folder is of this origin; False means that another may replace it."""
    try:
        found = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        if was_trained_with:  # by an earlier version, which kept no origin
            return True
        raise ValueError(
            f"{folder} holds a vocabulary, and not what it was made of; pass tokenizer={str(folder)!r} to use it, or "
            "remove it to learn another"
        ) from None
    differing = [name for name in {**found, **origin} if found.get(name) != origin.get(name)]
    if differing and was_trained_with:
        changed = "; ".join(_difference(name, found, origin) for name in differing)
        raise ValueError(
            f"{folder} holds the vocabulary of the checkpoint beside it, and that of another run: {changed}. Set them "
            "back, or use another folder"
        )
    if differing:
        logger.warning("the vocabulary in %s is of other settings (%s) and is made again", folder, ", ".join(differing))
    return not differing


def _difference(name: str, found: dict[str, Any], origin: dict[str, Any]) -> str:
    if name.endswith("checksum"):
        what = "text" if name == "source_checksum" else "tokenizer"
        return f"the {what} has changed ({name})"
    return f"{name}={origin.get(name)!r} was {found.get(name)!r}"


def _named_tokenizer(config: PretrainingConfig) -> Tokenizer | None:
    """Return the tokenizer that the settings name, or that of the checkpoint to go on from; None if neither is."""
    named = None if config.tokenizer is None else Tokenizer.from_pretrained(config.tokenizer)
    if config.initial is None:
        return named
    try:
        own = Tokenizer.from_pretrained(config.initial)
    except FileNotFoundError:
        if named is None:
            raise
        return named
    if named is not None and vocabulary_checksum(named) != vocabulary_checksum(own):
        raise ValueError(
            f"tokenizer={str(config.tokenizer)!r} has another vocabulary than initial={str(config.initial)!r}, whose "
            "embeddings would stand for other words; leave tokenizer out"
        )
    return own


def _learned_tokenizer(config: PretrainingConfig, progress: bool, copy: str | Path | None) -> Tokenizer:
    if copy is not None:
        paragraphs = read_paragraphs(copy)
    elif config.stream is None:
        paragraphs = read_paragraphs(config.source, config.limit)
    else:
        paragraphs = WindowReader(config.source, config.stream, config.limit).read_window()
    lines = (line for line in _shown(paragraphs, config, progress and copy is None) if line)
    options = {name: getattr(config, name) for name in ("limit_alphabet", *TREATMENT)}
    tokenizer = Tokenizer.train(lines, config.vocab_size, progress=progress, **options)
    if tokenizer.vocab_size < config.vocab_size:
        logger.warning(
            "the text is too short for vocab_size=%s; %s tokens were learned", config.vocab_size, tokenizer.vocab_size
        )
    return tokenizer
