"""Sphinx extension: what lies around the book: its root, a page for wrong addresses, a card for links, robots.txt."""

from __future__ import annotations

from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from sphinx.application import Sphinx

from search_index import parts

TEMPLATE = Path(__file__).with_name("templates") / "outer.html"
DESCRIPTION = (
    "BERT from the ground up, in notebooks that run: tokenizer, attention, encoder, pre-training, fine-tuning, "
    "with a small BERT of its own and a tested Python package."
)
CARD = "_static/card.png"
PHRASE = "[CLS] a word is known by the [MASK] it keeps [SEP]".split()


def outer_page(title: str, head: str, body: str, base: str) -> str:
    """Return a page that stands outside the book and needs nothing of it but its icon."""
    template = TEMPLATE.read_text(encoding="utf-8")
    return template.format(title=title, description=escape(DESCRIPTION), head=head, body=body, base=base)


def root_page(title: str, first: str, address: str) -> str:
    """Return the page at the root, which leads to the first page of the book."""
    head = "\n    ".join(
        [
            f'<meta http-equiv="refresh" content="0; url={first}">',
            f'<link rel="canonical" href="{address}{first}">',
            f'<meta property="og:title" content="{title}">',
            f'<meta property="og:description" content="{escape(DESCRIPTION)}">',
            f'<meta property="og:url" content="{address}{first}">',
            f'<meta property="og:image" content="{address}{CARD}">',
            '<meta name="twitter:card" content="summary_large_image">',
        ]
    )
    return outer_page(title, head, f'<h1>{title}</h1><p>{DESCRIPTION}</p><p><a href="{first}">To the book</a></p>', "")


def missing_page(app: Sphinx, title: str, address: str) -> str:
    """Return the page for a wrong address; it is served from any folder, so its links begin at the host."""
    base = urlsplit(address).path
    chapters = [name for name, part in parts(app).items() if part != "Back matter"]
    links = "\n".join(
        f'<li><a href="{base}{app.builder.get_target_uri(name)}">{escape(app.env.titles[name].astext())}</a></li>'
        for name in chapters
    )
    body = f"""<h1>There is no page here</h1>
      <p>The page may have moved. Search the book, or start from <a href="{base}">its first page</a>.</p>
      <form action="{base}search.html"><input type="search" name="q" aria-label="Search the book">
      <button>Search</button></form>
      <h2>Chapters</h2><ul>{links}</ul>"""
    return outer_page(f"No such page - {title}", '<meta name="robots" content="noindex">', body, base)


def draw_card(file: Path, title: str) -> None:
    """Draw the picture that a shared link shows: the title above a sentence with a hidden word."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.3), dpi=100, facecolor="#10243a")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 1200), ylim=(0, 630))
    axes.axis("off")
    axes.text(80, 430, title, size=58, weight="bold", color="white")
    axes.text(80, 350, "Build it, pre-train it, fine-tune it,", size=27, color="#c9d7e6")
    axes.text(80, 300, "and check every claim on the way", size=27, color="#c9d7e6")
    x = 80
    for word in PHRASE:
        width = 36 + 15.1 * len(word)
        hidden = word.startswith("[")
        edge = "#f0b429" if word == "[MASK]" else "#8ccbf2"
        box = {"boxstyle": "round,pad=0.45", "facecolor": "none", "edgecolor": edge if hidden else "#5b7089"}
        axes.text(x, 150, word, size=18, family="monospace", color=edge if hidden else "white", bbox=box)
        x += width
    figure.savefig(file, metadata={"Software": None})


def add_outer_pages(app: Sphinx, error: Exception | None) -> None:
    """Write all of it into the built site."""
    if error is not None or app.builder.format != "html":
        return
    out, title, address = Path(app.outdir), str(app.config.project), str(app.config.html_baseurl)
    first = app.builder.get_target_uri(app.config.root_doc)
    out.joinpath("index.html").write_text(root_page(title, first, address), encoding="utf-8")
    out.joinpath("404.html").write_text(missing_page(app, title, address), encoding="utf-8")
    out.joinpath("robots.txt").write_text(f"User-agent: *\nAllow: /\nSitemap: {address}sitemap.xml\n", encoding="utf-8")
    draw_card(out / CARD, title)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the hook."""
    app.connect("build-finished", add_outer_pages, priority=950)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
