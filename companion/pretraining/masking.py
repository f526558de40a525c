"""Masked language modelling: choose 15% of the tokens, corrupt them 80/10/10, remember what stood there.

Devlin et al. (2019), section 3.1 and appendix A.1. Masking is dynamic, as in RoBERTa (Liu et al. 2019, section 4.1):
the choice is drawn again each time a text is seen, not written to disk once.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

import numpy as np

from companion.model.heads import IGNORED
from companion.pretraining.segments import Batch, PairBatches
from companion.support.require import number


def mask_tokens(
    input_ids: np.ndarray,
    *,
    special_ids: Collection[int],
    vocab_size: int,
    mask_id: int,
    rng: np.random.Generator,
    probability: float = 0.15,
    mask_share: float = 0.8,
    random_share: float = 0.1,
    whole_words: bool = False,
    is_continuation: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Corrupt a batch for masked language modelling.

    In each row ``max(1, round(probability * n))`` of the `n` ordinary tokens are chosen: a fixed number, as in the
    published code (which counts [CLS] and [SEP] in `n`, a difference of at most one token a row), not one coin a
    token. The gathered prediction head then has nearly the same shape in every step. Each chosen token becomes [MASK]
    with probability `mask_share`, a token drawn evenly from the ordinary vocabulary with probability `random_share`,
    and stays itself otherwise. A random token may happen to be the original; the published code also draws special
    tokens here, this one does not.

    With `whole_words`, the pieces of a word are chosen together: words in random order, one that no longer fits into
    the row's number is passed over, so a row can end up a little below it. As published, the 80/10/10 is still drawn
    for each piece. A word that truncation cut open at a segment's start counts as a word of its own.

    Parameters
    ----------
    input_ids : (batch, tokens) integer array
        Left unchanged.
    special_ids : collection of int
        Ids that are never chosen and never drawn as replacement, padding among them.
    vocab_size, mask_id : int
        Size of the vocabulary and the id of [MASK].
    rng : numpy.random.Generator
        Exactly ``3 * batch * tokens`` uniform numbers are drawn, whatever the contents.
    probability, mask_share, random_share : float
        Shares in [0, 1]; ``mask_share + random_share`` is at most 1.
    whole_words : bool
        Choose all pieces of a word together; needs `is_continuation`.
    is_continuation : (vocab_size,) bool array, optional
        Whether an id continues a word ("##ing").

    Returns
    -------
    corrupted : (batch, tokens) array of the dtype of `input_ids`
    labels : (batch, tokens) int64 array
        The original id where a token was chosen, -100 elsewhere.

    Raises
    ------
    ValueError
        For a share outside its range, an array of another shape, or `whole_words` without `is_continuation`.
    """
    _check_shares(probability, mask_share, random_share)
    _check_arrays(input_ids, vocab_size, whole_words, is_continuation)
    ordinary, is_special = _ordinary_ids(vocab_size, frozenset(special_ids))
    keys, kinds, draws = np.moveaxis(rng.random((len(input_ids), 3, input_ids.shape[1])), 1, 0)
    candidate = ~is_special[input_ids]  # (batch, tokens)
    counts = candidate.sum(axis=1)
    quota = np.where(counts > 0, np.maximum(1, np.rint(probability * counts)), 0).astype(np.int64)  # (batch,)
    if probability == 0:
        quota[:] = 0
    if whole_words and is_continuation is not None:
        chosen = _choose_words(keys, candidate, candidate & is_continuation[input_ids], quota)
    else:
        chosen = _choose_tokens(keys, candidate, quota)
    labels = np.where(chosen, input_ids, IGNORED).astype(np.int64)
    corrupted = input_ids.copy()
    corrupted[chosen & (kinds < mask_share)] = mask_id
    replaced = chosen & (kinds >= mask_share) & (kinds < mask_share + random_share)
    corrupted[replaced] = ordinary[(draws[replaced] * len(ordinary)).astype(np.int64)]
    return corrupted, labels


class MaskedBatches:
    """Sentence-pair batches with masked tokens: ``batches[number]`` is a pure function of the seed and the number.

    Every element has the keys of `PairBatches` with corrupted ``input_ids``, and ``labels`` (batch, tokens).

    Parameters
    ----------
    pairs : PairBatches
        Source of the uncorrupted batches; its seed and vocabulary are used here too.
    probability, mask_share, random_share, whole_words
        As in `mask_tokens`.
    is_continuation : (vocab_size,) bool array, optional
        Needed for `whole_words`; `continuation_pieces` makes it from a vocabulary.
    """

    def __init__(
        self,
        pairs: PairBatches,
        *,
        vocab_size: int,
        mask_id: int,
        special_ids: Collection[int],
        probability: float = 0.15,
        mask_share: float = 0.8,
        random_share: float = 0.1,
        whole_words: bool = False,
        is_continuation: np.ndarray | None = None,
    ):
        self.pairs = pairs
        self.options: dict[str, Any] = {
            "vocab_size": vocab_size,
            "mask_id": mask_id,
            "special_ids": frozenset(special_ids),
            "probability": probability,
            "mask_share": mask_share,
            "random_share": random_share,
            "whole_words": whole_words,
            "is_continuation": is_continuation,
        }

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in one pass over the corpus."""
        return self.pairs.steps_per_epoch

    def __getitem__(self, number: int) -> Batch:
        """Return batch `number` (counted from 0, without end)."""
        batch = self.pairs[number]
        rng = masking_generator(self.pairs.seed, number)
        batch["input_ids"], batch["labels"] = mask_tokens(batch["input_ids"], rng=rng, **self.options)
        return batch


def masking_generator(seed: int, number: int) -> np.random.Generator:
    """Return the generator of the masks of batch `number`."""
    return np.random.default_rng(np.random.SeedSequence([seed, number], spawn_key=(1,)))


def continuation_pieces(vocabulary: Collection[str], prefix: str = "##") -> np.ndarray:
    """Return a (vocab_size,) bool array: whether the piece of each id continues a word."""
    return np.fromiter((piece.startswith(prefix) for piece in vocabulary), dtype=bool, count=len(vocabulary))


def _choose_tokens(keys: np.ndarray, candidate: np.ndarray, quota: np.ndarray) -> np.ndarray:
    """Choose in each row the `quota` candidates with the smallest keys: an even draw without replacement."""
    order = np.where(candidate, keys, 2.0).argsort(axis=1)
    chosen = np.zeros_like(candidate)
    np.put_along_axis(chosen, order, np.arange(keys.shape[1]) < quota[:, None], axis=1)
    return chosen


def _choose_words(keys: np.ndarray, candidate: np.ndarray, continuation: np.ndarray, quota: np.ndarray) -> np.ndarray:
    """Choose whole words in random order until the `quota` is full, passing over words that do not fit.

    One round takes, in every row at once, the words before the first that does not fit. What is left of the quota only
    shrinks, so a word passed over once stays so, and the next round goes on behind it: the greedy loop, by rows.
    """
    rows, tokens = keys.shape
    first = candidate.copy()  # pieces that open a word
    first[:, 1:] &= ~(continuation[:, 1:] & candidate[:, :-1])
    word = first.cumsum(axis=1) - 1 + tokens * np.arange(rows)[:, None]  # (batch, tokens): number of the word
    sizes = np.bincount(word[candidate], minlength=rows * tokens).reshape(rows, tokens)
    order = np.full(rows * tokens, 2.0)
    order[word[first]] = keys[first]
    order = order.reshape(rows, tokens).argsort(axis=1)
    sizes = np.take_along_axis(sizes, order, axis=1)
    taken = _take_greedily(sizes, quota)
    chosen_words = np.zeros((rows, tokens), dtype=bool)
    np.put_along_axis(chosen_words, order, taken, axis=1)
    return chosen_words.reshape(-1)[np.maximum(word, 0)] & candidate


def _take_greedily(sizes: np.ndarray, quota: np.ndarray) -> np.ndarray:
    """Walk each row of `sizes` (batch, words), taking what still fits into its `quota`; sizes of 0 are no words."""
    taken = np.zeros(sizes.shape, dtype=bool)
    left = quota[:, None]
    open_words = (sizes > 0) & (sizes <= left)
    while open_words.any():
        running = np.where(open_words, sizes, 0).cumsum(axis=1)
        taken |= open_words & (running <= left)
        open_words &= running > left
        left = quota[:, None] - np.where(taken, sizes, 0).sum(axis=1, keepdims=True)
        open_words &= sizes <= left
    return taken


@lru_cache(maxsize=8)
def _ordinary_ids(vocab_size: int, special_ids: frozenset[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids that are not special, and a (vocab_size,) bool array of those that are."""
    outside = sorted(i for i in special_ids if not 0 <= i < vocab_size)
    if outside:
        raise ValueError(f"special_ids holds {outside}, outside the vocabulary of vocab_size={vocab_size}")
    is_special = np.zeros(vocab_size, dtype=bool)
    is_special[list(special_ids)] = True
    if is_special.all():
        raise ValueError(f"special_ids covers all vocab_size={vocab_size} ids; none is left to draw from")
    return np.flatnonzero(~is_special), is_special


def _check_shares(probability: float, mask_share: float, random_share: float) -> None:
    for name, share in (("probability", probability), ("mask_share", mask_share), ("random_share", random_share)):
        number(name, share, "a share in [0, 1]", minimum=0, maximum=1)
    if mask_share + random_share > 1 + 1e-12:
        raise ValueError(f"mask_share={mask_share} and random_share={random_share} add up to more than 1")


def _check_arrays(input_ids: np.ndarray, vocab_size: int, whole_words: bool, continuation: np.ndarray | None) -> None:
    if input_ids.ndim != 2:
        raise ValueError(f"input_ids has shape {input_ids.shape}; pass a (batch, tokens) array")
    for extreme in (input_ids.min(initial=0), input_ids.max(initial=0)):
        if not 0 <= extreme < vocab_size:
            raise ValueError(f"input_ids holds {extreme}, outside the vocabulary of vocab_size={vocab_size}")
    if not whole_words:
        return
    if continuation is None:
        raise ValueError("whole_words=True needs is_continuation; continuation_pieces(vocabulary) makes it")
    if continuation.shape != (vocab_size,):
        raise ValueError(f"is_continuation has shape {continuation.shape}; pass one bool for each of {vocab_size} ids")
