"""The built pages in a browser: they load nothing from elsewhere, render, fit a telephone and can be read.

Every page is opened once; the tests read what was found there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from tests.pages.site import DESKTOP, HTML

pytestmark = pytest.mark.slow

TELEPHONE = {"width": 390, "height": 844}
RAW_MATH = re.compile(r"\$[^$\n]*\\[a-z]+[^$\n]*\$|\\\(|\\\[")

FORMULAS_STAND = "window.MathJax?.startup?.promise"
COUNT = "selector => document.querySelectorAll(selector).length"
PROSE = """() => {
  const article = document.querySelector('article')?.cloneNode(true);
  article?.querySelectorAll('pre, code, mjx-container').forEach(node => node.remove());
  return article?.textContent ?? '';
}"""
PICTURES = """() => [...document.querySelectorAll('article img, article svg.picture')].map(image => [
  image.alt ?? image.getAttribute('aria-label'), (image.naturalWidth ?? image.viewBox.baseVal.width) > 0,
  Boolean(image.closest('figure')?.querySelector('figcaption')?.textContent)])"""
# A page repeats its few colours of code thousands of times; three of each kind are enough to judge them.
THIN_OUT = """() => {
  const seen = {};
  for (const node of document.querySelectorAll('.highlight span[class], mjx-container')) {
    seen[node.className] = (seen[node.className] ?? 0) + 1;
    if (seen[node.className] > 3) node.remove();
  }
}"""


@dataclass
class Visit:
    """What was found on one page."""

    complaints: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    formulas: int = 0
    rendered: int = 0
    broken: int = 0
    prose: str = ""
    pictures: list[tuple[str, bool, bool]] = field(default_factory=list)
    telephone_width: int = 0
    unreadable: dict[str, list[str]] = field(default_factory=dict)


def page_names() -> list[str]:
    """List the built pages, but for the page at the root, which leads on, and that for wrong addresses."""
    pages = (path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html") if "_static" not in path.parts)
    return sorted(name for name in pages if name not in ("index.html", "404.html"))


@pytest.fixture(scope="module")
def visited() -> dict[str, Visit]:
    """Every page that has been opened so far."""
    return {}


@pytest.fixture
def visit(context: BrowserContext, address: str, visited: dict[str, Visit], name: str) -> Visit:
    """What is found on the page `name`."""
    if name not in visited:
        page = context.new_page()
        visited[name] = examine(page, address, name)
        page.close()
    return visited[name]


def examine(page: Page, address: str, name: str) -> Visit:
    """Open the page `name` on a desktop, on a telephone, in light and in dark; note all that the tests ask about."""
    found = Visit()
    listen(page, address, found)
    page.goto(f"{address}/{name}")
    wait_until_rendered(page)
    found.formulas, found.rendered, found.broken = (
        page.evaluate(COUNT, selector) for selector in (".math", ".math mjx-container", "mjx-merror, .error-icon")
    )
    found.prose, found.pictures = page.evaluate(PROSE), page.evaluate(PICTURES)
    page.set_viewport_size(TELEPHONE)
    wait_until_rendered(page)
    found.telephone_width = page.evaluate("document.documentElement.scrollWidth")
    page.evaluate(THIN_OUT)
    found.unreadable["telephone"] = unreadable(page, ["scrollable-region-focusable"])
    page.set_viewport_size(DESKTOP)
    for theme in ("light", "dark"):
        page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
        wait_until_rendered(page)
        found.unreadable[theme] = unreadable(page, [] if theme == "light" else ["color-contrast"])
    return found


def listen(page: Page, address: str, found: Visit) -> None:
    """Note every error of the page, and every request that leaves `address`."""
    at_home = (address, "data:", "blob:")
    page.on("console", lambda said: said.type in ("error", "warning") and found.complaints.append(said.text))
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.on("response", lambda got: got.status >= 400 and found.complaints.append(f"{got.status} {got.url}"))
    page.on("request", lambda sent: sent.url.startswith(at_home) or found.outside.append(sent.url))


def wait_until_rendered(page: Page) -> None:
    """Wait until formulas stand and two frames were drawn."""
    page.evaluate(FORMULAS_STAND)
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def unreadable(page: Page, rules: list[str] | None = None) -> list[str]:
    """Return what axe finds by `rules` (all for none), fetching no style sheet again: which element fails, and why."""
    chosen = {"runOnly": {"type": "rule", "values": rules}} if rules else {}
    violations = Axe().run(page, options={"preload": False} | chosen).response["violations"]
    return [f"{one['id']}: {node['target']} {node['failureSummary']}" for one in violations for node in one["nodes"]]


each_page = pytest.mark.parametrize("name", page_names() or ["book/index.html"])


@pytest.mark.parametrize("name", [name for name in page_names() if "/api/" in name] or ["book/api/model.html"])
def test_a_type_in_a_signature_is_named_as_readers_know_it(name: str, unavailable: Callable[[str], None]):
    if not (HTML / name).is_file():
        unavailable("the book is not built; run make book")
    assert "~companion" not in (HTML / name).read_text(encoding="utf-8"), "Sphinx could not read the signature"


@each_page
def test_page_loads_without_complaint_and_from_here_alone(visit: Visit):
    assert visit.complaints == []
    assert visit.outside == []


@each_page
def test_formulas_are_rendered(visit: Visit):
    assert visit.rendered >= visit.formulas
    assert visit.broken == 0
    assert RAW_MATH.findall(visit.prose) == []


@each_page
def test_every_picture_is_there_captioned_and_described(visit: Visit):
    assert [picture for picture in visit.pictures if not all(picture)] == []


@each_page
def test_page_fits_a_telephone(visit: Visit):
    assert visit.telephone_width <= TELEPHONE["width"]


@each_page
@pytest.mark.parametrize("shown", ["light", "dark", "telephone"])
def test_page_can_be_read(visit: Visit, shown: str):
    assert visit.unreadable[shown] == []


def test_the_root_leads_to_the_book(page: Page, address: str):
    page.goto(f"{address}/")
    page.wait_for_url("**/book/index.html")
    assert page.locator("article h1").inner_text().startswith("A BERT companion")


def test_what_lies_around_the_book(context: BrowserContext, address: str):
    page = context.new_page()
    page.goto(f"{address}/404.html")
    expect(page.locator("h1")).to_have_text("There is no page here")
    assert page.locator("li a").count() > 10
    assert unreadable(page) == []
    for name in ("index.html", "book/index.html"):
        text = (HTML / name).read_text(encoding="utf-8")
        for needed in ('rel="canonical"', 'name="description"', 'og:image"', "twitter:card"):
            assert needed in text, (name, needed)
    card = (HTML / "_static" / "card.png").read_bytes()
    assert struct.unpack(">II", card[16:24]) == (1200, 630)
    assert "Sitemap: https://" in (HTML / "robots.txt").read_text(encoding="utf-8")
    page.close()


def test_terms_and_sources_lead_back_and_are_labelled():
    glossary = (HTML / "book" / "glossary.html").read_text(encoding="utf-8")
    assert '<span lang="zh">' in glossary
    assert glossary.count('class="used-in"') > 40
    letters = re.search(r'<nav class="letters".*?</nav>', glossary)
    assert letters
    assert all(f'id="{anchor}"' in glossary for anchor in re.findall(r'href="#([^"]+)"', letters[0]))
    references = (HTML / "book" / "references.html").read_text(encoding="utf-8")
    assert "Devlin et al., 2019" in re.sub("<[^>]*>", "", references)
    assert references.count('class="used-in"') > 40


@pytest.mark.parametrize("target", ["glossary.html#term-", "references.html#"])
@pytest.mark.parametrize("way", ["mouse", "keyboard"])
def test_a_card_says_what_a_link_leads_to(page: Page, address: str, target: str, way: str):
    page.goto(f"{address}/book/attention/by_hand.html")
    link = page.locator(f'article a[href*="{target}"]').first
    if way == "mouse":
        link.hover()
    else:
        link.focus()
    expect(page.locator("#card")).to_be_visible()
    assert len(page.locator("#card").inner_text()) > 30
    page.keyboard.press("Escape")
    expect(page.locator("#card")).to_be_hidden()


def test_a_page_says_where_it_stands(page: Page, address: str):
    page.goto(f"{address}/book/pretraining/masking.html")
    expect(page.locator(".crumbs")).to_contain_text("Pre-training")
    expect(page.locator(".crumbs")).to_contain_text("Chapter")
    expect(page.locator(".right-next .prev-next-part")).to_have_text("Pre-training")


def test_the_dark_theme_is_really_dark(page: Page, address: str):
    page.goto(f"{address}/book/index.html")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in re.findall(r"\d+", colour)[:3]) < 80
