"""What the table of plans says, and what its script goes on with."""

from __future__ import annotations

import json
from html import unescape

import pytest

from companion.config import BertConfig
from companion.show.calculator import calculator
from companion.studies import costs


def test_the_table_holds_one_plan_per_size():
    rows = [line.split("  ") for line in calculator(62.4e12, 2.0).text.splitlines()]
    base, config = next(row for row in rows if row[0] == "base"), BertConfig()
    hours = costs.training_hours(4.4e9 * costs.training_flops_per_token(config, 128), 62.4e12)
    memory = sum(costs.state_memory(config).values()) + costs.activation_memory(config, 32, 128, fused_attention=True)
    assert base == ["base", "12 × 768", f"{hours:.1f}", f"{memory / 1e9:.1f}", f"${2 * hours:.0f}"]
    assert [row[0] for row in rows[2:]] == ["tiny", "mini", "small", "medium", "base", "large"]


def test_memory_grows_by_the_same_bytes_with_every_row():
    html = calculator(1e12, 1.0).html
    data = json.loads(unescape(html.split("data-given='")[1].split("'")[0]))
    large = next(size for size in data["sizes"] if size["name"] == "large")
    many = costs.activation_memory(BertConfig.preset("large"), 256, 128, fused_attention=True)
    assert many == pytest.approx(256 * large["rowBytes"], rel=1e-6)
    assert data["start"]["billions"] == 4.4


@pytest.mark.parametrize(("speed", "price", "message"), [(0, 1, "flops_per_second=0"), (1, -2, "price_per_hour=-2")])
def test_a_speed_and_a_price_are_above_zero(speed, price, message):
    with pytest.raises(ValueError, match=message):
        calculator(speed, price)
