"""The browser that looks at the built book, and the server that it looks at."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "no Chromium on the path; install it (apt-get install chromium) or set CHROMIUM to its program"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, *arguments: object) -> None:
        pass


def chromium_program() -> Path | None:
    """Return the browser's program: `$CHROMIUM`, or one found on the path; None if there is none."""
    names = (os.environ.get("CHROMIUM"), *NAMES)
    found = [path for name in names if name and (path := shutil.which(name))]
    return Path(found[0]) if found else None


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine and yield its address: modules do not load from `file://`."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
