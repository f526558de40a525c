"""Two names of a text, marked, so that a classifier of texts can say how the one relates to the other."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import permutations
from typing import Any

from companion.finetuning.tags import Entity
from companion.support.require import integer, refuse, require

HEAD, TAIL = "@", "#"


def mark_names(
    text: str,
    head: Sequence[Any],
    tail: Sequence[Any],
    *,
    types: Mapping[str, str] | None = None,
    names: bool = True,
) -> str:
    """Return a text with `@` around one name and `#` around another (Zhou and Chen 2022, section 2.3).

    Both marks are in the vocabulary of every BERT, so that nothing is added to it.

    Parameters
    ----------
    text : str
        Without an `@` or `#` of its own, which could not be told from a mark.
    head, tail : (int, int) or (int, int, str)
        The first character of a name, the one after its last and, where `types` are given, its type.
    types : mapping, optional
        The word for every type, which then stands before the name: `@ * person * Gail Penn @` and
        `# ^ company ^ Radio Fjord #`.
    names : bool
        False puts the words for the types in the place of the names: `@ person @`.

    Raises
    ------
    ValueError
        If the text has an `@` or `#` of its own, a name lies outside it or has no integers as its places, the two
        overlap, a type has no word, or `names` is False without `types`.

    Examples
    --------
    >>> mark_names("Gail Penn is paid by Radio Fjord.", (0, 9), (21, 32))
    '@ Gail Penn @ is paid by # Radio Fjord #.'
    """
    require("names", names, names or types is not None, "True where no types are given")
    for mark in (HEAD, TAIL):
        require("text", text, mark not in text, f"without {mark!r} of its own, which is read as a mark")
    for name, place in (("head", head), ("tail", tail)):
        _check(name, place, len(text))
    if head[0] < tail[1] and tail[0] < head[1]:
        refuse("tail", tail, f"apart from the head, {tuple(head)}; the two names overlap")
    ends = [("head", head, HEAD, "*"), ("tail", tail, TAIL, "^")]
    for name, place, mark, around in sorted(ends, key=lambda end: -end[1][0]):  # from the right: places before it hold
        word = None if types is None else _word(name, place, types)
        found = text[place[0] : place[1]]
        inner = found if word is None else f"{around} {word} {around} {found}" if names else word
        text = f"{text[: place[0]]}{mark} {inner} {mark}{text[place[1] :]}"
    return text


def _check(name: str, place: Sequence[Any], length: int) -> None:
    allowed = f"the start and the end of a name in a text of {length} characters"
    require(name, place, len(place) in (2, 3), allowed)
    start, end = (integer(f"{name}[{i}]", place[i]) for i in (0, 1))
    require(name, place, 0 <= start < end <= length, allowed)


def _word(name: str, place: Sequence[Any], types: Mapping[str, str]) -> str:
    if len(place) < 3 or place[2] not in types:
        refuse(name, tuple(place), f"(start, end, type) with a type of {sorted(types)}")
    return types[place[2]]


def candidate_pairs(
    names: Sequence[Entity], between: Collection[tuple[str, str]] | None = None
) -> list[tuple[Entity, Entity]]:
    """Return all (head, tail) of a text whose relation may be asked for: every two names, in both orders.

    Names that overlap, as *Bank of Leeds* and *Leeds*, are no pair. Two mentions of one name are two names.

    Parameters
    ----------
    names : sequence of Entity
        As `TokenTagger.predict` returns them for a text.
    between : collection of (str, str), optional
        The types of head and tail between which a relation can hold; None takes all.

    Examples
    --------
    >>> names = [Entity(0, 9, "PER"), Entity(21, 32, "ORG")]
    >>> [(head.type, tail.type) for head, tail in candidate_pairs(names)]
    [('PER', 'ORG'), ('ORG', 'PER')]
    >>> len(candidate_pairs(names, {("PER", "ORG")}))
    1
    """
    pairs = [(one, two) for one, two in permutations(names, 2) if one.end <= two.start or two.end <= one.start]
    return [(head, tail) for head, tail in pairs if between is None or (head.type, tail.type) in between]
