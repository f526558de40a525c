"""The square in which the reader hides cells: its weights are Python's, by mouse, by keyboard, on a phone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from tests.pages.site import opened

pytestmark = pytest.mark.slow

NAME = "book/attention/masks.html"
COMPUTE = """async (cases) => {
  const { weigh } = await import(document.querySelector("script[src*='mask_grid.js']").src);
  return cases.map(weigh).map((row) => row.map((weight) => (Number.isNaN(weight) ? "NaN" : weight)));
}"""
FILLS = {"lowest": torch.finfo(torch.float64).min, "infinity": -math.inf}


grid = opened(NAME, ".mg-live")


def row(page: Page, query: str) -> list[str]:
    """Return the weights of a query, and their sum."""
    cells = page.locator(f".mg-table tr:has(th[scope=row]:text-is('{query}')) td")
    return cells.all_inner_texts()


def cell(page: Page, query: str, key: str):
    return page.get_by_role("button", name=f"{query} looks at {key}:")


def test_padding_is_hidden_at_a_press_and_the_rows_are_those_on_paper(grid: Page):
    assert row(grid, "bank") == ["0.175", "0.718", "0.086", "0.021", "1.000"]
    grid.get_by_role("button", name="hide padding").click()
    assert row(grid, "bank") == ["0.178", "0.734", "0.088", "0.000", "1.000"]
    grid.get_by_role("button", name="hide what comes later").click()
    assert row(grid, "muddy") == ["1.000", "0.000", "0.000", "0.000", "1.000"]


def test_a_row_without_a_key_shows_what_each_number_does(grid: Page):
    for key in ("muddy", "river", "bank", "[PAD]"):
        cell(grid, "bank", key).click()
    assert row(grid, "bank") == ["0.250"] * 4 + ["1.000"]
    expect(grid.locator(".mg-said")).to_contain_text("plain average")
    grid.get_by_label("Hide by").select_option("infinity")
    assert row(grid, "bank") == ["NaN"] * 5
    grid.get_by_label("Hide by").select_option("added")
    assert row(grid, "bank") == ["0.175", "0.718", "0.086", "0.021", "1.000"]
    expect(grid.locator(".mg-said")).to_contain_text("cancels")


def test_the_weights_are_those_of_python_for_any_scores_and_masks(grid: Page):
    random = np.random.default_rng(0)
    cases = [
        {"scores": random.normal(0, 9, 5).tolist(), "seen": (random.random(5) < 0.5).tolist(), "way": way}
        for way in ("lowest", "infinity", "added")
        for _ in range(40)
    ]
    for case, found in zip(cases, grid.evaluate(COMPUTE, cases), strict=True):
        scores, hidden = torch.tensor(case["scores"], dtype=torch.float64), ~torch.tensor(case["seen"])
        added = case["way"] == "added"
        masked = scores - 1e4 * hidden if added else scores.masked_fill(hidden, FILLS[case["way"]])
        np.testing.assert_allclose([float(one) for one in found], masked.softmax(-1), atol=1e-10)


def test_arrows_move_and_the_space_bar_hides(grid: Page):
    cell(grid, "muddy", "muddy").focus()
    for press in ("ArrowDown", "ArrowDown", "ArrowRight", "Space"):
        grid.keyboard.press(press)
    assert cell(grid, "bank", "river").get_attribute("aria-pressed") == "true"
    assert row(grid, "bank")[1] == "0.000"


def test_it_fits_a_phone_and_axe_finds_nothing_serious(context: BrowserContext, address: str):
    page = context.browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(f"{address}/{NAME}")
    page.wait_for_selector(".mg-live")
    page.get_by_role("button", name="hide padding").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    found = Axe().run(page, context="mask-grid").response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
    page.close()
