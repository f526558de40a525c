"""What a pre-training run costs: a table here, and in the built book sliders for the reader's own plan.

What stands in a notebook, on Colab and in print is the *still*: one plan for every size. In the built book
`calculator.js` lets the reader choose size, text, rows and number of GPUs.
"""

from __future__ import annotations

from html import escape
from typing import Any

from companion.config import PRESETS, BertConfig
from companion.show.shown import Shown, lively
from companion.studies import costs
from companion.support.require import number

ELEMENT = "run-calculator"
TOKENS = 128  # of a row
STILL = {"billions": 4.4, "rows": 32, "gpus": 1}  # one pass over BERT's text
HEADS = ("size", "layers × width", "GPU hours", "GB per GPU", "price")


def calculator(flops_per_second: float, price_per_hour: float) -> Shown:
    """Show hours, memory and price of pre-training BERTs of six sizes, in rows of 128 tokens, fp32, fused attention.

    Parameters
    ----------
    flops_per_second : float
        What one GPU sustains.
    price_per_hour : float
        Of one GPU, in dollars.

    Raises
    ------
    ValueError
        If one of them is not above 0.

    Examples
    --------
    >>> print(calculator(62.4e12, 2.0).text.splitlines()[-2])
    base  12 × 768  10.7  4.2  $21
    """
    speed = number("flops_per_second", flops_per_second, above=0)
    price = number("price_per_hour", price_per_hour, above=0)
    sizes = [_size(name) for name in PRESETS]
    rows = [HEADS, *(_row(size, speed, price) for size in sizes)]
    head, *body = (
        "".join(f"<{'td' if i else 'th'}>{escape(cell)}</{'td' if i else 'th'}>" for cell in row)
        for i, row in enumerate(rows)
    )
    caption = f"{STILL['billions']} billion tokens, {STILL['rows']} rows of {TOKENS} at a time, {STILL['gpus']} GPU"
    table = f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>"
    table += "".join(f"<tr>{cells}</tr>" for cells in body) + "</tbody></table>"
    data = {"sizes": sizes, "speed": speed, "price": price, "start": STILL}
    text = "\n".join([caption, *("  ".join(row) for row in rows)])
    return lively(ELEMENT, data, Shown(text, table))


def _size(name: str) -> dict[str, Any]:
    """Return what the three formulas of a plan need of a size."""
    config = BertConfig.preset(name)
    return {
        "name": name,
        "shape": f"{config.num_hidden_layers} × {config.hidden_size}",
        "flopsPerToken": costs.training_flops_per_token(config, TOKENS),
        "stateBytes": sum(costs.state_memory(config).values()),
        "rowBytes": costs.activation_memory(config, 1, TOKENS, fused_attention=True),
    }


def _row(size: dict[str, Any], speed: float, price: float) -> tuple[str, ...]:
    hours = costs.training_hours(1e9 * STILL["billions"] * size["flopsPerToken"], speed)
    memory = (size["stateBytes"] + STILL["rows"] * size["rowBytes"]) / 1e9
    return size["name"], size["shape"], f"{hours:.1f}", f"{memory:.1f}", f"${costs.price(hours, price):.0f}"
