"""Sphinx extension: what the theme leaves unnamed or malformed for screen readers, put right in the built pages."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

FOLDED_PAGES = re.compile(r">([^<>]+)</a><details([^>]*)><summary>")
PARAMETERS = re.compile(r"<dl>\n((?:<dd><em class=\"sig-param\">.*</dd>\n)+)</dl>")
EMPTY_HEADER = re.compile(r"<th(?P<class>(?: class=\"[^\"]*\")?)>(?:<p></p>)?</th>")
SIDEBAR = '<div id="pst-primary-sidebar" class="bd-sidebar-primary bd-sidebar">'


def signature_lines(listed: re.Match[str]) -> str:
    """Return the parameters of a signature, each on a line, without a list of definitions that defines nothing."""
    lines = listed[1].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")
    return f'<span class="sig-lines">\n{lines}</span>'


def mended(page: str) -> str:
    """Return a page on which every control has a name and every list is one."""
    page = FOLDED_PAGES.sub(r'>\1</a><details\2><summary aria-label="Pages below \1">', page)
    page = PARAMETERS.sub(signature_lines, page)
    page = EMPTY_HEADER.sub(r"<td\g<class>></td>", page)
    page = page.replace(SIDEBAR, SIDEBAR.replace(">", ' role="region" aria-label="Sidebar">'))
    return page.replace('role="doc-biblioentry"', 'role="listitem"')


def mend(app: Sphinx, error: Exception | None) -> None:
    """Mend every page of the built site."""
    if error is not None or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        page.write_text(mended(page.read_text(encoding="utf-8")), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the hook."""
    app.connect("build-finished", mend, priority=850)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
