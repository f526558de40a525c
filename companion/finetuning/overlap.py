"""An answer by counting words: what a trained reader has to beat."""

from __future__ import annotations

import math
import re
from collections import Counter

SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+")
WORD = re.compile(r"\w+(?:['’]\w+)?")
NAME = r"[A-Z]\w+(?:(?: of| van| de)? [A-Z]\w+)*"
SMALL = "one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty sixty".split()
NUMBER = rf"(?:[£$€]?\d[\d.,]*\d|\d|\b(?:{'|'.join(SMALL)})\b)(?: (?:[a-z]+s|per cent))?"
EXPECTED = (  # by the question's words, the first that fits
    (re.compile(r"\b(how (many|much|long|old|far|often|large|high|tall)|when|what (share|portion|year))\b"), NUMBER),
    (re.compile(r"\b(who|whom|whose|where|which)\b"), NAME),
)


def overlapping_sentence(question: str, text: str) -> str:
    """Return the sentence of a text that shares most words with a question, a word counting the more the rarer it is.

    A shared word weighs log(1 + sentences / sentences with it); of equal sentences the first is returned. Semicolons
    and colons end a sentence too.

    Examples
    --------
    >>> overlapping_sentence("Who wrote the play?", "The play is old. Anna Berg wrote the first play.")
    'Anna Berg wrote the first play.'
    """
    sentences = SENTENCE_END.split(text)
    words = [set(_words(sentence)) for sentence in sentences]
    holding = Counter(word for one in words for word in one)
    asked = set(_words(question))
    weights = [sum(math.log(1 + len(words) / holding[word]) for word in sorted(asked & one)) for one in words]
    return sentences[weights.index(max(weights))]


def overlap_answer(question: str, text: str) -> str:
    """Return the best stretch of the overlapping sentence: a number, a name, or the whole sentence.

    The question's words say which is expected: "how many", "when" and the like a number with its unit, "who", "where"
    and "which" a run of capitalised words. The longest that the question does not hold itself is returned; if there is
    none, or another question word, the sentence without its last mark.

    Examples
    --------
    >>> overlap_answer("Who wrote the play?", "The play is old. In 1900 Anna Berg wrote the play.")
    'Anna Berg'
    """
    sentence = overlapping_sentence(question, text)
    pattern = next((wanted for asked, wanted in EXPECTED if asked.search(question.lower())), None)
    found = [match[0] for match in re.finditer(pattern, sentence)] if pattern else []
    fresh = [one for one in found if not set(_words(one)) <= set(_words(question))]
    return max(fresh, key=len, default=sentence.rstrip(".!?;:"))


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())
