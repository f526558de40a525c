"""The catalogue: what it says of each set can be looked up, and agrees with what is bundled."""

from __future__ import annotations

from companion.data.catalogue import CATALOGUE, KINDS, SPLITS, card_of
from companion.data.labelled import BUNDLED, bundled_names, load_dataset, texts_and_labels


def test_every_bundled_set_has_a_card_that_fits_its_columns_and_licence():
    for name in bundled_names():
        card, found = CATALOGUE[name], load_dataset(name)
        for split in found.values():
            assert {*card.texts, card.label} <= set(split.column_names)
        assert f"**Licence.** {card.licence}" in (BUNDLED / name / "README.md").read_text(encoding="utf-8")
        assert card.hub is None


def test_every_card_is_of_a_known_kind_and_can_be_found():
    for name, card in CATALOGUE.items():
        assert card.kind in KINDS and card.scores and card.licence and card.source
        assert card.analyzer in ("word", "char")
        assert set(card.hub_splits) <= set(SPLITS)
        assert name in bundled_names() or (card.hub and "train" in card.hub_splits), name
        assert (card.positive is not None) == ("f1" in card.scores and card.kind == "single")


def test_the_reviews_need_no_column_options():
    card = CATALOGUE["reviews"]
    texts, labels = texts_and_labels(load_dataset("reviews")["test"], card.texts, card.label)
    assert len(texts) == len(labels) == 392 and set(labels) == {"positive", "negative"}


def test_a_card_is_found_by_name_or_by_the_folder_of_that_name():
    assert card_of("rte") is card_of("/data/tasks/rte") is CATALOGUE["rte"]
    assert card_of("retreat") is None
