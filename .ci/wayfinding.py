"""Sphinx extension: where a page stands, and the ways between chapters, glossary and references."""

from __future__ import annotations

import re
from collections import Counter
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.style.formatting.alpha import Style as AlphaStyle
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx

from search_index import parts

GLOSSARY, REFERENCES, BACK = "book/glossary", "book/references", "Back matter"
CHINESE = re.compile(r"<dd><p>\(([^()]*[\u4e00-\u9fff][^()]*)\)")
TERM = re.compile(r"(<dt id=\"(term-[^\"]+)\">.*?</dt>\s*<dd>)(.*?)(\n?</dd>)", re.DOTALL)
CITATION = re.compile(r"(<div class=\"citation\" id=\"([^\"]+)\"[^>]*>)(.*?)(\n</div>)", re.DOTALL)
SENT_TO = re.compile(r"href=\"[^\"]*?(glossary|references)\.html#([^\"]+)\"")


class AuthorYear(BaseLabelStyle):
    """Labels as the text cites: "Devlin et al., 2019"."""

    def format_labels(self, sorted_entries: list[Entry]) -> list[str]:
        """Return the label of each entry; equal ones get a letter."""
        labels = [label(entry) for entry in sorted_entries]
        often, seen = Counter(labels), Counter()
        for place, one in enumerate(labels):
            if often[one] > 1:
                labels[place] = one + "abcdefgh"[seen[one]]
                seen[one] += 1
        return labels


def label(entry: Entry) -> str:
    """Return the label of one entry."""
    people = entry.persons.get("author") or entry.persons.get("editor") or []
    names = [" ".join([*person.prelast_names, *person.last_names]) for person in people]
    who = {0: entry.fields.get("title", entry.key), 1: "".join(names), 2: " and ".join(names)}
    plain = who.get(len(names), f"{names[0] if names else ''} et al.")
    return re.sub(r"[{}\\]", "", f"{plain}, {entry.fields.get('year', 'undated')}")


class BookStyle(AlphaStyle):
    """The references in the order of their authors, with labels that are found by eye."""

    default_label_style = "author_year"


def numbers(app: Sphinx) -> dict[str, int]:
    """Return the number of each chapter."""
    chapters = [name for name, part in parts(app).items() if part != BACK]
    return {name: number for number, name in enumerate(chapters, 1)}


def place(app: Sphinx, page: str) -> str:
    """Return where a page stands: "Chapter 4 › Pre-training", or the part of the back matter."""
    part, number = parts(app).get(page, ""), numbers(app).get(page)
    above = ['<a href="{}">API reference</a>'.format(app.builder.get_relative_uri(page, "book/api"))]
    steps = [f"Chapter {number}"] if number else []
    return " › ".join([escape(part), *(above if page.startswith("book/api/") else steps)])


def say_where(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Put the way to a page above its title, and the parts of its neighbours beside their titles."""
    if doctree is None or page not in parts(app):
        return
    context["body"] = context["body"].replace("<h1>", f'<p class="crumbs">{place(app, page)}</p>\n<h1>', 1)
    for side, name in zip(("prev", "next"), neighbours(app, page), strict=True):
        if context.get(side) and name in parts(app):
            part = parts(app)[name]
            context[f"{side}_title"] = f'<span class="prev-next-part">{escape(part)}</span> {context[side]["title"]}'


def neighbours(app: Sphinx, page: str) -> list[str | None]:
    """Return the names of the page before and of the page after."""
    _, before, after = app.env.collect_relations().get(page, [None, None, None])
    return [before, after]


def uses(app: Sphinx) -> dict[str, list[str]]:
    """Return the pages that link to each term and to each reference, in the order of the book."""
    found: dict[str, list[str]] = {}
    for name in numbers(app):
        text = Path(app.outdir, app.builder.get_target_uri(name)).read_text(encoding="utf-8")
        for _, anchor in SENT_TO.findall(text):
            if name not in found.setdefault(anchor, []):
                found[anchor].append(name)
    return found


def links(app: Sphinx, names: list[str], page: str) -> str:
    """Return links to pages by their titles."""
    shown = [(app.builder.get_relative_uri(page, name), app.env.titles[name].astext()) for name in names]
    return ", ".join(f'<a href="{address}">{escape(title)}</a>' for address, title in shown)


def with_letters(text: str) -> str:
    """Return the glossary with a bar of letters above it, each leading to the first term that begins with it."""
    first: dict[str, str] = {}
    for anchor in re.findall(r"<dt id=\"(term-[^\"]+)\"", text):
        letter = anchor.removeprefix("term-").lstrip("-")[:1].upper()
        first.setdefault(letter if letter.isalpha() else "0-9", anchor)
    bar = " ".join(f'<a href="#{anchor}">{letter}</a>' for letter, anchor in sorted(first.items()))
    return re.sub(
        r"(<dl class=\"[^\"]*glossary)", rf'<nav class="letters" aria-label="Letters">{bar}</nav>\n\1', text, count=1
    )


def link_back(app: Sphinx, error: Exception | None) -> None:
    """Finish the glossary and the references: letters, languages, and the pages that terms and sources are used on."""
    if error is not None or app.builder.format != "html":
        return
    used = uses(app)
    file = Path(app.outdir, app.builder.get_target_uri(GLOSSARY))
    text = CHINESE.sub(r'<dd><p>(<span lang="zh">\1</span>)', file.read_text(encoding="utf-8"))

    def introduced(term: re.Match[str]) -> str:
        pages = used.get(term[2], [])[:1]
        note = f'<p class="used-in">First on: {links(app, pages, GLOSSARY)}</p>' if pages else ""
        return f"{term[1]}{term[3]}{note}{term[4]}"

    file.write_text(with_letters(TERM.sub(introduced, text)), encoding="utf-8")
    file = Path(app.outdir, app.builder.get_target_uri(REFERENCES))

    def cited(source: re.Match[str]) -> str:
        pages = used.get(source[2], [])
        note = f'\n<p class="used-in">Cited on: {links(app, pages, REFERENCES)}</p>' if pages else ""
        return f"{source[1]}{source[3]}{note}{source[4]}"

    file.write_text(CITATION.sub(cited, file.read_text(encoding="utf-8")), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the style of the references and the hooks."""
    register_plugin("pybtex.style.labels", "author_year", AuthorYear)
    register_plugin("pybtex.style.formatting", "book", BookStyle)
    app.connect("html-page-context", say_where, priority=950)
    app.connect("build-finished", link_back, priority=840)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
