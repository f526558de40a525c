"""The bundled set `headlines`: what its card says, and that a bag of words cannot solve it."""

from collections import Counter, defaultdict

import pytest
from sets import SPLITS, card_text, figures, row_of_table, shared_runs, similar_texts

from companion import load_dataset
from companion.studies.tasks import new_baseline

CARD = card_text("headlines")
LABELS = ("positive", "neutral", "negative")


@pytest.fixture(scope="module")
def headlines():
    return load_dataset("headlines")


@pytest.fixture(scope="module")
def rows(headlines):
    return [row | {"split": split} for split in SPLITS for row in headlines[split]]


@pytest.mark.parametrize("split", SPLITS)
def test_the_card_counts_what_is_there(headlines, split):
    labels = Counter(headlines[split]["label"])
    grouped = sum(pair is not None for pair in headlines[split]["pair"])
    assert row_of_table(CARD, split) == [len(headlines[split]), *(labels[name] for name in LABELS), grouped]
    assert set(labels) == set(LABELS)


def test_the_card_describes_the_rows(rows):
    lengths = sorted(len(row["text"].split()) for row in rows)
    assert figures(CARD, "# short English headlines") == [len(rows)]
    assert figures(CARD, "`text` (# to # words)") == [lengths[0], lengths[-1]]
    texts = Counter(row["text"] for row in rows)
    assert figures(CARD, "# rows share their text") == [sum(count for count in texts.values() if count > 1)]


def test_a_headline_stands_once_for_a_company_which_it_names(rows):
    assert len({(row["text"].lower(), row["company"]) for row in rows}) == len(rows)
    for row in rows:
        first = row["company"].split()[0].rstrip("s").lower()
        assert first in row["text"].lower(), row


def test_groups_are_in_one_split_and_have_more_than_one_label(rows):
    groups = defaultdict(list)
    for row in rows:
        if row["pair"] is not None:
            groups[row["pair"]].append(row)
    assert figures(CARD, "In # contrast groups") == [len(groups)]
    assert {len(group) for group in groups.values()} <= {2, 3, 4}
    assert all(len({row["split"] for row in group}) == 1 for group in groups.values())
    assert sum(len({row["label"] for row in group}) == 1 for group in groups.values()) <= 5


def test_what_is_alike_is_in_one_group_and_splits_share_no_run_of_words(rows):
    for i, j in similar_texts([row["text"] for row in rows]):
        assert rows[i]["pair"] is not None and rows[i]["pair"] == rows[j]["pair"], (rows[i], rows[j])
    parts = {split: [row["text"] for row in rows if row["split"] == split] for split in SPLITS}
    assert shared_runs(parts["train"], parts["test"]) == set()


def test_a_bag_of_words_scores_what_the_card_says(headlines):
    train, test = headlines["train"], headlines["test"]
    commonest = Counter(train["label"]).most_common(1)[0][0]
    accuracy = 100 * sum(label == commonest for label in test["label"]) / len(test)
    assert [accuracy] == pytest.approx(figures(CARD, "label of the train split: #%"), abs=0.06)

    def scores(text_of, parts):
        model = new_baseline("bag_of_words").fit([text_of(row) for row in train], train["label"])
        return [100 * model.score([text_of(row) for row in part], [row["label"] for row in part]) for part in parts]

    every = list(test)
    parts = every, [row for row in every if row["pair"]], [row for row in every if not row["pair"]]
    stated = figures(CARD, "of the headline: #% on all rows, #% in contrast groups, #% on the others")
    assert scores(lambda row: row["text"], parts) == pytest.approx(stated, abs=0.06)
    joined = figures(CARD, "of headline and company, joined: #%")
    assert scores(lambda row: f"{row['text']} {row['company']}", [every]) == pytest.approx(joined, abs=0.06)
