"""Where the built book lies, and how the tests open it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PATIENCE = 120_000  # milliseconds, for busy machines; nothing here depends on being fast
DESKTOP = {"width": 1280, "height": 900}


def opened(name: str, selector: str) -> Callable[[Page, str], Page]:
    """Return a fixture: the page of this name, once there is something on it that `selector` finds."""

    @pytest.fixture
    def on_page(page: Page, address: str) -> Page:
        page.goto(f"{address}/{name}")
        page.wait_for_selector(selector)
        return page

    return on_page
