"""What the pages do in a browser: claims at their sentences, answers that wait, pictures in the colours of the page."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page

from tests.pages.site import opened

pytestmark = pytest.mark.slow

NAME = "book/attention/by_hand.html"


by_hand = opened(NAME, ".claim-mark")


def test_a_claim_shows_what_was_asserted_at_a_press_and_hides_it_at_the_next(by_hand: Page):
    mark = by_hand.locator(".claim-mark").first
    cell = by_hand.locator(f"[id='{mark.get_attribute('aria-controls')}']")
    assert not cell.is_visible()
    mark.focus()
    by_hand.keyboard.press("Enter")
    assert cell.is_visible()
    assert "claim(" in cell.inner_text()
    assert mark.get_attribute("aria-expanded") == "true"
    mark.click()
    assert not cell.is_visible()


def test_a_mark_says_what_was_claimed(by_hand: Page):
    said = by_hand.locator(".claim-mark").first.get_attribute("aria-label")
    assert re.match(r"Checked: +\w", said)


def test_the_switch_opens_every_check_and_the_browser_remembers_it(by_hand: Page):
    closed = by_hand.locator(".tag_claim:visible").count()
    by_hand.locator(".check-switch").click()
    count = by_hand.locator(".claim-mark").count()
    assert closed == 0
    assert by_hand.locator(".tag_claim:visible").count() == count
    by_hand.reload()
    by_hand.wait_for_selector(".claim-mark")
    assert by_hand.locator(".tag_claim:visible").count() == count
    by_hand.locator(".check-switch").click()
    assert by_hand.locator(".tag_claim:visible").count() == 0


def test_answers_wait_below_their_exercises(by_hand: Page):
    assert by_hand.locator(".exercise").count() == 5
    assert by_hand.locator("details.answer[open]").count() == 0
    assert by_hand.locator("h2:has-text('Solutions')").count() == 0
    first = by_hand.locator(".exercise").first
    hidden = first.locator("details.answer > p").first
    assert not hidden.is_visible()
    first.locator("summary").first.click()
    assert hidden.is_visible()


def test_a_link_to_an_answer_opens_it(page: Page, address: str):
    page.goto(f"{address}/{NAME}#solution-2")
    page.wait_for_selector(".claim-mark")
    assert page.locator("#solution-2").get_attribute("open") is not None


def test_below_the_title_stand_the_time_and_a_way_to_run_the_page(by_hand: Page):
    line = by_hand.locator(".glance")
    assert re.match(r"●○○ first steps\s*\d+ minutes to read", line.inner_text())
    address = line.locator("a").get_attribute("href")
    assert address.startswith("https://colab.research.google.com/github/")
    assert address.endswith("/book/attention/by_hand.ipynb")


def test_pictures_take_the_colours_of_the_theme(by_hand: Page):
    colour = "getComputedStyle(document.querySelector('svg.picture text')).fill"
    by_hand.evaluate("document.documentElement.dataset.theme = 'light'")
    light = by_hand.evaluate(colour)
    by_hand.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert light != by_hand.evaluate(colour)


def test_without_scripts_nothing_is_hidden(context, address: str):
    plain = context.browser.new_context(java_script_enabled=False)
    try:
        page = plain.new_page()
        page.goto(f"{address}/{NAME}")
        assert page.locator(".tag_claim").first.is_visible()
        assert page.locator(".claim-mark").count() == 0
    finally:
        plain.close()


def test_first_answers_count_and_the_browser_remembers_them(page: Page, address: str):
    page.goto(f"{address}/book/quiz.html")
    section = page.locator("section#background")
    score = section.locator(".score")
    assert score.inner_text() == "0 of 4 answered, 0 right at the first try."
    first, second = section.locator(".question").all()[:2]
    first.locator("details.right summary").click()
    second.locator("details.wrong summary").first.click()
    second.locator("details.right summary").click()
    said = "2 of 4 answered, 1 right at the first try. Start again"
    page.wait_for_function("said => document.querySelector('#background .score').textContent === said", arg=said)
    page.reload()
    page.wait_for_selector(".score")
    assert score.inner_text() == said
    assert first.get_attribute("data-first") == "true"
    score.get_by_role("button").click()
    assert score.inner_text() == "0 of 4 answered, 0 right at the first try."


def test_the_first_number_counts_too(page: Page, address: str):
    page.goto(f"{address}/book/quiz.html")
    question = page.locator("section#attention .question.number")
    for given, right in (("0.5", "false"), ("0.73", "false")):
        question.locator("input").fill(given)
        question.get_by_role("button", name="Check").click()
        assert question.get_attribute("data-first") == right
    assert question.locator("[role=status]").inner_text() == "Right."
    page.locator("section#attention .score button").click()
    assert question.get_attribute("data-first") == ""


def test_paper_shows_answers_and_all_six_steps_in_light_and_nothing_to_press(by_hand: Page):
    by_hand.evaluate("document.documentElement.dataset.theme = 'dark'")
    by_hand.emulate_media(media="print")
    by_hand.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert by_hand.locator("html").get_attribute("data-theme") == "light"
    answers = by_hand.locator("details.answer")
    assert [answer.get_attribute("open") is not None for answer in answers.all()] == [True] * 5
    assert by_hand.locator(".as-table td:nth-child(5)").all_inner_texts() == ["0.1784", "0.7337", "0.0879"]
    for hidden in ("#jb-print-toc", ".glance", ".claim-mark", ".as-controls", ".question form", ".bl-start"):
        assert not by_hand.locator(hidden).first.is_visible(), hidden
    by_hand.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert by_hand.locator("details.answer[open]").count() == 0
    assert by_hand.locator("html").get_attribute("data-theme") == "dark"
