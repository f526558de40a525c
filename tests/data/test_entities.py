"""The bundled set `entities`: what its card says, and that a list of names cannot solve it."""

import re
from collections import Counter, defaultdict

import pytest
from sets import SPLITS, card_text, figures, row_of_table, shared_runs, similar_texts

from companion import load_dataset
from companion.finetuning.metrics import entity_scores
from companion.finetuning.tags import Entity, check_iob2, entities_of, tags_of
from companion.studies.baselines import WordTagger

CARD = card_text("entities")
TYPES = ("PER", "ORG", "LOC", "MISC")


@pytest.fixture(scope="module")
def sentences():
    return load_dataset("entities")


def text(row) -> str:
    return " ".join(row["tokens"])


@pytest.mark.parametrize("split", SPLITS)
def test_the_card_counts_what_is_there(sentences, split):
    rows = sentences[split]
    types = Counter(entity.type for tags in rows["ner_tags"] for entity in entities_of(tags))
    without = sum(set(tags) == {"O"} for tags in rows["ner_tags"])
    counts = [len(rows), sum(map(len, rows["tokens"])), without, *(types[kind] for kind in TYPES)]
    assert row_of_table(CARD, split) == counts
    assert set(types) == set(TYPES)


def test_every_word_has_a_tag_and_the_tags_are_iob2(sentences):
    for split in SPLITS:
        for row in sentences[split]:
            assert len(row["tokens"]) == len(row["ner_tags"])
            assert all(word and word == word.strip() and " " not in word for word in row["tokens"])
            check_iob2(row["ner_tags"], text(row))


def test_the_card_names_every_genre_and_all_are_in_both_large_parts(sentences):
    stated = re.search(r"`genre`, one of ([\w, \n]+)[;.]", CARD).group(1)
    for split in ("train", "test"):
        assert set(re.split(r",\s+", stated)) == set(sentences[split]["genre"])


def test_no_sentence_occurs_twice_or_nearly_so(sentences):
    texts = {split: [text(row) for row in sentences[split]] for split in SPLITS}
    together = [one for split in SPLITS for one in texts[split]]
    assert [(together[i], together[j]) for i, j in similar_texts(together)] == []
    assert shared_runs(texts["train"], texts["test"]) == set()


def test_words_have_other_tags_elsewhere(sentences):
    """More than thirty words have two types, or a type and none."""
    found = defaultdict(set)
    for split in SPLITS:
        for row in sentences[split]:
            for word, tag in zip(row["tokens"], row["ner_tags"], strict=True):
                found[word.lower()].add(tag[2:] or "O")
    names = [word for word, kinds in found.items() if len(kinds) > 1 and kinds & set(TYPES) and word.isalpha()]
    assert len(names) > 30
    assert {"LOC", "ORG"} <= found["amazon"] and {"PER", "LOC"} <= found["georgia"] and "O" in found["turkey"]


def by_list(known: dict[tuple[str, ...], str], words: list[str]) -> list[str]:
    """Tag the longest known names, from the left."""
    found, start = [], 0
    while start < len(words):
        ends = [end for end in range(len(words), start, -1) if tuple(words[start:end]) in known]
        if ends:
            found.append(Entity(start, ends[0], known[tuple(words[start : ends[0]])]))
        start = ends[0] if ends else start + 1
    return tags_of(found, len(words))


def test_the_baselines_of_the_card(sentences):
    train, test = sentences["train"], sentences["test"]
    truth = test["ner_tags"]
    nothing = [["O"] * len(tags) for tags in truth]
    names = defaultdict(Counter)
    for words, tags in zip(train["tokens"], train["ner_tags"], strict=True):
        for start, end, kind in entities_of(tags):
            names[tuple(words[start:end])][kind] += 1
    known = {name: max(sorted(kinds), key=kinds.get) for name, kinds in names.items()}
    guessed = WordTagger().fit(train["tokens"], train["ner_tags"]).predict(test["tokens"])
    systems = nothing, [by_list(known, words) for words in test["tokens"]], guessed
    measured = [100 * entity_scores(truth, predicted).f1 for predicted in systems]
    stated = figures(
        CARD,
        "Always `O`: #. The names of the training part, longest first: #. "
        "Logistic regression on every word, its shape and its neighbours: #.",
    )
    assert measured == pytest.approx(stated, abs=0.06)
    right = [a == b for one, other in zip(truth, nothing, strict=True) for a, b in zip(one, other, strict=True)]
    assert figures(CARD, "`O` is right for #% of the words") == pytest.approx([100 * sum(right) / len(right)], abs=0.06)
