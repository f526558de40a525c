"""Answers in a text: as they are given, as rows to learn from, as the best spans, and how they are scored."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from companion.support.containers import as_list, is_missing
from companion.support.require import shortened
from companion.text.tokenizer import Tokenizer

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


class Answer(NamedTuple):
    """An answer, as it stands in its text.

    Attributes
    ----------
    text : str
        Empty if the text holds none.
    start, end : int
        Its first character and the one after its last; 0 and 0 if there is none.
    probability : float
        Among the best answers of this question and, where that is possible, none; for gold answers 1.
    """

    text: str
    start: int
    end: int
    probability: float = 1.0


NO_ANSWER = Answer("", 0, 0)


def normalised(answer: str) -> str:
    """Return an answer as the official SQuAD script compares it: lower case, no punctuation, articles, extra blanks.

    Examples
    --------
    >>> normalised("The  Norman-French, army!")
    'normanfrench army'
    """
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def exact_match(answer: str, gold: Sequence[str]) -> float:
    """Return 1 if an answer is one of the gold answers (none for a question without answer), else 0."""
    return max(float(normalised(answer) == normalised(one)) for one in gold or [""])


def answer_f1(answer: str, gold: Sequence[str]) -> float:
    """Return the F1 of the words of an answer, against the gold answer that it fits best (Rajpurkar et al. 2016).

    Parameters
    ----------
    answer : str
    gold : sequence of str
        None for a question without answer: then the F1 is 1 if `answer` is empty, else 0.

    Examples
    --------
    >>> round(answer_f1("the old army", ["Norman army", "army of Normandy"]), 3)
    0.5
    """
    return max(_word_f1(normalised(answer).split(), normalised(one).split()) for one in gold or [""])


def _word_f1(found: list[str], wanted: list[str]) -> float:
    if not found or not wanted:
        return float(found == wanted)
    common = sum((Counter(found) & Counter(wanted)).values())
    return 2 * common / (len(found) + len(wanted))


def read_answers(name: str, answers: Any, items: Sequence[tuple[str, str]]) -> list[list[Answer]]:
    """Return the gold answers of every question; an empty list where its text holds none.

    Parameters
    ----------
    name : str
        The argument, as the caller wrote it.
    answers : iterable
        For every question: a str, which must stand in the text (its first place counts); a dict of the form of SQuAD,
        ``{"text": [...], "answer_start": [...]}``; a list of str; or None, "" or an empty list where there is none.
    items : sequence of (str, str)
        Questions and texts.

    Raises
    ------
    TypeError, ValueError
        If an answer is of another form, or does not stand in its text where it is said to; names its index.
    """
    rows = as_list(name, answers)
    if len(rows) != len(items):
        raise ValueError(f"{name} has {len(rows)} answers, X has {len(items)} questions; every question needs one")
    return [_gold(f"{name}[{i}]", row, text) for i, (row, (_, text)) in enumerate(zip(rows, items, strict=True))]


def _gold(place: str, row: Any, text: str) -> list[Answer]:
    if is_missing(row) or (isinstance(row, str | list | tuple) and not row):
        return []
    if isinstance(row, Mapping):
        if not {"text", "answer_start"} <= row.keys():
            raise ValueError(f"{place}={shortened(row)} lacks 'text' or 'answer_start'; give both, as SQuAD does")
        texts, starts = (as_list(f"{place}[{name!r}]", row[name]) for name in ("text", "answer_start"))
        if len(texts) != len(starts):
            raise ValueError(f"{place} has {len(texts)} texts and {len(starts)} places; each needs its partner")
        return [_at(place, one, start, text) for one, start in zip(texts, starts, strict=True)]
    texts = [row] if isinstance(row, str) else row
    if not isinstance(texts, list | tuple) or not all(isinstance(one, str) for one in texts):
        kind = type(row).__name__
        raise TypeError(f"{place}={shortened(row)} is of type {kind}; pass a str, a dict of SQuAD's form, or None")
    return [_at(place, one, text.find(one), text) for one in texts]


def _at(place: str, answer: str, start: int, text: str) -> Answer:
    end = start + len(answer)
    if start < 0 or text[start:end] != answer:
        where = "anywhere in its text" if start < 0 else f"at character {start} of its text: {text[start:end]!r}"
        raise ValueError(f"{place}: {shortened(answer)} does not stand {where}; mend the answer or its place")
    return Answer(answer, start, end)


def windows(tokenizer: Tokenizer, items: Sequence[tuple[str, str]], max_length: int, stride: int) -> dict[str, Any]:
    """Return the rows of questions and texts: `[CLS] question [SEP] window of the text [SEP]`.

    Returns
    -------
    dict
        `input_ids`, `token_type_ids`; `sample`, the index of the question; and `offsets`, for every token of the text
        its place in it, for all others (-1, -1).
    """
    questions, texts = map(list, zip(*items, strict=True))
    rows = tokenizer(
        questions,
        texts,
        max_length=max_length,
        truncation="only_second",
        stride=stride,
        return_overflow=True,
        padding=False,
        return_offsets=True,
        return_special_tokens_mask=True,
        return_tensors=False,
    )
    offsets = [
        [place if segment and not special else (-1, -1) for place, segment, special in zip(*row, strict=True)]
        for row in zip(rows["offsets"], rows["token_type_ids"], rows["special_tokens_mask"], strict=True)
    ]
    columns = {name: rows[name] for name in ("input_ids", "token_type_ids")}
    return columns | {"sample": rows["overflow_to_sample"], "offsets": offsets}


def positions_of(answer: Answer | None, offsets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the first and last token of an answer in a window, or 0 and 0, `[CLS]`, if it does not hold all of it."""
    if answer is None:
        return 0, 0
    inside = [i for i, (start, end) in enumerate(offsets) if start < answer.end and end > answer.start and end > 0]
    whole = inside and offsets[inside[0]][0] <= answer.start and offsets[inside[-1]][1] >= answer.end
    return (inside[0], inside[-1]) if whole else (0, 0)


def span_sums(start: np.ndarray, end: np.ndarray, longest: int) -> np.ndarray:
    """Return the sums of every start (row) and end (column), minus infinity where no span of up to `longest` tokens is.

    Examples
    --------
    >>> span_sums(np.array([1.0, 2.0]), np.array([3.0, 4.0]), longest=2)
    array([[  4.,   5.],
           [-inf,   6.]])
    """
    further = np.arange(len(end)) - np.arange(len(start))[:, None]
    allowed = (further >= 0) & (further < longest)
    return np.where(allowed, start[:, None] + end, -np.inf)


def best_spans(
    logits: np.ndarray, offsets: Sequence[tuple[int, int]], longest: int, count: int
) -> list[tuple[float, int, int]]:
    """Return the spans of a window with the highest sums of their two logits, the best first.

    Parameters
    ----------
    logits : array, (tokens, 2)
        Of start and end.
    offsets : sequence of (int, int)
        As `windows` returns them.
    longest : int
        Tokens of an answer, at most.
    count : int
        Spans to return, at most.

    Returns
    -------
    list of (float, int, int)
        The sum, and the first character and the one after the last.
    """
    tokens = [i for i, (start, _) in enumerate(offsets) if start >= 0]
    if not tokens:
        return []
    starts, ends = logits[tokens].T
    sums = span_sums(starts, ends, longest)  # the text of a window is one stretch of tokens
    best = np.argsort(-sums, axis=None, kind="stable")[:count]
    places = [(i, j) for i, j in zip(*np.unravel_index(best, sums.shape), strict=True) if np.isfinite(sums[i, j])]
    return [(float(sums[i, j]), offsets[tokens[i]][0], offsets[tokens[j]][1]) for i, j in places]
