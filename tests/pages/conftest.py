"""A browser, and the built book served to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

from browser import served
from tests.pages.site import DESKTOP, FLAGS, HTML, PATIENCE


@pytest.fixture(scope="module")
def address(unavailable: Callable[[str], None]) -> Iterator[str]:
    """Serve the built book on this machine: modules do not load from `file://`."""
    if not (HTML / "index.html").is_file():
        unavailable("the book is not built; run make book")
    with served(HTML) as address:
        yield address


@pytest.fixture(scope="module")
def context(chromium: Path) -> Iterator[BrowserContext]:
    """One browser for all pages, so that what they share is loaded once."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=FLAGS, timeout=PATIENCE)
        context = browser.new_context(viewport=DESKTOP, reduced_motion="reduce")
        context.set_default_timeout(PATIENCE)
        context.add_init_script("localStorage.setItem('mode', 'light'); localStorage.setItem('theme', 'light')")
        yield context
        browser.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = context.new_page()
    yield page
    page.close()
