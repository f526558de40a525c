"""Text to sentences."""

from __future__ import annotations

import re

# A sentence ends at . ! ? or an ellipsis, with closing quotes or brackets, before white space and something that can
# begin a sentence; at the Chinese and Japanese marks no white space is needed. A run of marks is tried once, from its
# beginning and without giving any back, so that the work grows with the length of the text alone.
_BOUNDARY = re.compile(
    r"""(?<![.!?…])(?P<mark>[.!?…]++)["'”’»)\]]*+\s++(?=["'“‘«(\[¿¡]*[\w])
    |(?<![。！？])[。！？]++[”’」』）]*+\s*+(?=\S)""",
    re.VERBOSE,
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
    last = _LAST_WORD.search(paragraph, max(start, match.start() - 24), match.start())
    word = last[0].lstrip(_OPENING) if last else ""
    if word.lower() in _ABBREVIATIONS_BEFORE_NUMBERS:
        return not follows[:1].isdigit()
    return word.lower() not in _ABBREVIATIONS and (word == "I" or not _INITIALS.fullmatch(word))
