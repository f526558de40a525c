"""The bundled set `messages`: what its card says, and that a bag of words does not solve it."""

import re
from collections import Counter

import numpy as np
import pytest
from sets import SPLITS, card_text, figures, members_of_pairs, row_of_table, shared_runs, similar_texts
from sklearn.metrics import f1_score

from companion import load_dataset
from companion.studies.tasks import new_baseline

CARD = card_text("messages")
NUMBER = re.compile(r"\+?\d[\d -]{8,}\d")
FICTION = re.compile(r"07700 900|020 7946 0|01632 960|0161 496 0|555")  # ranges of Ofcom and of North America


@pytest.fixture(scope="module")
def messages():
    return load_dataset("messages")


@pytest.fixture(scope="module")
def rows(messages):
    return [row | {"split": split} for split in SPLITS for row in messages[split]]


@pytest.mark.parametrize("split", SPLITS)
def test_the_card_counts_what_is_there(messages, split):
    labels, paired = Counter(messages[split]["label"]), sum(pair is not None for pair in messages[split]["pair"])
    assert row_of_table(CARD, split) == [len(messages[split]), labels["ham"], labels["spam"], paired]
    assert set(labels) == {"ham", "spam"} and 0.3 < labels["spam"] / len(messages[split]) < 0.4


def test_the_card_describes_the_rows(rows):
    lengths = [len(row["text"].split()) for row in rows]
    assert figures(CARD, "# short messages") == [len(rows)]
    assert figures(CARD, "`text` (# to # words") == [min(lengths), max(lengths)]
    assert figures(CARD, "# messages without any link") == [
        sum(row["label"] == "spam" and ".example" not in row["text"] for row in rows)
    ]
    for row in rows:
        assert row["text"].startswith("Subject: ") == ("\n" in row["text"]) == (row["channel"] == "mail")


def test_every_channel_brings_both_labels_to_every_split(rows):
    counts = Counter((row["split"], row["channel"], row["label"]) for row in rows)
    assert len(counts) == 3 * 3 * 2 and min(counts.values()) >= 4


def test_contrast_pairs_are_two_of_opposite_labels_in_one_split(rows):
    pairs = members_of_pairs(rows, "split", "channel", "label")
    assert figures(CARD, "In # contrast pairs") == [len(pairs)]
    for pair in pairs:
        assert len(pair) == 2 and pair[0][:2] == pair[1][:2] and pair[0][2] != pair[1][2]


def test_no_text_occurs_twice_or_nearly_so(rows):
    texts = [row["text"] for row in rows]
    assert len(texts) == len({text.lower() for text in texts})
    for i, j in similar_texts(texts):
        assert rows[i]["pair"] is not None and rows[i]["pair"] == rows[j]["pair"], (rows[i], rows[j])
    train, test = ([row["text"] for row in rows if row["split"] == split] for split in ("train", "test"))
    assert shared_runs(train, test) == set()


def test_domains_and_telephone_numbers_belong_to_nobody(rows):
    for row in rows:
        for domain in re.findall(r"\b[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b", row["text"]):
            assert domain.endswith(".example") or domain == "Scan_0551.htm", row
        assert all(FICTION.search(number) for number in NUMBER.findall(row["text"])), row


def test_the_baselines_of_the_card(messages):
    train, test = messages["train"], messages["test"]
    truth, in_pair = np.array(test["label"]), np.array([pair is not None for pair in test["pair"]])
    found = new_baseline("bag_of_words").fit(train["text"], train["label"]).predict(test["text"])
    parts = np.ones(len(truth), bool), in_pair, ~in_pair
    every, paired, others = (100 * (found == truth)[part].mean() for part in parts)
    of_spam = 100 * f1_score(truth, found, pos_label="spam")
    stated = figures(
        CARD,
        "Always `ham`: #% right, F1 of `spam` 0.0. A bag of words: #% right, F1 #; "
        "#% right in contrast pairs, #% on the others.",
    )
    assert [100 * (truth == "ham").mean(), every, of_spam, paired, others] == pytest.approx(stated, abs=0.06)
