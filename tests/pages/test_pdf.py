"""The book on paper: one file, its chapters under their parts."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

import book_pdf

pytestmark = pytest.mark.slow


def test_chapters_follow_one_another_under_their_parts(page: Page, address: str, monkeypatch: pytest.MonkeyPatch):
    first, *others = book_pdf.chapters()
    chosen = [one for one in others if one[0].endswith(("by_hand.html", "scaling.html", "notation.html"))]
    monkeypatch.setattr(book_pdf, "chapters", lambda: chosen)
    book = book_pdf.bind(page, address)
    assert first[1] == "A BERT companion"
    (attention, chapters, back, rest) = book.outline
    assert (attention["/Title"], back["/Title"]) == ("Attention", "Back matter")
    assert [one["/Title"] for one in chapters + rest] == [title for _, title, _ in chosen]
    starts = [book.get_destination_page_number(one) for one in chapters + rest]
    assert starts[0] == 0
    for start, (_, title, _) in zip(starts, chosen, strict=True):
        assert title.split(":")[0] in " ".join(book.pages[start].extract_text().split())


def test_no_page_of_the_api_is_printed():
    addresses = [address for address, _, _ in book_pdf.chapters()]
    assert "book/finetuning/recipe.html" in addresses
    assert not any("/api" in address for address in addresses)
