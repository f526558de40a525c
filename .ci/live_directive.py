"""Sphinx extension for what readers move (modules of `companion.show`): a directive, and the files to fetch.

    ```{live} The capital of France is [MASK].
    ```

Options of the directive are the arguments of the function. The weights are made from
the bundled ones and written into the built site, so that they are never in the repository.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from sphinx.application import Sphinx

from companion.deployment.browser import export_for_browser
from companion.show import calculator, mask_grid, stepper
from companion.show.live import IN_BROWSER, live

# What an element needs: a style sheet, and a script that is loaded where the element stands.
ELEMENTS = {
    "<bert-live ": ("live.css", "live/start.js", {"loading_method": "defer"}),
    f"<{stepper.ELEMENT} ": ("stepper.css", "stepper.js", {"type": "module"}),
    f"<{mask_grid.ELEMENT} ": ("mask_grid.css", "mask_grid.js", {"type": "module"}),
    f"<{calculator.ELEMENT} ": ("calculator.css", "calculator.js", {"type": "module"}),
}


class LiveDirective(Directive):
    """A sentence, what the model makes of it, and a button that runs it in the page."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec = {
        "mode": directives.unchanged,
        "layer": directives.positive_int,
        "head": directives.positive_int,
        "focus": directives.unchanged,
        "count": directives.positive_int,
    }

    def run(self) -> list[nodes.Node]:
        """Compute the still and put it into the page."""
        sentence = " ".join(self.arguments[0].split())
        return [nodes.raw("", live(sentence, **self.options).html, format="html")]


def add_files(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Give the style sheet and the first script to the pages that need them."""
    for element, (style, script, options) in ELEMENTS.items():
        if element in context.get("body", ""):
            app.add_css_file(style)
            app.add_js_file(script, **options)


def add_models(app: Sphinx, error: Exception | None) -> None:
    """Write the 8-bit weights beside the scripts of the built site."""
    if error is None and app.builder.format == "html":
        for name in IN_BROWSER:
            export_for_browser(name, Path(app.outdir) / "_static" / "live" / name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive and the two hooks."""
    app.add_directive("live", LiveDirective)
    app.connect("html-page-context", add_files)
    app.connect("build-finished", add_models)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
