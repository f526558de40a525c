"""Words with tags as they are given to a tagger, and as windows of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from companion.finetuning.tags import Entity, check_iob2, entities_of, tags_of, words_of_spans
from companion.support.containers import as_list, is_missing
from companion.support.require import require, shortened
from companion.text.tokenizer import Tokenizer
from companion.text.vocabulary import UNK


@dataclass(frozen=True)
class Sentence:
    """The words of a text.

    Parameters
    ----------
    words : list of str
    offsets : list of (int, int), optional
        First character of each word in the text and the one after its last; None where words were given.
    """

    words: list[str]
    offsets: list[tuple[int, int]] | None = None

    def entities(self, tags: Sequence[str]) -> list[Entity]:
        """Return the entities that tags of the words write down: in characters, where the text is known."""
        found = entities_of(tags)
        if self.offsets is None:
            return found
        return [Entity(self.offsets[one.start][0], self.offsets[one.end - 1][1], one.type) for one in found]


def read_sentences(name: str, texts: Any, tokenizer: Tokenizer | None) -> list[Sentence]:
    """Return texts as their words.

    Parameters
    ----------
    name : str
        The argument, as the caller wrote it.
    texts : iterable of list of str, or of str
        Texts that are str are cut into words as the tokenizer does.
    tokenizer : Tokenizer
        Not needed for lists of words.

    Raises
    ------
    TypeError
        If an item is neither, or both are mixed; names its index.
    ValueError
        If there are none.
    """
    items = as_list(name, texts)
    if not items:
        raise ValueError(f"{name} is empty; at least one text is needed")
    if all(isinstance(item, Sentence) for item in items):
        return items
    whole = isinstance(items[0], str)
    for index, item in enumerate(items):
        _check_text(f"{name}[{index}]", item, whole)
    if not whole:
        return [Sentence(list(item)) for item in items]
    assert tokenizer is not None
    return _cut(items, tokenizer)


def read_tags(name: str, tags: Any, items: Sequence[Sentence], *, iob2: bool) -> list[list[Any]]:
    """Return the tags of the words of every text.

    Parameters
    ----------
    name : str
        The argument, as the caller wrote it.
    tags : iterable
        For every text a list of tags, or of spans `(start, end, type)` where its words have offsets.
    items : sequence of Sentence
    iob2 : bool
        Whether the tags must be IOB2.

    Raises
    ------
    TypeError, ValueError
        If they do not fit; names text and place.
    """
    rows = as_list(name, tags)
    if len(rows) != len(items):
        raise ValueError(f"{name} has {len(rows)} lists, X has {len(items)} texts; every text needs one")
    read = []
    for index, (row, item) in enumerate(zip(rows, items, strict=True)):
        place = f"{name}[{index}]"
        row = as_list(place, row)
        if item.offsets is not None:
            require("scheme", None, iob2, "'iob2' for texts with spans; without a scheme pass lists of words")
            row = tags_of(words_of_spans(_spans(place, row), item.offsets, place), len(item.words))
        if len(row) != len(item.words):
            raise ValueError(f"{place} has {len(row)} tags for {len(item.words)} words; every word needs one")
        if iob2:
            check_iob2(row, place)
        read.append(row)
    return read


def windows(tokenizer: Tokenizer, items: Sequence[Sentence], max_length: int, stride: int) -> dict[str, Any]:
    """Return the rows of sentences: windows of at most `max_length` tokens that share `stride` of them.

    Returns
    -------
    dict
        `input_ids` and `token_type_ids` of every window; `sample`, the index of its sentence; and `words`, for every
        token the number of the word that is read off it, or -1. A word is read off its first piece, in the window
        where this has the most context.
    """
    rows = _encoded(tokenizer, [item.words for item in items], max_length, stride)
    missing = _without_tokens(rows, items)
    if missing:  # of control characters alone, or empty: there is something to read off all the same
        words = [list(item.words) for item in items]
        for sample, word in missing:
            words[sample][word] = UNK
        rows = _encoded(tokenizer, words, max_length, stride)
    samples = rows["overflow_to_sample"]
    owners: dict[tuple[int, int], tuple[int, int, int]] = {}  # (sample, word) -> context, -row, place
    for row, (sample, words, offsets) in enumerate(zip(samples, rows["word_ids"], rows["offsets"], strict=True)):
        follows = row > 0 and samples[row - 1] == sample
        for place in _first_pieces(words, offsets, follows):
            context = min(place, len(words) - 1 - place)
            before = owners.get((sample, words[place]), (-1, 0, 0))
            owners[sample, words[place]] = max(before, (context, -row, place))
    read = [[-1] * len(ids) for ids in rows["input_ids"]]
    for (_, word), (_, negative, place) in owners.items():
        read[-negative][place] = word
    columns = {name: rows[name] for name in ("input_ids", "token_type_ids")}
    return columns | {"sample": samples, "words": read}


def _first_pieces(words: Sequence[int], offsets: Sequence[tuple[int, int]], follows: bool) -> list[int]:
    """Return the places of tokens that begin a word; a window that follows another may begin inside one."""
    starts = [place for place in range(1, len(words) - 1) if words[place] >= 0 and words[place] != words[place - 1]]
    if follows and starts and starts[0] == 1 and offsets[1][0] > 0:
        return starts[1:]
    return starts


def _encoded(tokenizer: Tokenizer, words: list[list[str]], max_length: int, stride: int) -> dict[str, Any]:
    return tokenizer(
        words,
        max_length=max_length,
        stride=stride,
        return_overflow=True,
        padding=False,
        return_offsets=True,
        return_word_ids=True,
        is_split_into_words=True,
        return_tensors=False,
    )


def _without_tokens(rows: dict[str, Any], items: Sequence[Sentence]) -> list[tuple[int, int]]:
    """Return sentence and number of every word that has no token."""
    seen: list[set[int]] = [set() for _ in items]
    for sample, words in zip(rows["overflow_to_sample"], rows["word_ids"], strict=True):
        seen[sample].update(words)
    return [(i, word) for i, item in enumerate(items) for word in range(len(item.words)) if word not in seen[i]]


def _cut(texts: list[str], tokenizer: Tokenizer) -> list[Sentence]:
    """Return the words of texts, as the tokenizer cuts them, with their places."""
    options: dict[str, Any] = dict.fromkeys(("return_overflow", "return_offsets", "return_word_ids"), True)
    rows = tokenizer(texts, padding=False, return_tensors=False, **options)
    places: list[dict[int, tuple[int, int]]] = [{} for _ in texts]
    for sample, words, offsets in zip(rows["overflow_to_sample"], rows["word_ids"], rows["offsets"], strict=True):
        for word, (start, end) in zip(words, offsets, strict=True):
            if word >= 0:
                places[sample][word] = (places[sample].get(word, (start, end))[0], end)
    found = [list(spans.values()) for spans in places]
    return [Sentence([text[a:b] for a, b in spans], spans) for text, spans in zip(texts, found, strict=True)]


def _check_text(place: str, item: Any, whole: bool) -> None:
    if is_missing(item):
        raise TypeError(f"{place}={item!r} is missing; drop it, or put a text in its place")
    wanted = "a str, as the first is" if whole else "a list of words (str)"
    fits = isinstance(item, str) if whole else isinstance(item, list | tuple) and all(isinstance(w, str) for w in item)
    if not fits:
        raise TypeError(f"{place}={shortened(item)} is of type {type(item).__name__}; it must be {wanted}")


def _spans(place: str, row: list[Any]) -> list[Entity]:
    for number, span in enumerate(row):
        fits = isinstance(span, tuple | list) and len(span) == 3 and isinstance(span[2], str)
        if not fits or not all(isinstance(end, int) and not isinstance(end, bool) for end in span[:2]):
            raise TypeError(f"{place}[{number}]={shortened(span)} is no span; pass (start, end, type), in characters")
    return [Entity(*span) for span in row]
