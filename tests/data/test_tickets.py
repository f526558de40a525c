"""The bundled set `tickets`: what its card says, and that a bag of words does not solve it."""

import re
from collections import Counter

import numpy as np
import pytest
from sets import SPLITS, card_text, figures, row_of_table, shared_runs, similar_texts
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer

from companion import load_dataset
from companion.studies.tasks import new_baseline

CARD = card_text("tickets")
OUT = "out_of_scope"


@pytest.fixture(scope="module")
def tickets():
    return load_dataset("tickets")


def listed(heading: str) -> list[str]:
    """Return the names that the card defines, `- `name`: ...`, under a heading in bold."""
    part = CARD.split(f"**{heading}.**")[1].split("\n**")[0]
    return re.findall(r"^- `(\w+)`", part, re.MULTILINE)


@pytest.mark.parametrize("split", SPLITS)
def test_the_card_counts_what_is_there(tickets, split):
    rows = tickets[split]
    out = sum(label == OUT for label in rows["label"])
    several = sum(len(topics) > 1 for topics in rows["topics"])
    assert row_of_table(CARD, split) == [len(rows), len(rows) - out, out, several]


def test_the_card_defines_every_label_and_every_topic(tickets):
    for split in SPLITS:
        assert set(tickets[split]["label"]) == {*listed("The labels"), OUT}
        assert {topic for topics in tickets[split]["topics"] for topic in topics} <= set(listed("The topics"))
    assert len(listed("The labels")) == 16 and len(listed("The topics")) == 12


def test_intents_are_equally_frequent_and_a_seventh_of_the_test_part_is_out_of_scope(tickets):
    for split in SPLITS:
        counts = Counter(tickets[split]["label"])
        out = counts.pop(OUT)
        assert max(counts.values()) == min(counts.values())
        assert split != "test" or 0.13 < out / len(tickets[split]) < 0.17


def test_a_request_speaks_of_up_to_three_topics_and_one_without_is_out_of_scope(tickets):
    counts = Counter()
    for split in SPLITS:
        for row in tickets[split]:
            assert len(set(row["topics"])) == len(row["topics"]) <= 3
            assert row["topics"] or row["label"] == OUT
            counts.update(row["topics"])
    assert min(counts.values()) < 20 < 200 < max(counts.values())


def test_no_text_occurs_twice_or_nearly_so(tickets):
    texts = [text for split in SPLITS for text in tickets[split]["text"]]
    assert len(texts) == len({text.lower() for text in texts})
    assert [(texts[i], texts[j]) for i, j in similar_texts(texts)] == []
    assert shared_runs(tickets["train"]["text"], tickets["test"]["text"]) == set()


def test_the_baselines_of_the_card(tickets):
    train, test = tickets["train"], tickets["test"]
    model = new_baseline("bag_of_words").fit(train["text"], train["label"])
    found, truth = model.predict(test["text"]), np.array(test["label"])
    measured = [100 * max(Counter(truth).values()) / len(truth), 100 * (found == truth).mean()]
    measured += [100 * (found == truth)[part].mean() for part in (truth != OUT, truth == OUT)]
    stated = figures(
        CARD,
        "Always `out_of_scope`: #% right. A bag of words: #% right, #% of the intents and #% of what is out of scope.",
    )
    assert measured == pytest.approx(stated, abs=0.06)


def test_the_topic_baselines_of_the_card(tickets):
    train, test = tickets["train"], tickets["test"]
    columns = MultiLabelBinarizer().fit(train["topics"])
    words, predictor = new_baseline("bag_of_words")
    model = make_pipeline(words, OneVsRestClassifier(predictor))
    found = model.fit(train["text"], columns.transform(train["topics"])).predict(test["text"])
    truth = columns.transform(test["topics"])
    commonest = np.zeros_like(truth)
    commonest[:, truth.sum(axis=0).argmax()] = 1
    measured = [
        100 * f1_score(truth, predicted, average=average, zero_division=0)
        for predicted in (commonest, found)
        for average in ("micro", "macro")
    ]
    stated = figures(CARD, "always `product`: micro F1 #, macro F1 #; a bag of words, one model a topic: # and #.")
    assert measured == pytest.approx(stated, abs=0.06)
