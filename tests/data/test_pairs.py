"""The bundled set `pairs`: what its card says, and that one sentence alone gives no relation away."""

import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from sets import SPLITS, card_text, figures, row_of_table, shared_runs, similar_texts

from companion import load_dataset
from companion.studies.pairs import control_answers
from companion.studies.tasks import TASKS

CARD = card_text("pairs")
RELATIONS = ("paraphrase", "entailment", "contradiction", "neutral")


@pytest.fixture(scope="module")
def pairs():
    return load_dataset("pairs")


def together(row) -> str:
    return f"{row['first']} {row['second']}"


@pytest.mark.parametrize("split", SPLITS)
def test_the_card_counts_what_is_there(pairs, split):
    rows = pairs[split]
    counts = Counter(rows["relation"])
    assert row_of_table(CARD, split) == [len(rows), len(set(rows["group"])), *(counts[name] for name in RELATIONS)]
    assert set(counts) == set(RELATIONS)


def test_a_group_is_four_pairs_of_four_relations_that_share_one_sentence(pairs):
    groups = defaultdict(list)
    for split in SPLITS:
        for row in pairs[split]:
            groups[row["group"]].append((split, row["kind"], row["relation"], row["first"], row["second"]))
    assert len(groups) == 240
    for name, rows in groups.items():
        split, kind, relation, first, second = (set(column) for column in zip(*rows, strict=True))
        assert len(split) == len(kind) == 1 and relation == set(RELATIONS)
        assert (len(first), len(second)) == ((1, 4) if name.startswith("first-") else (4, 1))


def test_every_kind_is_in_every_part_and_both_forms_are_equally_frequent(pairs):
    stated = set(re.split(r",\s+", re.search(r"`kind`, one of ([\w,\s]+)[:;.]", CARD).group(1)))
    for split in SPLITS:
        counts = Counter((row["kind"], row["group"].split("-")[0]) for row in pairs[split])
        assert {kind for kind, _ in counts} == stated
        assert all(counts[kind, "first"] == counts[kind, "second"] for kind in stated)


def test_no_sentence_occurs_in_two_groups_nor_nearly_so(pairs):
    rows = [row for split in SPLITS for row in pairs[split]]
    holders = defaultdict(set)
    for row in rows:
        assert row["first"].lower() != row["second"].lower()
        for text in (row["first"], row["second"]):
            assert text == text.strip() and text[-1] in ".!?"
            holders[text.lower()].add(row["group"])
    assert len(holders) == 5 * 240 and all(len(groups) == 1 for groups in holders.values())
    for i, j in similar_texts([together(row) for row in rows]):
        assert rows[i]["group"] == rows[j]["group"], (rows[i], rows[j])
    train, test = ([together(row) for row in pairs[split]] for split in ("train", "test"))
    assert shared_runs(train, test) == set()


def test_the_baselines_of_the_card(pairs):
    train, (texts, truth) = (TASKS["pairs"].rows(pairs[part]) for part in ("train", "test"))
    measured = [100 * max(Counter(truth).values()) / len(truth)]
    for control in ("both texts", "shared words", "second alone", "first alone"):
        measured.append(100 * (control_answers(control, train, texts) == np.array(truth)).mean())
    stated = figures(
        CARD,
        "Always the same relation: #. Both sentences: #. Four numbers about shared words and lengths, and no word: #. "
        "The second sentence alone: #. The first sentence alone: #.",
    )
    assert measured == pytest.approx(stated, abs=0.06)


def test_no_negation_gives_a_relation_away(pairs):
    """Each relation has its share of the second sentences that deny something."""
    rows = [row for split in SPLITS for row in pairs[split]]
    denial = re.compile(r"\b(?:no|not|never|none|nobody|nothing|neither|nor|cannot|without)\b|n't\b", re.IGNORECASE)
    counts = Counter(row["relation"] for row in rows if denial.search(row["second"]))
    assert all(0.18 < counts[name] / sum(counts.values()) < 0.32 for name in RELATIONS), counts
