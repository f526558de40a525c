"""What a page of the built book weighs on the way to a reader, compressed as GitHub Pages does, without its figures."""

from __future__ import annotations

import gzip
import re

import pytest
from playwright.sync_api import BrowserContext, Page, Response

from tests.pages.site import HTML
from tests.pages.test_book import each_page, wait_until_rendered

pytestmark = pytest.mark.slow

LIMIT = 400_000
FIGURES = (".png", ".jpg", ".webp")
DRAWN = re.compile(r"<svg.*?</svg>", re.DOTALL)
COMPRESSED = (".woff", ".woff2", ".png", ".ico")


def weight(response: Response) -> int:
    """Return the bytes of one answer: what is text is compressed."""
    path = response.url.split("?")[0]
    if path.endswith(FIGURES) or response.status >= 300:
        return 0
    body = response.body()
    if path.endswith(".html"):
        body = DRAWN.sub("", body.decode()).encode()
    return len(body) if path.endswith(COMPRESSED) else len(gzip.compress(body))


def loaded(context: BrowserContext, url: str) -> dict[str, int]:
    """Return the weight of all that a page loads, by its address."""
    page: Page = context.new_page()
    responses: list[Response] = []
    page.on("response", lambda response: responses.append(response))
    page.goto(url)
    wait_until_rendered(page)
    page.wait_for_load_state("networkidle")
    weights = {response.url: weight(response) for response in responses if response.url.startswith("http")}
    page.close()
    return weights


@each_page
def test_a_page_is_light(context: BrowserContext, address: str, name: str):
    weights = loaded(context, f"{address}/{name}")
    heaviest = sorted(weights.items(), key=lambda item: -item[1])[:5]
    assert sum(weights.values()) <= LIMIT, heaviest


@each_page
def test_a_page_loads_formulas_only_where_it_has_them(context: BrowserContext, address: str, name: str):
    text = (HTML / name).read_text(encoding="utf-8")
    assert ("mathjax/" in text) == ('class="math ' in text)


def test_icons_are_drawn_without_a_script(page: Page, address: str):
    page.goto(f"{address}/book/attention/by_hand.html")
    page.evaluate("document.fonts.ready")
    drawn = page.evaluate("""() => [...document.querySelectorAll('[class*="fa-"]')].map(icon => [
        icon.className, getComputedStyle(icon, '::before').content])""")
    assert drawn
    assert [name for name, content in drawn if content in ("none", "normal")] == []
    assert page.evaluate("document.fonts.check('900 16px \"Font Awesome 6 Free\"', '\\uf0c9')")
