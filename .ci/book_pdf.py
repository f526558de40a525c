"""Print the built book into one PDF with an outline: `make pdf`."""

from __future__ import annotations

import io
import json
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import IndirectObject

from address import ROOT
from browser import MISSING, chromium_program, served

HTML, TARGET = ROOT / "_build" / "html", ROOT / "_build" / "bert-companion.pdf"
FOOTER = '<div style="width:100%;text-align:center;font-size:8px"><span class="pageNumber"></span></div>'
MARGINS = {"top": "16mm", "bottom": "16mm", "left": "16mm", "right": "16mm"}


def chapters() -> list[tuple[str, str, str]]:
    """Return address, title and part of what is printed, in order; the API reference is for the screen."""
    pages = json.loads((HTML / "search.json").read_text(encoding="utf-8"))["pages"]
    return [(address, title, part) for address, title, part, _ in pages if "/api" not in address]


def printed(page: Page, address: str) -> PdfReader:
    """Return one page of the book on paper."""
    page.goto(address)
    page.evaluate("window.MathJax?.startup?.promise")
    page.wait_for_load_state("networkidle")
    options = {"format": "A4", "scale": 0.85, "print_background": True, "display_header_footer": True}
    content = page.pdf(**options, header_template="<span></span>", footer_template=FOOTER, margin=MARGINS)
    return PdfReader(io.BytesIO(content))


def bind(page: Page, root: str) -> PdfWriter:
    """Return all chapters, one after another, under the parts that they belong to."""
    writer, parts = PdfWriter(), dict[str, IndirectObject]()
    for address, title, part in chapters():
        start = len(writer.pages)
        writer.append(printed(page, f"{root}/{address}"), import_outline=False)
        if part and part not in parts:
            parts[part] = writer.add_outline_item(title=part, page_number=start)
        writer.add_outline_item(title=title, page_number=start, parent=parts.get(part))
    writer.add_metadata({"/Title": "A BERT companion"})
    return writer


def main() -> None:
    """Print the built book."""
    if (program := chromium_program()) is None:
        raise SystemExit(MISSING)
    if not HTML.is_dir():
        raise SystemExit("the book is not built; run make book")
    with served(HTML) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(program), args=["--no-sandbox"])
        bind(browser.new_page(), address).write(TARGET)
        browser.close()
    print(f"{TARGET.relative_to(Path.cwd())}: {len(PdfReader(TARGET).pages)} pages")


if __name__ == "__main__":
    main()
