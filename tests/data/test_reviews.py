"""The bundled set `reviews`: what its card says, and that a bag of words cannot solve it."""

import re
from collections import Counter

import pytest
from sets import SPLITS, card_text, members_of_pairs, row_of_table, similar_texts

from companion import load_dataset
from companion.studies.tasks import new_baseline

CARD = card_text("reviews")


@pytest.fixture(scope="module")
def reviews():
    return load_dataset("reviews")


@pytest.fixture(scope="module")
def bag_of_words(reviews):
    model = new_baseline("bag_of_words")
    return model.fit(reviews["train"]["text"], reviews["train"]["label"])


def score(model, rows) -> float:
    return 100 * model.score([row["text"] for row in rows], [row["label"] for row in rows])


@pytest.mark.parametrize("split", SPLITS)
def test_the_card_counts_what_is_there(reviews, split):
    rows = reviews[split]
    labels = Counter(rows["label"])
    counts = [len(rows), labels["positive"], labels["negative"], sum(pair is not None for pair in rows["pair"])]
    assert row_of_table(CARD, split) == counts


def test_no_text_occurs_twice_and_lengths_are_as_said(reviews):
    texts = [text for split in SPLITS for text in reviews[split]["text"]]
    assert len(texts) == len({text.lower() for text in texts}) >= 1000
    assert {len(text.split()) for text in texts} <= set(range(8, 36))


def test_contrast_pairs_are_two_of_opposite_labels_in_one_split(reviews):
    rows = [row | {"split": split} for split in SPLITS for row in reviews[split]]
    pairs = members_of_pairs(rows, "split", "kind", "label")
    assert len(pairs) == 180
    for pair in pairs:
        assert len(pair) == 2
        assert pair[0][:2] == pair[1][:2]
        assert {label for *_, label in pair} == {"positive", "negative"}


def test_no_two_reviews_outside_a_pair_are_near_duplicates(reviews):
    rows = [row for split in SPLITS for row in reviews[split]]
    for i, j in similar_texts([row["text"] for row in rows]):
        assert rows[i]["pair"] is not None and rows[i]["pair"] == rows[j]["pair"], (rows[i], rows[j])


def test_the_topic_does_not_give_the_label_away(reviews):
    for split, tolerance in (("train", 4), ("test", 4)):
        counts = Counter(zip(reviews[split]["kind"], reviews[split]["label"], strict=True))
        for kind in set(reviews[split]["kind"]):
            assert abs(counts[kind, "positive"] - counts[kind, "negative"]) <= tolerance


def test_a_bag_of_words_scores_what_the_card_says(reviews, bag_of_words):
    pairs = [row for row in reviews["test"] if row["pair"] is not None]
    others = [row for row in reviews["test"] if row["pair"] is None]
    measured = [score(bag_of_words, rows) for rows in (reviews["test"], pairs, others)]
    stated = re.search(r"([\d.]+)% on all rows, ([\d.]+)% on the contrast pairs, ([\d.]+)% on the others", CARD)
    assert measured == pytest.approx([float(figure) for figure in stated.groups()], abs=0.06)
    assert measured[0] < 85
    assert 40 < measured[1] < 60
