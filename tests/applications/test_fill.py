"""Filling in blanks: every mask of one text, with the tokens of the tokenizer alone."""

from __future__ import annotations

import pytest
import torch

from companion.applications.fill import fill_mask
from companion.config import BertConfig
from companion.model.heads import BertForMaskedLM
from companion.text.tokenizer import Tokenizer
from companion.text.vocabulary import SPECIAL_TOKENS

TOKENIZER = Tokenizer([*SPECIAL_TOKENS, *"abcdefgh"], max_length=16)
TEXT = "a [MASK] b [MASK]"


@pytest.fixture
def model() -> BertForMaskedLM:
    torch.manual_seed(0)
    network = BertForMaskedLM(BertConfig(13, 24, 1, 4, 40, max_position_embeddings=16)).eval()
    with torch.no_grad():
        network.mlm_head.bias.normal_()
    return network


def test_guesses_are_the_likeliest_tokens_of_every_mask(model: BertForMaskedLM):
    found = fill_mask(TEXT, model, TOKENIZER, count=13)
    chances = model(**TOKENIZER(TEXT)).logits[0, [2, 4]].softmax(-1)
    for guesses, row in zip(found, chances, strict=True):
        assert [guess.token for guess in guesses] == [TOKENIZER.vocabulary[i] for i in row.argsort(descending=True)]
        assert [guess.probability for guess in guesses] == pytest.approx(row.sort(descending=True).values.tolist())
        assert sum(guess.probability for guess in guesses) == pytest.approx(1)


@pytest.mark.parametrize("rows", [14, 16, 64])
def test_rows_beyond_the_vocabulary_are_no_guesses(model: BertForMaskedLM, rows: int):
    expected = fill_mask(TEXT, model, TOKENIZER, count=13)
    model.resize_token_embeddings(rows)
    with torch.no_grad():
        model.mlm_head.bias[13:] = 50.0  # the likeliest by far
    found = fill_mask(TEXT, model, TOKENIZER, count=13)
    for a, b in zip(found, expected, strict=True):
        assert [guess.token for guess in a] == [guess.token for guess in b]
        assert [guess.probability for guess in a] == pytest.approx([guess.probability for guess in b], abs=1e-6)


@pytest.mark.parametrize("texts", [["a [MASK]", "b [MASK]"], ("a [MASK]",), None, b"[MASK]", 3])
def test_several_texts_are_refused(model: BertForMaskedLM, texts: object):
    with pytest.raises(TypeError, match=r"text=.* is of type \w+; pass one str, and call once per text"):
        fill_mask(texts, model, TOKENIZER)


@pytest.mark.parametrize(
    ("text", "lost"), [("a " * 20 + "[MASK]", 1), ("[MASK] " * 20, 6), ("[MASK]" + " a" * 13 + "[MASK]", 1)]
)
def test_a_mask_beyond_the_length_of_the_model_is_an_error(model: BertForMaskedLM, text: str, lost: int):
    with pytest.raises(ValueError, match=rf"and {lost} of its \d+ \[MASK\] stand beyond the 16 positions of the model"):
        fill_mask(text, model, TOKENIZER)


def test_a_long_text_whose_masks_all_stand_within_is_filled(model: BertForMaskedLM):
    assert len(fill_mask("[MASK] a [MASK]" + " b" * 50, model, TOKENIZER)) == 2


@pytest.mark.parametrize("count", [0, -1, 14, 2.5, True, "3", None])
def test_a_count_that_is_none_is_refused(model: BertForMaskedLM, count: object):
    with pytest.raises(ValueError, match="count=.* is not allowed; it must be an integer from 1 to 13"):
        fill_mask(TEXT, model, TOKENIZER, count=count)


def test_a_text_without_a_mask_is_shown_shortened(model: BertForMaskedLM):
    with pytest.raises(ValueError, match=r"has no \[MASK\]; put one where a word is wanted") as caught:
        fill_mask("no mask " * 1000, model, TOKENIZER)
    assert len(str(caught.value)) < 200
