"""Sphinx extension: the search of the book, in place of that of Sphinx.

`search.json` holds the sections of the chapters, the terms of the glossary and the objects of the
package, without code; `book/_static/search.js` ranks them in the reader's browser.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from lists import by_page, lines

WORDS = "search_words.txt"
API = "book/api"
# What a reader does not search for: code, what code prints, formulas on their own lines.
LEFT_OUT = (nodes.literal_block, nodes.raw, nodes.math_block, nodes.comment, nodes.title, nodes.image, addnodes.index)
# Sections that name much and explain little: they are found by their titles alone, so that the file stays light.
ASIDE = ("Exercises", "Further reading")
# References whose words are not known before the page is written.
UNNAMED = {"p": "", "t": "the authors", "numref": "the figure", "eq": "the equation"}
TEX = [
    (re.compile(r"\\(left|right|mathrm|mathbf|text|operatorname|,|;|!|quad)"), ""),
    (re.compile(r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}"), r"\1/\2"),
    (re.compile(r"\\(cdot|times)\b"), "×"),
    (re.compile(r"\\"), ""),
    (re.compile(r"[{}]"), ""),
]


def parts(app: Sphinx) -> dict[str, str]:
    """Return the name of the part that each page stands in."""
    site_map = app.env.external_site_map
    found: dict[str, str] = {}
    for tree in site_map[site_map.root.docname].subtrees:
        waiting = [str(item) for item in tree.items]
        for page in waiting:
            found[page] = tree.caption or ""
            waiting += [str(item) for below in site_map[page].subtrees for item in below.items]
    return found


def plain(node: nodes.Node) -> str:
    """Return the text of a node as a reader sees it, without code and formulas on their own lines."""
    if isinstance(node, nodes.Text):
        return node.astext()
    if isinstance(node, LEFT_OUT) or node.get("nb_element") in ("cell_code_source", "mime_bundle"):
        return ""
    if isinstance(node, nodes.math):
        return readable(node.astext())
    if isinstance(node, addnodes.pending_xref) and node["reftype"] in UNNAMED:
        return UNNAMED[node["reftype"]]
    text = "".join(plain(child) for child in node.children)
    return text if isinstance(node, nodes.TextElement) and not isinstance(node, nodes.paragraph) else f"{text} "


def readable(tex: str) -> str:
    """Return a short formula without its commands: `ln 2` for `\\ln 2`."""
    for pattern, instead in TEX:
        tex = pattern.sub(instead, tex)
    return tex


def squeezed(text: str) -> str:
    """Return `text` with single spaces."""
    return " ".join(text.split())


def sections(doctree: nodes.document) -> Iterator[tuple[str, str, str]]:
    """Yield anchor, title and own text of each section."""
    for section in doctree.findall(nodes.section):
        own = [
            child
            for child in section.children
            if not isinstance(child, (nodes.section, addnodes.desc, addnodes.glossary))
        ]
        title = squeezed(section.next_node(nodes.title).astext())
        top = isinstance(section.parent, nodes.document)
        text = "" if title in ASIDE else squeezed(" ".join(plain(child) for child in own))
        yield "" if top else section["ids"][0], title, text


def terms(doctree: nodes.document) -> Iterator[tuple[str, str, str]]:
    """Yield anchor, name and definition of each term of a glossary."""
    for glossary in doctree.findall(addnodes.glossary):
        for item in glossary.findall(nodes.definition_list_item):
            named = [child for child in item.children if isinstance(child, nodes.term)]
            yield named[0]["ids"][0], ", ".join(term.astext() for term in named), squeezed(plain(item.children[-1]))


def objects(doctree: nodes.document) -> Iterator[tuple[str, str, str]]:
    """Yield anchor, full name and first paragraph of each object of the package."""
    for described in doctree.findall(addnodes.desc):
        signature = described.next_node(addnodes.desc_signature)
        first = described.children[-1].next_node(nodes.paragraph)
        if signature["ids"]:
            yield signature["ids"][0], signature["ids"][0], squeezed(plain(first)) if first else ""


def entries(app: Sphinx) -> tuple[list[list[str]], list[list[Any]]]:
    """Return the pages, and what can be found on them: number of the page, kind, anchor, title, text.

    A page is its address, its title, its part and what it is about.
    """
    part_of, about = parts(app), by_page(WORDS)
    if unknown := about.keys() - part_of.keys():
        raise ExtensionError(f"{WORDS} names pages that are not in _toc.yml: {', '.join(sorted(unknown))}")
    pages, found = [], []
    for name in [str(app.config.root_doc), *part_of]:
        doctree = app.env.get_doctree(name)
        number = len(pages)
        pages.append(
            [
                app.builder.get_target_uri(name),
                app.env.titles[name].astext(),
                part_of.get(name, ""),
                about.get(name, ""),
            ]
        )
        kind = "object" if name.startswith(API) else "section"
        found += [[number, kind, *one] for one in sections(doctree)]
        found += [[number, "term", *one] for one in terms(doctree)]
        found += [[number, "object", *one] for one in objects(doctree)]
    return pages, found


def synonyms() -> list[list[str]]:
    """Read the groups of words that mean the same to whoever searches."""
    return [[word.strip() for word in line.split("=")] for line in lines("synonyms.txt")]


def without_searchindex(app: Sphinx) -> None:
    """Let Sphinx write no index of its own."""
    if app.builder.format == "html":
        app.builder.search = False


def search_page(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Add the page that shows all results."""
    yield "search", {"title": "Search"}, "search.html"


def write_index(app: Sphinx, error: Exception | None) -> None:
    """Write `search.json` into the site."""
    if error is None and app.builder.format == "html":
        pages, found = entries(app)
        index = {"pages": pages, "entries": found, "synonyms": synonyms()}
        text = json.dumps(index, ensure_ascii=False, separators=(",", ":"))
        Path(app.outdir, "search.json").write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the page, its script and the index."""
    app.connect("builder-inited", without_searchindex)
    app.connect("html-collect-pages", search_page)
    app.connect("build-finished", write_index)
    app.add_js_file("search.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
