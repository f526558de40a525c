"""Fill-in-the-blank: what a pre-trained BERT puts in the place of `[MASK]`."""

from __future__ import annotations

from typing import NamedTuple

import torch

from companion.model.heads import BertForMaskedLM
from companion.text.tokenizer import Tokenizer


class Guess(NamedTuple):
    """A token and the probability that the model gives it."""

    token: str
    probability: float


@torch.inference_mode()
def fill_mask(text: str, model: BertForMaskedLM, tokenizer: Tokenizer, count: int = 5) -> list[list[Guess]]:
    """Return, for every `[MASK]` in `text`, the `count` likeliest tokens, the likeliest first.

    Parameters
    ----------
    text : str
        With at least one `[MASK]`. Several are filled independently of one another.
    model : BertForMaskedLM
        In evaluation mode.
    tokenizer : Tokenizer
    count : int

    Returns
    -------
    list of list of Guess
        One inner list a mask, in the order of the text.

    Raises
    ------
    ValueError
        If there is no `[MASK]`, or `count` is not between 1 and the size of the vocabulary.
    """
    if not 1 <= count <= tokenizer.vocab_size:
        raise ValueError(f"count={count} is not allowed; it must be in [1, {tokenizer.vocab_size}]")
    device = next(model.parameters()).device
    batch = {name: ids.to(device) for name, ids in tokenizer(text).items()}
    masks = batch["input_ids"][0] == tokenizer.mask_id  # (tokens,)
    if not masks.any():
        raise ValueError(f"text={text!r} has no [MASK] within the length of the model; put one where a word is wanted")
    probabilities = model(**batch).logits[0, masks].float().softmax(-1)  # (masks, vocabulary)
    best = probabilities.topk(count)
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [[Guess(tokenizer.id_to_token(i), p) for i, p in zip(*row, strict=True)] for row in rows]
