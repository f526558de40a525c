"""Tags in IOB2: what they write down, what they allow, how they are scored."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval import metrics as seqeval

from companion.finetuning.metrics import entity_scores
from companion.finetuning.tags import (
    Entity,
    allowed,
    as_iob2,
    best_tags,
    check_iob2,
    entities_of,
    tags_of,
    words_of_spans,
)

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
sequences = st.lists(st.sampled_from(TAGS), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        (["O", "O"], []),
        (["B-PER"], [(0, 1, "PER")]),
        (["B-PER", "I-PER", "B-PER"], [(0, 2, "PER"), (2, 3, "PER")]),
        (["B-PER", "I-LOC", "O"], [(0, 1, "PER"), (1, 2, "LOC")]),
        (["I-LOC", "I-LOC"], [(0, 2, "LOC")]),
        ([], []),
        (["O", "B-a-b", "I-a-b"], [(1, 3, "a-b")]),
    ],
)
def test_entities(tags: list[str], found: list[tuple]):
    assert entities_of(tags) == found


@given(sequences)
def test_entities_and_tags_are_inverse_where_tags_are_iob2(tags: list[str]):
    entities = entities_of(tags)
    written = tags_of(entities, len(tags))
    assert entities_of(written) == entities
    check_iob2(written, "tags")


@settings(deadline=None)
@given(st.lists(st.tuples(sequences, st.randoms(use_true_random=False)), min_size=1, max_size=5))
def test_entity_scores_are_those_of_seqeval(drawn: list):
    truth = [tags for tags, _ in drawn]
    predicted = [[random.choice([tag, *TAGS]) for tag in tags] for tags, random in drawn]
    got = entity_scores(truth, predicted)
    options = {"zero_division": 0}
    assert got.precision == pytest.approx(seqeval.precision_score(truth, predicted, **options))
    assert got.recall == pytest.approx(seqeval.recall_score(truth, predicted, **options))
    assert got.f1 == pytest.approx(seqeval.f1_score(truth, predicted, **options))


def test_entity_scores_by_hand():
    truth = [["B-PER", "I-PER", "O"], ["B-LOC", "O", "B-LOC"]]
    predicted = [["B-PER", "O", "O"], ["B-LOC", "O", "B-PER"]]  # one of three right, one of three found
    assert entity_scores(truth, predicted) == pytest.approx((1 / 3, 1 / 3, 1 / 3))


@pytest.mark.parametrize(
    ("tags", "iob2"),
    [
        (["I-PER", "I-PER", "O", "I-LOC"], ["B-PER", "I-PER", "O", "B-LOC"]),  # IOB1
        (["I-PER", "B-PER", "I-PER"], ["B-PER", "B-PER", "I-PER"]),
        (["B-PER", "I-PER", "E-PER", "S-LOC"], ["B-PER", "I-PER", "I-PER", "B-LOC"]),  # IOBES
        (["B-PER", "L-PER", "U-LOC", "O"], ["B-PER", "I-PER", "B-LOC", "O"]),  # BILOU
        (["B-PER", "I-PER"], ["B-PER", "I-PER"]),
    ],
)
def test_other_schemes(tags: list[str], iob2: list[str]):
    assert as_iob2(tags) == iob2


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["O", "I-PER"], r"y\[3\]\[1\]='I-PER' follows 'O'.*as_iob2"),
        (["B-LOC", "I-PER"], r"y\[3\]\[1\]='I-PER' follows 'B-LOC'"),
        (["I-PER"], r"y\[3\]\[0\]='I-PER' follows 'O'"),
        (["NOUN"], r"y\[3\]\[0\]='NOUN' is not allowed.*scheme=None"),
        (["B-"], r"y\[3\]\[0\]='B-' is not allowed"),
        ([3], r"y\[3\]\[0\]=3 is not allowed"),
    ],
)
def test_what_is_not_iob2(tags: list, message: str):
    with pytest.raises(ValueError, match=message):
        check_iob2(tags, "y[3]")


@pytest.mark.parametrize("words", [1, 2, 4])
def test_the_best_sequence_is_the_best_of_all_that_are_allowed(words: int):
    random = np.random.default_rng(words)
    for _ in range(20):
        scores = np.log(random.dirichlet(np.ones(len(TAGS)), size=words))

        def total(places: tuple[int, ...], scores: np.ndarray = scores) -> float:
            return sum(row[place] for row, place in zip(scores, places, strict=True))

        def fits(places: tuple[int, ...]) -> bool:
            tags = ["O", *(TAGS[place] for place in places)]
            return all(allowed(a, b) for a, b in itertools.pairwise(tags))

        best = max(filter(fits, itertools.product(range(len(TAGS)), repeat=words)), key=total)
        assert best_tags(scores, TAGS) == [TAGS[place] for place in best]


def test_the_best_sequence_of_no_words_is_empty():
    assert best_tags(np.zeros((0, 5)), TAGS) == []


def test_spans_are_words():
    offsets = [(0, 4), (5, 10), (10, 11)]
    assert words_of_spans([Entity(5, 11, "A"), Entity(0, 4, "B")], offsets, "y[0]") == [(0, 1, "B"), (1, 3, "A")]


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(1, 4, "A")], r"y\[0\] holds \(1, 4, 'A'\), which does not begin and end with a word"),
        ([(0, 3, "A")], "does not begin and end"),
        ([(5, 4, "A")], "does not begin and end"),
        ([(0, 10, "A"), (5, 10, "B")], "overlaps"),
    ],
)
def test_spans_that_are_not_words(spans: list, message: str):
    with pytest.raises(ValueError, match=message):
        words_of_spans([Entity(*span) for span in spans], [(0, 4), (5, 10)], "y[0]")
