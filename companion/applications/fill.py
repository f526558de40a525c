"""Fill-in-the-blank: what a pre-trained BERT puts in the place of `[MASK]`."""

from __future__ import annotations

from typing import NamedTuple

import torch

from companion.model.heads import BertForMaskedLM
from companion.support.require import integer, shortened
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
        One text with at least one `[MASK]`. Several are filled independently of one another.
    model : BertForMaskedLM
        In evaluation mode. It may have more rows than the tokenizer has tokens; those are left out.
    tokenizer : Tokenizer
    count : int

    Returns
    -------
    list of list of Guess
        One inner list for each mask, in the order of the text.

    Raises
    ------
    TypeError
        If `text` is not one str.
    ValueError
        If there is no `[MASK]`, one stands beyond the length of the model, or `count` is not between 1 and the size of
        the vocabulary.
    """
    count = integer("count", count, 1, tokenizer.vocab_size)
    if not isinstance(text, str):
        raise TypeError(
            f"text={shortened(text)} is of type {type(text).__name__}; pass one str, and call once per text"
        )
    inputs = tokenizer(text)
    masks = inputs["input_ids"][0] == tokenizer.mask_id  # (tokens,)
    _check_masks(text, int(masks.sum()), tokenizer)
    device = next(model.parameters()).device
    logits = model(**{name: ids.to(device) for name, ids in inputs.items()}).logits[0, masks.to(device)]
    probabilities = logits[:, : tokenizer.vocab_size].float().softmax(-1)  # (masks, tokens of the tokenizer)
    best = probabilities.topk(count)
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [[Guess(tokenizer.id_to_token(i), p) for i, p in zip(*row, strict=True)] for row in rows]


def _check_masks(text: str, found: int, tokenizer: Tokenizer) -> None:
    """Raise a ValueError if the text has no `[MASK]`, or more than the `found` ones that the model can see."""
    ids = tokenizer.encode(text)
    wanted = ids.count(tokenizer.mask_id)
    if wanted == 0:
        raise ValueError(f"text={shortened(text)} has no [MASK]; put one where a word is wanted")
    if found < wanted:
        raise ValueError(
            f"text={shortened(text)} has {len(ids)} tokens, and {wanted - found} of its {wanted} [MASK] stand beyond "
            f"the {tokenizer.max_length} positions of the model; pass a shorter text"
        )
