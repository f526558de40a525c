"""What this book asks of Sphinx beyond its extensions: pictures in the page, answers in folds, words above the text."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

from companion.show.poster import miniature, poster
from lists import by_page

SVG_IMAGE = re.compile(r'<img(?P<attributes>[^>]*?)src="[^"]*_images/(?P<name>[^"/]+\.svg)"(?P<more>[^>]*)>')
TABLE = re.compile(r'<table border="1" class="dataframe[^>]*>.*?</table>', re.DOTALL)
ROW = re.compile(r"<tr\b")
NUMBERED = re.compile(r"<tr>\s*<th>(\d+)</th>")
CORNER = re.compile(r"<t[dh]></t[dh]>")
LONG_NAME = re.compile(r"(?<=<t[dh]>)[^\s<]{12,}(?=</t[dh]>)")
WORDS_PER_MINUTE = 200
LEVELS, SECONDS = by_page("levels.txt"), by_page("seconds.txt")
LEVEL_WORDS = {"1": "first steps", "2": "in depth", "3": "for builders"}
MAP = "#bert-on-one-page"  # the section of the landing page that holds the poster


class FoldAnswers(SphinxTransform):
    """Put every solution into a fold of its own, right below its exercise, in place of a section of solutions."""

    default_priority = 790  # sections and cells stand; titles are not collected yet

    def apply(self, **_: Any) -> None:
        """Move the sections `Solution n` below item n of the list of exercises."""
        sections = {section.astext().partition("\n")[0]: section for section in self.document.findall(nodes.section)}
        exercises, solutions = sections.get("Exercises"), sections.get("Solutions")
        if exercises is None or solutions is None:
            return
        (questions,) = exercises.findall(nodes.enumerated_list)
        answers = [part for part in solutions.children if isinstance(part, nodes.section)]
        items = [part for part in questions.children if isinstance(part, nodes.list_item)]
        if len(items) != len(answers):
            raise ValueError(f"{self.env.docname}: {len(items)} exercises and {len(answers)} solutions")
        place = exercises.index(questions)
        exercises.remove(questions)
        blocks = [block for n, pair in enumerate(zip(items, answers, strict=True), 1) for block in folded(n, *pair)]
        exercises[place:place] = blocks
        solutions.parent.remove(solutions)


class Poster(SphinxDirective):
    """`poster`: BERT on one page, each part a link to the page that tells about it."""

    def run(self) -> list[nodes.Node]:
        """Return the picture as it stands in the page."""
        builder, here = self.env.app.builder, self.env.docname
        svg = poster(lambda page: builder.get_relative_uri(here, f"book/{page}"))._repr_svg_()
        svg = svg.replace("<svg ", '<svg class="picture poster" ', 1)
        caption = "<figcaption>From tokens, below, up to answers. Press a part to read about it.</figcaption>"
        return [raw(f"<figure>{svg}{caption}</figure>")]


def folded(number: int, question: nodes.list_item, answer: nodes.section) -> list[nodes.Node]:
    """Return the nodes of one exercise: its number and question, then the fold with its answer."""
    name = " ".join(answer["ids"][:1])
    opening = f'<div class="exercise"><p class="exercise-number">Exercise {number}</p>'
    fold = f'<details class="answer" id="{name}"><summary>Answer</summary>'
    return [
        raw(opening),
        *question.children,
        raw(fold),
        *answer.children[1:],
        raw("</details></div>"),
    ]


def raw(text: str) -> nodes.raw:
    """Return a node that is written as it stands into HTML and nowhere else."""
    return nodes.raw("", text, format="html")


def finish_page(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Draw SVG pictures into the page, so that they take its colours, and put what helps to choose above its text."""
    if doctree is None or "body" not in context:
        return
    sources = {name: Path(app.srcdir, source) for source, name in app.builder.images.items()}
    body = SVG_IMAGE.sub(lambda image: inlined(image, sources), context["body"])
    body = TABLE.sub(lambda table: readable(table[0]), body)
    if str(app.env.doc2path(pagename)).endswith(".ipynb"):
        above = at_a_glance(app, pagename, doctree) + you_are_here(app, pagename)
        body = body.replace("</h1>", "</h1>" + above, 1)
    context["body"] = body


def readable(table: str) -> str:
    """Return a table of pandas without row numbers, with places where a long name may break."""
    rows = ROW.findall(table)
    numbers = [int(number) for number in NUMBERED.findall(table)]
    if rows and numbers == list(range(len(rows) - 1)):
        table = CORNER.sub("", NUMBERED.sub("<tr>", table), count=1)
    return LONG_NAME.sub(lambda name: re.sub(r"([._/](?=\w))", r"\1<wbr>", name[0]), table)


def inlined(image: re.Match[str], sources: dict[str, Path]) -> str:
    """Return the file of an `<img>` as an `<svg>` that says what its alternative text says."""
    attributes = image["attributes"] + image["more"]
    svg = sources[image["name"]].read_text(encoding="utf-8")
    svg = svg[svg.index("<svg") :].strip()
    alternative = re.search(r'alt="([^"]*)"', attributes)
    opening, rest = svg.split(">", 1)
    if alternative:
        role = re.search(r' role="([^"]*)"', opening)
        label = f' role="{role[1] if role else "img"}" aria-label="{alternative[1]}"'
        opening = re.sub(r' (role|aria-label|class)="[^"]*"', "", opening) + label
    return f'{opening} class="picture">{rest}'


def at_a_glance(app: Sphinx, pagename: str, doctree: nodes.document) -> str:
    """Return the line below a title: how long it takes to read and run, and where it can be run."""
    prose = " ".join(paragraph.astext() for paragraph in doctree.findall(nodes.paragraph))
    minutes = max(5, 5 * round(len(prose.split()) / WORDS_PER_MINUTE / 5))
    repository = app.config.html_theme_options["repository_url"].removeprefix("https://github.com/").rstrip("/")
    branch = app.config.html_theme_options["repository_branch"]
    file = html.escape(Path(app.env.doc2path(pagename)).relative_to(app.srcdir).as_posix())
    colab = f"https://colab.research.google.com/github/{repository}/blob/{branch}/{file}"
    if pagename not in LEVELS:
        raise ExtensionError(f"{pagename} has no line in .ci/levels.txt; add one")
    level = LEVELS[pagename]
    running = f"runs in {SECONDS[pagename]} seconds" if pagename in SECONDS else "runs in under a minute"
    dots = "●" * int(level) + "○" * (len(LEVEL_WORDS) - int(level))
    return (
        f'<p class="glance"><span><span aria-hidden="true">{dots}</span> {LEVEL_WORDS[level]}</span>'
        f"<span>{minutes} minutes to read</span><span>{running} without a GPU</span>"
        f'<a href="{colab}">Open in Colab</a></p>'
    )


def you_are_here(app: Sphinx, pagename: str) -> str:
    """Return a small map of BERT in which the parts of this page are filled, and which leads to the large one."""
    picture = miniature(pagename.removeprefix("book/"))
    if picture is None:
        return ""
    address = app.builder.get_relative_uri(pagename, "book/index") + MAP
    return f'<a class="you-are-here" href="{address}" title="The map of BERT">{picture._repr_svg_()}</a>'


def setup(app: Sphinx) -> dict[str, Any]:
    """Register all of it with Sphinx."""
    app.add_transform(FoldAnswers)
    app.add_directive("poster", Poster)
    app.connect("html-page-context", finish_page, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
