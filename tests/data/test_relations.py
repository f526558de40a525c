"""The bundled set `relations`: what its card says, and that neither words nor entities alone give the answer."""

import re
from collections import Counter, defaultdict

import pytest
from sets import SPLITS, card_text, figures, row_of_table, shared_runs, similar_texts
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from companion import load_dataset

CARD = card_text("relations")
BETWEEN = {
    "works_for": {("PER", "ORG")},
    "founded": {("PER", "ORG")},
    "plays_for": {("PER", "ORG")},
    "born_in": {("PER", "LOC")},
    "author_of": {("PER", "WORK")},
    "acquired": {("ORG", "ORG")},
    "located_in": {("ORG", "LOC"), ("LOC", "LOC")},
}


@pytest.fixture(scope="module")
def pairs():
    return load_dataset("relations")


@pytest.mark.parametrize("split", SPLITS)
def test_the_card_counts_what_is_there(pairs, split):
    rows = pairs[split]
    counts = Counter(rows["relation"])
    grouped = sum(group is not None for group in rows["group"])
    stated = [len(rows), len(set(rows["text"])), grouped, *(counts[name] for name in ("none", *BETWEEN))]
    assert row_of_table(CARD, split) == stated


def test_a_relation_holds_between_its_two_types_only(pairs):
    for split in SPLITS:
        for row in pairs[split]:
            types = row["head_type"], row["tail_type"]
            assert row["relation"] == "none" or types in BETWEEN[row["relation"]], row


def test_offsets_are_whole_names_and_the_marks_stand_around_them(pairs):
    for split in SPLITS:
        for row in pairs[split]:
            for mark, (start, end) in (("@", row["head"]), ("#", row["tail"])):
                name = row["text"][start:end]
                assert name == name.strip() and 0 <= start < end <= len(row["text"])
                assert not (row["text"][start - 1 : start].isalnum() or row["text"][end : end + 1].isalnum())
                assert f"{mark} {name} {mark}" in row["marked"]
            assert re.sub(r"([@#]) (.*?) \1", r"\2", row["marked"]) == row["text"]


def test_sentences_and_groups_stay_in_one_split_and_no_pair_comes_twice(pairs):
    rows = [(split, row) for split in SPLITS for row in pairs[split]]
    for key in ("text", "group"):
        splits = defaultdict(set)
        for split, row in rows:
            splits[row[key]].add(split)
        splits.pop(None, None)
        assert all(len(found) == 1 for found in splits.values())
    assert len({(row["text"], *row["head"], *row["tail"]) for _, row in rows}) == len(rows)


def test_every_group_holds_the_same_entities_in_more_than_one_relation(pairs):
    relations = defaultdict(lambda: defaultdict(set))
    for split in SPLITS:
        for row in pairs[split]:
            if row["group"]:
                names = tuple(row["text"][slice(*row[end])] for end in ("head", "tail"))
                relations[row["group"]][names].add(row["relation"])
    assert len(relations) > 50
    assert all(any(len(found) > 1 for found in names.values()) for names in relations.values())


def test_no_sentence_resembles_another_outside_its_group(pairs):
    rows = list({row["text"]: row for split in SPLITS for row in pairs[split]}.values())
    for i, j in similar_texts([row["text"] for row in rows]):
        assert rows[i]["group"] and rows[i]["group"] == rows[j]["group"], (rows[i]["text"], rows[j]["text"])
    assert shared_runs(pairs["train"]["text"], pairs["test"]["text"]) == set()


def most_frequent(train, key):
    """Return a function from a row to the most frequent relation of its key in the training part."""
    counts = defaultdict(Counter)
    for row in train:
        counts[key(row)][row["relation"]] += 1
    return lambda row: max(sorted(counts[key(row)]), key=counts[key(row)].get)


def with_types(row) -> str:
    """Return the marked text with the types of the two entities in the place of their names."""
    text = re.sub(r"@ .*? @", f" @{row['head_type']} ", row["marked"])
    return re.sub(r"# .*? #", f" #{row['tail_type']} ", text)


def words_of(train, view):
    """Return a function from a row to the guess of one- and two-word TF-IDF under a logistic regression."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"[@#]?\w+|[@#]")
    model = make_pipeline(words, LogisticRegression(C=20, max_iter=1000))
    model.fit([view(row) for row in train], train["relation"])
    return lambda row: model.predict([view(row)])[0]


def test_the_baselines_of_the_card(pairs):
    train, test = pairs["train"], list(pairs["test"])
    systems = (
        most_frequent(train, lambda row: None),
        most_frequent(train, lambda row: (row["head_type"], row["tail_type"])),
        words_of(train, lambda row: row["text"]),
        words_of(train, lambda row: row["marked"]),
        words_of(train, with_types),
    )
    grouped = [row for row in test if row["group"]]
    measured = [
        100 * sum(guess(row) == row["relation"] for row in rows) / len(rows)
        for guess in systems
        for rows in (test, grouped)
    ]
    stated = figures(
        CARD,
        "Always `none`: #, #. The most frequent relation of the two types: #, #. A bag of words of the text: #, #; "
        "of the marked text: #, #; with the types in the place of the names: #, #.",
    )
    assert measured == pytest.approx(stated, abs=0.06)
