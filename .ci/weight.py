"""Sphinx extension: a page of the built site carries no more than it shows.

The theme brings all of Font Awesome, as a script of 540 KB (compressed) and as three fonts, and all of Bootstrap.
The script is taken out: the style sheet of the theme draws the same icons from the fonts. Of the style sheets the
rules stay whose classes some page or script names, of the icon fonts the characters that these rules draw.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx

ICON_SCRIPT = re.compile(
    r"\s*<!-- So that users can add custom icons -->\s*<script src=\"[^\"]*fontawesome\.js[^\"]*\"></script>"
)
FORMULA_SCRIPTS = re.compile(
    r"\s*<script>window\.MathJax = .*?</script>|\s*<script[^>]*_static/mathjax/[^>]*></script>"
)
CLASS = re.compile(r"\.(-?[_a-zA-Z][\w-]*)")
ASIDE = re.compile(r":(?:not|is|where|has)\([^()]*(?:\([^()]*\)[^()]*)*\)")
TOKEN = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|/\*.*?\*/|url\([^)\"']*\)|[{};]", re.DOTALL)
DRAWN_IN_CSS = re.compile(r"(?:--pst-icon-[\w-]+:|content:) ?\"(\\[ef][0-9a-f]{3}|[\ue000-\uf8ff])\"")
ICON_FONT = re.compile(r"src:url\(([^)]*fa-[\w-]+)\.woff2\) format\(\"woff2\"\),url\([^)]*\) format\(\"truetype\"\)")
WORD = re.compile(r"[\w-]+")
NESTED = ("@media", "@supports", "@layer")
OURS = ("companion.css", "live.css")  # small, and some of it waits for what scripts make
MADE_UP = ("bs-", "tooltip", "popover", "MJX", "mjx")  # classes that scripts put together


def rules(style: str) -> Iterator[tuple[str, str]]:
    """Yield what stands before each block of a style sheet, and the block; a block may be empty."""
    depth = start = opened = 0
    for token in TOKEN.finditer(style):
        if token[0] == "{":
            depth += 1
            opened = token.end() if depth == 1 else opened
        elif token[0] == "}":
            depth -= 1
            if depth == 0:
                yield style[start : opened - 1], style[opened : token.start()]
                start = token.end()
        elif token[0] == ";" and depth == 0:
            yield style[start : token.end()], ""
            start = token.end()


def selectors(prelude: str) -> list[str]:
    """Split the selectors of a rule at the commas that stand in no bracket."""
    return re.split(r",(?![^()]*\)|[^\[\]]*\])", re.sub(r"/\*.*?\*/", "", prelude, flags=re.DOTALL))


def is_used(selector: str, words: set[str]) -> bool:
    """Return whether every class of a selector is named somewhere."""
    return all(name in words or name.startswith(MADE_UP) for name in CLASS.findall(ASIDE.sub("", selector)))


def thin_style(style: str, words: set[str]) -> str:
    """Return a style sheet without the rules that match nothing on any page."""
    kept = []
    for prelude, block in rules(style):
        if prelude.strip().startswith(NESTED):
            inner = thin_style(block, words)
            kept += [f"{prelude}{{{inner}}}"] if inner else []
        elif not block or prelude.strip().startswith("@"):
            kept.append(f"{prelude}{{{block}}}" if block else prelude)
        elif used := [one for one in selectors(prelude) if is_used(one, words)]:
            kept.append(f"{','.join(used)}{{{block}}}")
    return "".join(kept)


def thin_font(source: Path, characters: set[str] | None) -> None:
    """Write a font as WOFF with `characters` alone (all for None) and without hints, in place of its other forms."""
    font = TTFont(source)
    kept = font.getBestCmap().keys()
    options = subset.Options(
        layout_features=[], hinting=False, notdef_outline=True, drop_tables=["FFTM", "GDEF", "GPOS", "GSUB"]
    )
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=kept if characters is None else [ord(one) for one in characters if ord(one) in kept])
    subsetter.subset(font)
    font.flavor = "woff"
    font.save(source.with_suffix(".woff"))
    for other in {source, source.with_suffix(".woff2")} - {source.with_suffix(".woff")}:
        other.unlink(missing_ok=True)


def thin_page(text: str) -> str:
    """Return a page without the script of the icons, and without those of formulas where it has none."""
    text = ICON_SCRIPT.sub("", text)
    return text if 'class="math ' in text else FORMULA_SCRIPTS.sub("", text)


def lighten(app: Sphinx, error: Exception | None) -> None:
    """Take out of the built site what no page shows."""
    if error is not None or app.builder.format != "html":
        return
    out, static = Path(app.outdir), Path(app.outdir, "_static")
    words: set[str] = set()
    for page in out.rglob("*.html"):
        text = thin_page(page.read_text(encoding="utf-8"))
        page.write_text(text, encoding="utf-8")
        words |= set(WORD.findall(text))
    (static / "scripts" / "fontawesome.js").unlink(missing_ok=True)
    for file in static.rglob("*.map"):  # what only a debugger of the theme reads
        file.unlink()
    vendored = (static / "mathjax", static / "locales")
    for script in static.rglob("*.js"):
        if not any(folder in script.parents for folder in vendored):
            words |= set(WORD.findall(script.read_text(encoding="utf-8")))
    drawn: set[str] = set()
    for sheet in {*static.rglob("*.css")} - {static / name for name in OURS}:
        style = ICON_FONT.sub(r'src:url(\1.woff) format("woff")', thin_style(sheet.read_text(encoding="utf-8"), words))
        sheet.write_text(style, encoding="utf-8")
        drawn |= {chr(int(one[1:], 16)) if one.startswith("\\") else one for one in DRAWN_IN_CSS.findall(style)}
    for font in (static / "vendor" / "fontawesome" / "webfonts").glob("*.ttf"):
        thin_font(font, drawn)
    for font in (static / "mathjax").rglob("*.woff"):
        if font.name != "MathJax_Zero.woff":
            thin_font(font, None)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the hook."""
    app.connect("build-finished", lighten, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
