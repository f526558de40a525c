"""Names in marks: the texts of the bundled set, types, order, and what is no pair of names."""

from __future__ import annotations

import pytest

from companion import load_dataset
from companion.finetuning.markers import candidate_pairs, mark_names
from companion.finetuning.tags import Entity

TEXT = "Gail Penn is paid by Radio Fjord."
GAIL, FJORD = Entity(0, 9, "PER"), Entity(21, 32, "ORG")
WORDS = {"PER": "person", "ORG": "company"}


def test_the_marks_are_those_of_the_bundled_set():
    for split in load_dataset("relations").values():
        for row in split:
            assert mark_names(row["text"], row["head"], row["tail"]) == row["marked"]


def test_types_stand_before_the_names_or_in_their_place():
    typed = "@ * person * Gail Penn @ is paid by # ^ company ^ Radio Fjord #."
    assert mark_names(TEXT, GAIL, FJORD, types=WORDS) == typed
    assert mark_names(TEXT, GAIL, FJORD, types=WORDS, names=False) == "@ person @ is paid by # company #."


def test_the_head_may_stand_second_and_names_may_touch():
    assert mark_names(TEXT, FJORD, GAIL) == "# Gail Penn # is paid by @ Radio Fjord @."
    assert mark_names("AB", (1, 2), (0, 1)) == "# A #@ B @"


@pytest.mark.parametrize(
    ("head", "tail", "options", "message"),
    [
        ((0, 0), (21, 32), {}, "head="),
        ((0, 9), (21, 99), {}, "tail=.*33 characters"),
        ((0, 9, "PER", 1), (21, 32), {}, "head="),
        ((0, 9), (5, 12), {}, "overlap"),
        ((0, 9), (0, 9), {}, "overlap"),
        ((0, 9), (21, 32), {"types": WORDS}, "start, end, type"),
        ((0, 9, "LOC"), (21, 32, "ORG"), {"types": WORDS}, r"\['ORG', 'PER'\]"),
        ((0, 9), (21, 32), {"names": False}, "names=False"),
        ((0.0, 9), (21, 32), {}, r"head\[0\]=0.0 .* an integer"),
        ((0, 9), (21, "32"), {}, r"tail\[1\]='32' .* an integer"),
    ],
)
def test_what_is_no_pair_of_names_is_refused(head, tail, options, message):
    with pytest.raises(ValueError, match=message):
        mark_names(TEXT, head, tail, **options)


@pytest.mark.parametrize("mark", ["@", "#"])
def test_a_text_with_a_mark_of_its_own_is_refused(mark):
    with pytest.raises(ValueError, match=f"text=.*without '{mark}'"):
        mark_names(f"{TEXT} Write to penn{mark}fjord.", GAIL, FJORD)


def test_candidates_do_not_overlap():
    bank, leeds, again = Entity(0, 13, "ORG"), Entity(8, 13, "LOC"), Entity(17, 22, "LOC")  # Bank of Leeds in Leeds
    assert candidate_pairs([bank, leeds]) == []
    assert candidate_pairs([bank, leeds, again], {("ORG", "LOC")}) == [(bank, again)]
    assert candidate_pairs([Entity(0, 1, "LOC"), Entity(1, 2, "LOC")]) != []


def test_candidates_are_ordered_pairs_of_allowed_types():
    names = [GAIL, FJORD, Entity(40, 44, "ORG")]
    assert len(candidate_pairs(names)) == 6
    assert candidate_pairs(names, {("PER", "ORG")}) == [(GAIL, names[1]), (GAIL, names[2])]
    assert candidate_pairs(names, {("ORG", "ORG")}) == [(names[1], names[2]), (names[2], names[1])]
    assert candidate_pairs([GAIL]) == []
