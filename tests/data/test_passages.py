"""The bundled set `passages`: what its card says, where the answers stand, and that counting words cannot solve it."""

import numpy as np
import pytest
from sets import SPLITS, card_text, figures, row_of_table, shared_runs, similar_texts

from companion import load_dataset
from companion.data.labelled import texts_and_labels
from companion.finetuning.answers import answer_f1, exact_match, read_answers
from companion.finetuning.overlap import overlap_answer, overlapping_sentence

CARD = card_text("passages")


@pytest.fixture(scope="module")
def passages():
    return load_dataset("passages")


def paragraphs(rows) -> list[str]:
    return list(dict.fromkeys(rows["context"]))


@pytest.mark.parametrize("split", SPLITS)
def test_the_card_counts_what_is_there(passages, split):
    rows = passages[split]
    answers = [row["text"] for row in rows["answers"]]
    counts = [len(rows), len(paragraphs(rows)), sum(not one for one in answers), sum(map(len, answers))]
    assert row_of_table(CARD, split) == counts
    assert len(set(rows["title"])) == counts[1]


def test_the_card_adds_up(passages):
    rows = sum(len(passages[split]) for split in SPLITS)
    texts = [text for split in SPLITS for text in paragraphs(passages[split])]
    assert figures(CARD, "# English questions on # paragraphs") == [rows, len(texts)]
    lengths = sorted(len(text.split()) for text in texts)
    assert 40 <= lengths[0] and lengths[-1] <= 140
    assert figures(CARD, "the paragraph (# to # words)") == [lengths[0], lengths[-1]]


@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_stands_where_it_is_said_to_and_ends_at_words(passages, split):
    items = list(zip(passages[split]["question"], passages[split]["context"], strict=True))
    for (_, text), answers in zip(items, read_answers("y", passages[split]["answers"], items), strict=True):
        assert len(answers) == len(set(answers)) <= (1 if split == "train" else 3)
        for one in answers:
            around = text[max(0, one.start - 1) : one.start], text[one.end : one.end + 1]
            assert one.text == one.text.strip() and not any(mark.isalnum() for mark in around), one


def test_gold_answers_of_a_question_overlap(passages):
    """They are extents of one answer: each shares a word with the first, up to a handful that put it in other words."""
    rows = [row for split in SPLITS for row in passages[split] if len(row["answers"]["text"]) > 1]
    apart = [
        row["id"]
        for row in rows
        if any(answer_f1(one, row["answers"]["text"][:1]) == 0 for one in row["answers"]["text"])
    ]
    assert len(apart) <= 0.1 * len(rows), apart


def test_about_a_fifth_has_no_answer_in_every_split(passages):
    for split in SPLITS:
        assert np.mean([not row["text"] for row in passages[split]["answers"]]) == pytest.approx(0.2, abs=0.02)


def test_nothing_is_twice_and_splits_share_no_paragraph_or_run_of_words(passages):
    texts = [text for split in SPLITS for text in paragraphs(passages[split])]
    questions = [question for split in SPLITS for question in passages[split]["question"]]
    ids = [name for split in SPLITS for name in passages[split]["id"]]
    assert len(set(ids)) == len(ids) and len(set(texts)) == len(texts)
    assert len({question.lower() for question in questions}) == len(questions)
    assert list(similar_texts(texts)) == []
    test, train = passages["test"], passages["train"]
    assert shared_runs(paragraphs(test), paragraphs(train)) == set()
    assert len(shared_runs(test["question"], train["question"])) <= 3


def test_counting_words_scores_what_the_card_says(passages):
    items, labels = texts_and_labels(passages["test"], ("question", "context"), "answers")
    gold = [row["text"] for row in labels]

    def scores(reader):
        found = [reader(*item) for item in items]
        return [
            100 * np.mean([score(*pair) for pair in zip(found, gold, strict=True)])
            for score in (exact_match, answer_f1)
        ]

    def stated(pattern):
        return pytest.approx(figures(CARD, pattern), abs=0.06)

    assert scores(lambda question, text: "") == stated('Always "no answer": # and #.')
    assert scores(overlapping_sentence) == stated("rare words counting more, as a whole: # and #.")
    assert scores(overlap_answer) == stated("else the whole: # and #")
    held = [
        any(one in overlapping_sentence(*item) for one in ones) for item, ones in zip(items, gold, strict=True) if ones
    ]
    assert [100 * np.mean(held)] == stated("holds a gold answer for #% of")
