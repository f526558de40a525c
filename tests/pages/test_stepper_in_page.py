"""The attention that the reader moves: its numbers are Python's, by mouse, by keyboard, on a phone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from companion.model.attention import scaled_dot_product_attention
from tests.pages.site import opened

pytestmark = pytest.mark.slow

NAME = "book/attention/by_hand.html"
COMPUTE = """async (cases) => {
  const { attend } = await import(document.querySelector("script[src*='stepper.js']").src);
  return cases.map(attend);
}"""


stepper = opened(NAME, ".as-live")


def cells(page: Page, column: int) -> list[str]:
    """Return the numbers of a column of the table, counted from 1."""
    return page.locator(f".as-table td:nth-child({column + 1})").all_inner_texts()


def at_step(page: Page, number: int) -> None:
    page.get_by_role("radio", name=f"{number} ").click()


def test_a_step_at_a_time_shows_what_was_worked_on_paper(stepper: Page):
    assert cells(stepper, 1) == ["2", "4", "1"]
    assert cells(stepper, 2) == ["", "", ""]
    expect(stepper.locator(".as-said")).to_have_text(
        "The query of bank times each key. For river: (1 · 0 + 2 · 2) = 4."
    )
    seen = []
    for _ in range(5):
        stepper.get_by_role("button", name="Next step").click()
        seen.append(stepper.locator(".as-said").inner_text())
    assert cells(stepper, 3) == ["4.1133", "16.9188", "2.0281"]
    assert cells(stepper, 4) == ["0.1784", "0.7337", "0.0879"]
    assert "23.0602" in seen[2]
    assert seen[4].endswith("= 3.3794, and 0.1784 · 0 + 0.7337 · 0 + 0.0879 · 2 = 0.1759.")
    assert stepper.get_by_role("button", name="Next step").is_disabled()


def test_the_numbers_are_those_of_python_for_any_keys_masks_and_factors(stepper: Page):
    random = np.random.default_rng(0)
    cases = []
    for _ in range(100):
        query, keys, values = random.normal(size=2), random.normal(size=(5, 2)), random.normal(size=(5, 2))
        seen = random.random(5) < 0.7
        seen[random.integers(5)] = True
        case = {"query": query, "keys": keys, "values": values, "seen": seen, "factor": random.uniform(0, 4)}
        cases.append({name: getattr(value, "tolist", lambda value=value: value)() for name, value in case.items()})
    for case, answer in zip(cases, stepper.evaluate(COMPUTE, cases), strict=True):
        query, keys, values = (torch.tensor(case[name], dtype=torch.float64) for name in ("query", "keys", "values"))
        mask = torch.tensor(case["seen"])[None]
        output, weights = scaled_dot_product_attention(case["factor"] * query[None], keys, values, mask)
        np.testing.assert_allclose(answer["weights"], weights[0], atol=1e-12)
        np.testing.assert_allclose(answer["output"], output[0], atol=1e-12)


def test_a_hidden_key_leaves_the_sum_and_none_left_is_said(stepper: Page):
    at_step(stepper, 5)
    stepper.get_by_label("river", exact=True).uncheck()
    assert cells(stepper, 4) == ["0.6698", "0", "0.3302"]
    assert cells(stepper, 1)[1] == "hidden"
    for name in ("muddy", "bank"):
        stepper.locator(".as-controls").get_by_label(name, exact=True).uncheck()
    expect(stepper.locator(".as-said")).to_contain_text("Every key is hidden")
    assert cells(stepper, 4) == ["–", "–", "–"]
    stepper.get_by_role("button", name="Start again").click()
    at_step(stepper, 5)
    assert cells(stepper, 4) == ["0.1784", "0.7337", "0.0879"]


def test_no_temperature_gives_equal_weights_and_another_token_can_look(stepper: Page):
    at_step(stepper, 5)
    stepper.locator(".as-controls input[type=range]").fill("0")
    assert cells(stepper, 4) == ["0.3333"] * 3
    stepper.get_by_role("button", name="Start again").click()
    at_step(stepper, 5)
    stepper.get_by_label("Who looks").select_option("river")
    assert cells(stepper, 4)[2] == "0.0454"


def test_a_key_moves_by_mouse_and_by_keyboard(stepper: Page):
    key = stepper.get_by_role("button", name="Key of muddy")
    key.focus()
    for press in ("ArrowUp", "ArrowUp", "ArrowRight", "ArrowLeft"):
        stepper.keyboard.press(press)
    assert key.get_attribute("aria-label").startswith("Key of muddy at 0, 1.5;")
    assert cells(stepper, 1)[0] == "3"
    box = key.locator("rect").bounding_box()
    unit = stepper.locator(".as-plane svg").first.bounding_box()["width"] / 6
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    stepper.mouse.move(x, y)
    stepper.mouse.down()
    stepper.mouse.move(x + unit, y - unit, steps=4)
    stepper.mouse.up()
    assert key.get_attribute("aria-label").startswith("Key of muddy at 1, 2.5;")
    assert cells(stepper, 1)[0] == "6"


def test_it_fits_a_phone_and_axe_finds_nothing_serious(context: BrowserContext, address: str):
    page = context.browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(f"{address}/{NAME}")
    page.wait_for_selector(".as-live")
    at_step(page, 6)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    found = Axe().run(page, context="attention-stepper").response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
    page.close()
