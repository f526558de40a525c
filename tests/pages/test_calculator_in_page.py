"""The plan that the reader changes: its numbers are Python's."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from companion.config import BertConfig
from companion.studies import costs
from tests.pages.site import opened

pytestmark = pytest.mark.slow

NAME = "book/pretraining/scale.html"


calculator = opened(NAME, ".rc-live")


def test_the_first_plan_is_one_pass_of_bert_base(calculator: Page):
    hours = costs.training_hours(4.4e9 * costs.training_flops_per_token(BertConfig(), 128), 0.2 * 312e12)
    expect(calculator.locator(".rc-result")).to_contain_text(f"{hours:.1f} hours")
    expect(calculator.locator(".rc-result")).to_contain_text(f"{2 * hours:.0f} dollars")


def test_more_gpus_take_less_time_for_the_same_price(calculator: Page):
    calculator.get_by_label("GPUs", exact=True).fill("3")  # the fourth stop: 8
    expect(calculator.locator(".rc-result")).to_contain_text("80 minutes")
    expect(calculator.locator(".rc-result")).to_contain_text("21 dollars")


def test_fewer_rows_need_less_memory(calculator: Page):
    calculator.get_by_label("BERT", exact=True).fill("5")
    calculator.get_by_label("Rows on each GPU").fill("0")
    large = BertConfig.preset("large")
    kept = costs.activation_memory(large, 1, 128, fused_attention=True)
    memory = (sum(costs.state_memory(large).values()) + kept) / 1e9
    expect(calculator.locator(".rc-result")).to_contain_text(f"{memory:.1f} GB on each GPU")
