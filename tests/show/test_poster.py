"""BERT on one page: its numbers are those of the network, its links lead to pages that exist."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from companion import BertConfig, BertForPreTraining
from companion.show.poster import OF_FOLDER, PLACES, count_weights, miniature, parts_of, poster

BOOK = Path(__file__).resolve().parents[2] / "book"


def test_the_weights_are_those_of_the_book_s_own_bert():
    model = BertForPreTraining.from_pretrained("mini")
    counts = count_weights(BertConfig.preset("mini", vocab_size=8192))
    assert counts["all"] == sum(weight.numel() for weight in model.parameters())
    assert counts["layer"] == counts["attention"] + counts["feed-forward"] + 4 * 256


def test_the_numbers_of_bert_base_are_those_of_the_paper():
    assert round(count_weights(BertConfig.preset("base"))["all"] / 1e6) == 110


def test_every_part_leads_to_a_page_that_exists():
    root = ET.fromstring(poster(lambda page: f"{page}.html")._repr_svg_())
    links = {part.attrib["href"] for part in root.iter("{http://www.w3.org/2000/svg}a")}
    assert links == {f"{place[-1]}.html" for place in PLACES.values()}
    assert all((BOOK / link.replace(".html", ".ipynb")).is_file() for link in links)


def test_without_links_it_is_a_picture():
    svg = poster()._repr_svg_()
    assert "<a " not in svg
    assert re.search(r">5,529,\d\d\d|5,529,\d\d\d weights", svg)


def test_a_miniature_fills_the_parts_that_a_page_is_about():
    svg = miniature("pretraining/masking")._repr_svg_()
    assert svg.count("85%") == 1
    assert miniature("model/encoder")._repr_svg_().count("85%") == 1
    assert miniature("model/embeddings")._repr_svg_().count("85%") == 1
    assert 'aria-label="Where this page is in BERT: masked words"' in svg
    assert "<text" not in svg


def test_a_page_without_a_part_of_its_own_takes_that_of_its_folder_or_none():
    assert parts_of("pretraining/ablations") == parts_of("pretraining/train") == ["pre-training"]
    assert miniature("background/context") is None
    assert set(OF_FOLDER.values()) <= set(PLACES)
