"""Questions to the reader: predict first, then look. They work without scripts, in any notebook and on any page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from random import Random

from companion.show.shown import Shown
from companion.support.require import require


def choice(question: str, right: str, why: str, wrong: Mapping[str, str]) -> Shown:
    """Ask a question with several answers; each opens and says whether it is right, and why.

    Parameters
    ----------
    question : str
    right, why : str
        The right answer, and the reason.
    wrong : dict of str to str
        Wrong answers, each with what is wrong about it.

    Returns
    -------
    Shown
        The answers stand in an order that depends on their words alone.
    """
    require("wrong", dict(wrong), bool(wrong), "at least one wrong answer, each with what is wrong about it")
    require("wrong", sorted(wrong), right not in wrong, f"answers other than the right one, {right!r}")
    answers = [
        (right, f"Yes. {why}", "right"),
        *((answer, f"No. {reason}", "wrong") for answer, reason in wrong.items()),
    ]
    Random(question).shuffle(answers)
    folds = "".join(
        f'<details class="{kind}"><summary>{escape(answer)}</summary>{escape(reason)}</details>'
        for answer, reason, kind in answers
    )
    text = "\n".join([question, *(f"- {answer}" for answer, _, _ in answers)])
    return Shown(text, f'<div class="question"><p>{escape(question)}</p>{folds}</div>')


def number(question: str, answer: float, why: str, *, within: float = 0.0, unit: str = "") -> Shown:
    """Ask for a number; on the page of the book a field takes the reader's, elsewhere the answer opens.

    Parameters
    ----------
    question : str
    answer : float
        The right number: best the variable that the page has computed.
    why : str
        How one gets there.
    within : float
        How far the reader may be off.
    unit : str
    """
    digits = 10 if not within else max(3, math.ceil(math.log10(max(abs(answer), 1.0) / within)) + 1)
    shown = f"{answer:,.{min(digits, 10)}g}{' ' * bool(unit)}{unit}"
    about = "about " if within else ""
    fold = f"<details><summary>Show the answer</summary>{about}{escape(shown)}. {escape(why)}</details>"
    data = f'data-answer="{answer:.10g}" data-within="{within:g}" data-unit="{escape(unit)}"'
    return Shown(question, f'<div class="question number" {data}><p>{escape(question)}</p>{fold}</div>')
