"""Tags of words: what IOB2 allows, which entities it writes down, and the best sequence that it allows.

In IOB2 (Tjong Kim Sang and Veenstra 1999, "Representing text chunks") the first word of an entity of type X is tagged
`B-X`, its others `I-X`, and every word outside `O`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from companion.support.require import refuse, shortened

OUTSIDE = "O"


class Entity(NamedTuple):
    """A stretch of words or characters with a type.

    Attributes
    ----------
    start, end : int
        The first word or character, and the one after the last.
    type : str
        Such as `"PER"`.
    """

    start: int
    end: int
    type: str


def entities_of(tags: Sequence[str]) -> list[Entity]:
    """Return the entities that tags write down, as stretches of words.

    An `I-X` that continues nothing of its type begins an entity, as in `conlleval`, the program of the CoNLL tasks.

    Examples
    --------
    >>> entities_of(["B-PER", "I-PER", "O", "B-LOC"])
    [Entity(start=0, end=2, type='PER'), Entity(start=3, end=4, type='LOC')]
    """
    found: list[Entity] = []
    start, kind = 0, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, _, name = tag.partition("-")
        goes_on = prefix == "I" and name == kind
        if kind and not goes_on:
            found.append(Entity(start, place, kind))
        if not goes_on:
            start, kind = place, "" if tag == OUTSIDE else name
    return found


def tags_of(entities: Sequence[Entity], count: int) -> list[str]:
    """Return `count` tags in IOB2 that write down these entities, given as stretches of words.

    Examples
    --------
    >>> tags_of([Entity(0, 2, "PER")], 3)
    ['B-PER', 'I-PER', 'O']
    """
    tags = [OUTSIDE] * count
    for start, end, kind in entities:
        tags[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return tags


def as_iob2(tags: Sequence[str]) -> list[str]:
    """Return tags of another scheme in IOB2.

    Parameters
    ----------
    tags : sequence of str
        In IOB1, where an entity begins with `B-` only right after another of its type, or in IOBES, where `S-` is an
        entity of one word and `E-` the last word of a longer one (also written BIOES; L and U of BILOU are read too).

    Examples
    --------
    >>> as_iob2(["I-PER", "I-PER", "B-PER", "O"]), as_iob2(["S-LOC", "B-PER", "E-PER"])
    (['B-PER', 'I-PER', 'B-PER', 'O'], ['B-LOC', 'B-PER', 'I-PER'])
    """
    known = {"S": "B", "U": "B", "E": "I", "L": "I"}
    simple = []
    for tag in tags:
        prefix, dash, name = tag.partition("-")
        simple.append(f"{known.get(prefix, prefix)}{dash}{name}")
    return tags_of(entities_of(simple), len(simple))


def check_iob2(tags: Sequence[str], name: str) -> None:
    """Raise a ValueError unless tags are IOB2; it names the place.

    Parameters
    ----------
    tags : sequence of str
    name : str
        Of the sequence, for the message.
    """
    before = OUTSIDE
    for place, tag in enumerate(tags):
        if not _is_tag(tag):
            refuse(f"{name}[{place}]", tag, "'O', 'B-...' or 'I-...' with scheme='iob2'; other tags need scheme=None")
        if not allowed(before, tag):
            raise ValueError(
                f"{name}[{place}]={tag!r} follows {before!r}: in IOB2 an entity begins with B-; convert the tags with "
                "companion.finetuning.tags.as_iob2, or pass scheme=None"
            )
        before = tag


def allowed(before: str, tag: str) -> bool:
    """Return whether IOB2 lets `tag` follow `before`: an `I-X` follows `B-X` or `I-X` only."""
    return not tag.startswith("I-") or before[2:] == tag[2:]


def best_tags(scores: np.ndarray, tags: Sequence[str]) -> list[str]:
    """Return the sequence with the highest sum of scores among those that IOB2 allows (Viterbi 1967).

    Parameters
    ----------
    scores : array, (words, tags)
        Logarithms of probabilities.
    tags : sequence of str
        The names of the columns.

    Examples
    --------
    >>> best_tags(np.log([[0.6, 0.3, 0.1], [0.2, 0.1, 0.7]]), ["O", "B-PER", "I-PER"])
    ['B-PER', 'I-PER']
    """
    starts, steps = transition_scores(tags)
    return [tags[place] for place in best_path(scores, starts, steps)]


def transition_scores(tags: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return what IOB2 has to say of tags: 0 where it allows a tag, minus infinity where it does not.

    Parameters
    ----------
    tags : sequence of str

    Returns
    -------
    starts : array, (tags,)
        For the first word.
    steps : array, (tags before, tags)
        For a word after another.
    """
    starts = np.where([allowed(OUTSIDE, tag) for tag in tags], 0.0, -np.inf)
    return starts, np.where([[allowed(before, tag) for tag in tags] for before in tags], 0.0, -np.inf)


def best_path(scores: np.ndarray, starts: np.ndarray, steps: np.ndarray) -> list[int]:
    """Return the numbers of the tags whose scores, with those of the start and of every step, have the highest sum.

    The algorithm of Viterbi (1967): the best way to a tag is the best way to one of the tags before it, and a step.

    Parameters
    ----------
    scores : array, (words, tags)
    starts : array, (tags,)
        Added for the first word.
    steps : array, (tags before, tags)
        Added for every later word.
    """
    if not len(scores):
        return []
    total = starts + scores[0]  # of the best way to each tag
    origins = []
    for row in scores[1:]:
        ways = total[:, None] + steps  # (before, tag)
        origins.append(ways.argmax(0))
        total = ways.max(0) + row
    path = [int(total.argmax())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return path[::-1]


def words_of_spans(spans: Sequence[Entity], offsets: Sequence[tuple[int, int]], name: str) -> list[Entity]:
    """Return spans of characters as stretches of words.

    Parameters
    ----------
    spans : sequence of Entity
    offsets : sequence of (int, int)
        First character of each word and the one after its last.
    name : str
        Of the spans, for messages.

    Raises
    ------
    ValueError
        If a span begins or ends inside a word, holds none, or overlaps another.
    """
    begins = {start: word for word, (start, _) in enumerate(offsets)}
    ends = {end: word + 1 for word, (_, end) in enumerate(offsets)}
    found: list[Entity] = []
    for span in sorted(spans):
        if span.start not in begins or span.end not in ends or span.start >= span.end:
            raise ValueError(
                f"{name} holds {tuple(span)}, which does not begin and end with a word; words here begin and end at "
                f"{shortened(list(offsets))}"
            )
        if found and begins[span.start] < found[-1].end:
            raise ValueError(f"{name} holds {tuple(span)}, which overlaps the span before it; a word has one tag")
        found.append(Entity(begins[span.start], ends[span.end], span.type))
    return found


def _is_tag(tag: object) -> bool:
    return isinstance(tag, str) and (tag == OUTSIDE or (tag[:2] in ("B-", "I-") and len(tag) > 2))
