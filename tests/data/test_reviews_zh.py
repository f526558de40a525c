"""The bundled set `reviews_zh`: what its card says, and that a bag of characters does not solve it."""

import unicodedata
from collections import Counter

import pytest
from sets import SPLITS, card_text, figures, members_of_pairs, row_of_table, shared_runs, similar_texts

from companion import load_dataset
from companion.data.catalogue import CATALOGUE
from companion.studies.tasks import TASKS, Task, baseline_scores, new_baseline

CARD = card_text("reviews_zh")
KINDS = {"restaurant", "hotel", "book", "device", "film", "course"}


@pytest.fixture(scope="module")
def reviews():
    return load_dataset("reviews_zh")


@pytest.fixture(scope="module")
def rows(reviews):
    return [row | {"split": split} for split in SPLITS for row in reviews[split]]


@pytest.mark.parametrize("split", SPLITS)
def test_the_card_counts_what_is_there(reviews, split):
    labels, paired = Counter(reviews[split]["label"]), sum(pair is not None for pair in reviews[split]["pair"])
    assert row_of_table(CARD, split) == [len(reviews[split]), labels["positive"], labels["negative"], paired]
    assert set(labels) == {"positive", "negative"}


def test_the_card_describes_the_rows(rows):
    lengths = [len(row["text"]) for row in rows]
    assert figures(CARD, "# reviews in simplified Chinese") == [len(rows)]
    assert figures(CARD, "`text` (# to # characters)") == [min(lengths), max(lengths)]
    texts = " ".join(row["text"] for row in rows)
    assert all(sign in texts for sign in ("IP68", "91%", "饕餮", "龘", "地毯黏脚，我穿着鞋睡的。"))


def test_texts_are_normal_chinese_without_spaces(rows):
    for row in rows:
        text = row["text"]
        assert text == unicodedata.normalize("NFC", text) == text.strip() and " " not in text
        assert sum("\u4e00" <= character <= "\u9fff" for character in text) > len(text) / 4


def test_the_kind_does_not_give_the_label_away(rows):
    for split, least in (("train", 8), ("test", 20)):
        counts = Counter((row["kind"], row["label"]) for row in rows if row["split"] == split)
        assert {kind for kind, _ in counts} == KINDS
        for kind in KINDS:
            both = counts[kind, "positive"], counts[kind, "negative"]
            assert sum(both) >= least and abs(both[0] - both[1]) <= 2


def test_contrast_pairs_are_two_of_opposite_labels_in_one_split(rows):
    pairs = members_of_pairs(rows, "split", "kind", "label")
    assert figures(CARD, "In # contrast pairs") == [len(pairs)]
    for pair in pairs:
        assert len(pair) == 2 and pair[0][:2] == pair[1][:2] and pair[0][2] != pair[1][2]


def test_no_text_occurs_twice_or_nearly_so_by_its_characters(rows):
    texts = [row["text"] for row in rows]
    assert len(texts) == len(set(texts))
    for i, j in similar_texts(texts, 0.4, analyzer="char", ngram_range=(2, 2)):
        assert rows[i]["pair"] is not None and rows[i]["pair"] == rows[j]["pair"], (rows[i], rows[j])
    train, test = ([row["text"] for row in rows if row["split"] == split] for split in ("train", "test"))
    assert shared_runs(train, test, unit=r"\w") == set()


def test_words_between_spaces_would_miss_what_characters_find():
    texts = ["这家店的汤很好喝，下次还来。", "这家店的汤很好喝，下次再来！", "书很厚。"]
    assert list(similar_texts(texts)) == []
    assert list(similar_texts(texts, analyzer="char", ngram_range=(2, 2))) == [(0, 1)]
    assert shared_runs(texts[:1], texts[1:]) == set()
    assert shared_runs(texts[:1], texts[1:], unit=r"\w") >= {tuple("这家店的汤很")}


def test_a_bag_of_characters_scores_what_the_card_says(reviews):
    train, test = reviews["train"], list(reviews["test"])
    model = new_baseline("bag_of_words", analyzer=CATALOGUE["reviews_zh"].analyzer)
    model.fit(train["text"], train["label"])
    parts = test, [row for row in test if row["pair"]], [row for row in test if not row["pair"]]
    measured = [100 * model.score([row["text"] for row in part], [row["label"] for row in part]) for part in parts]
    stated = figures(CARD, "A bag of characters: #% on all rows, #% in contrast pairs, #% on the others.")
    assert measured == pytest.approx(stated, abs=0.06)


def test_the_study_of_tasks_counts_characters_where_the_catalogue_says_so(monkeypatch):
    monkeypatch.setitem(TASKS, "reviews_zh", Task(CATALOGUE["reviews_zh"]))
    stated = figures(CARD, "A bag of characters: #% on all rows")
    assert [100 * baseline_scores("reviews_zh", "bag_of_words")["accuracy"]] == pytest.approx(stated, abs=0.06)
