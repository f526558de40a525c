"""Where the built book lies, and how the tests open it."""

from __future__ import annotations

from pathlib import Path

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PATIENCE = 120_000  # milliseconds, for busy machines; nothing here depends on being fast
DESKTOP = {"width": 1280, "height": 900}
