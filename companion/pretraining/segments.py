"""Sentence pairs for pre-training: plan one epoch as token positions, then cut batches out of the corpus.

The plan follows Devlin et al. (2019), appendix A.2, and the code published with it (`create_pretraining_data.py`):
a chunk of whole sentences, a random cut into A and B, and in half of the cases a B from another document.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import chain

import numpy as np

from companion.pretraining.corpus import Corpus
from companion.support.require import integer, number

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class PairPlan:
    """The examples of one epoch, in the order in which they are seen.

    Attributes
    ----------
    a_start, a_end, b_start, b_end : (pairs,) int64 arrays
        Half-open ranges of positions in ``corpus.tokens``. Segment B is empty (``b_start == b_end``) in a plan of
        single segments.
    is_random : (pairs,) bool array
        Whether B comes from another document: the label of next-sentence prediction (0 = is next, 1 = is random).
    """

    a_start: np.ndarray
    a_end: np.ndarray
    b_start: np.ndarray
    b_end: np.ndarray
    is_random: np.ndarray

    def __len__(self) -> int:
        return len(self.a_start)

    @property
    def lengths(self) -> np.ndarray:
        """(pairs,) number of corpus tokens in each example, special tokens not counted."""
        return self.a_end - self.a_start + self.b_end - self.b_start

    def take(self, rows: np.ndarray) -> PairPlan:
        """Return the plan of the given rows only."""
        return PairPlan(*(getattr(self, field.name)[rows] for field in fields(self)))


def plan_pairs(
    corpus: Corpus,
    max_tokens: int = 128,
    seed: int = 0,
    epoch: int = 0,
    short_probability: float = 0.1,
    next_sentence: bool = True,
) -> PairPlan:
    """Plan the shuffled examples of one epoch; the same arguments give the same plan.

    A chunk takes whole sentences of one document until it holds its target number of tokens: `max_tokens` less the
    special tokens, or, with `short_probability`, an even draw from 2 to that. A random prefix of the sentences is A. In
    half of the cases the rest is B; otherwise B are sentences from a random place of another document, and the rest
    goes back to be the beginning of the next chunk. A pair that is too long loses tokens of its longer segment, each
    from the front or the back at random.

    A chunk of one sentence (the last of a document, or a very long one) always gets a random B, as published. So more
    than half of all pairs are random: 52.4% on 200 MB of Wikipedia and books at 128 tokens, 55% on docstrings. Two
    differences from the published code: it draws the target once for a document, whereby 18% of the *examples* of that
    text are short, this one for each chunk, as the published comment says; and it falls back to the same document
    where no other is found in ten draws, this one never takes a B from the document of A.

    With ``next_sentence=False`` each example is one segment of whole sentences that never crosses a document's end
    (DOC-SENTENCES in Liu et al. 2019, section 4.2); a sentence that is longer than a whole segment is cut into several.

    Parameters
    ----------
    corpus : Corpus
        Prepared token ids with the starts of sentences and documents.
    max_tokens : int
        Largest length of an example including special tokens: [CLS] A [SEP] B [SEP] has three, [CLS] A [SEP] two.
    seed, epoch : int
        Together the seed of everything random here.
    short_probability : float
        Share of chunks with a shorter target. 0 packs every example as full as the sentences allow.
    next_sentence : bool
        Pairs (True) or single segments (False).

    Returns
    -------
    PairPlan

    Raises
    ------
    ValueError
        If an argument is out of range, or the corpus has only one document and `next_sentence` asks for pairs.
    """
    _check_plan_arguments(corpus, max_tokens, short_probability, next_sentence)
    rng = np.random.default_rng(np.random.SeedSequence([seed, epoch], spawn_key=(0,)))
    if next_sentence:
        a, b, c, d, is_random = _columns(_pairs(corpus, max_tokens - 3, short_probability, rng), 5)
        plan = _truncate(PairPlan(a, b, c, d, is_random.astype(bool)), max_tokens - 3, rng)
    else:
        start, end = _columns(_single_segments(corpus, max_tokens - 2, short_probability, rng), 2)
        plan = PairPlan(start, end, end, end, np.zeros(len(start), dtype=bool))
    return plan.take(rng.permutation(len(plan)))


class PairBatches:
    """Batches of sentence pairs, looked up by number: ``batches[number]`` depends on the seed and the number alone.

    So a run resumes anywhere, and workers and processes may build batches in any order and share them out by number.
    Batch ``n`` belongs to epoch ``n // steps_per_epoch``; only the plan of the epoch in use is kept. Epochs differ by a
    few examples, `steps_per_epoch` is that of epoch 0: a longer epoch leaves its last examples out (others each
    time), a shorter one repeats its first.

    Parameters
    ----------
    corpus : Corpus
    batch_size : int
        Rows of a batch.
    max_tokens, seed, short_probability, next_sentence
        As in `plan_pairs`.
    cls_id, sep_id, pad_id : int
        Ids of the special tokens.
    pad_to_multiple_of : int
        Rows are padded to the longest of the batch, rounded up to this multiple (at most `max_tokens`).

    Raises
    ------
    ValueError
        If an argument is out of range; the message names it.
    """

    def __init__(
        self,
        corpus: Corpus,
        batch_size: int,
        max_tokens: int = 128,
        seed: int = 0,
        *,
        cls_id: int,
        sep_id: int,
        pad_id: int = 0,
        short_probability: float = 0.1,
        next_sentence: bool = True,
        pad_to_multiple_of: int = 8,
    ):
        _check_plan_arguments(corpus, max_tokens, short_probability, next_sentence)
        _check_batch_arguments(batch_size, pad_to_multiple_of)
        self.corpus, self.batch_size, self.max_tokens, self.seed = corpus, batch_size, max_tokens, seed
        self.cls_id, self.sep_id, self.pad_id = cls_id, sep_id, pad_id
        self.short_probability, self.next_sentence = short_probability, next_sentence
        self.pad_to_multiple_of = pad_to_multiple_of
        self._epoch, self._plan = 0, self._make_plan(0)
        self.steps_per_epoch = max(1, len(self._plan) // batch_size)

    def plan(self, epoch: int) -> PairPlan:
        """Return the plan of `epoch`, made when it is not the one in use."""
        if epoch != self._epoch:
            self._plan = self._make_plan(epoch)
            self._epoch = epoch
        return self._plan

    def __getitem__(self, number: int) -> Batch:
        """Build batch `number`, counted from 0 and without end.

        Returns
        -------
        dict of int64 arrays
            ``input_ids``, ``token_type_ids`` and ``attention_mask`` (batch, tokens); for pairs also
            ``next_sentence_label`` (batch,), 0 = B follows A, 1 = B is random.
        """
        if number < 0:
            raise IndexError(f"number={number} is negative; batches count from 0")
        epoch, place = divmod(number, self.steps_per_epoch)
        plan = self.plan(epoch)
        batch = plan.take(np.arange(place * self.batch_size, (place + 1) * self.batch_size) % len(plan))
        special = 3 if self.next_sentence else 2
        multiple = self.pad_to_multiple_of
        width = min(self.max_tokens, -(-(int(batch.lengths.max()) + special) // multiple) * multiple)
        return self._build(batch, width)

    def _build(self, rows: PairPlan, width: int) -> Batch:
        """Cut the rows out of the corpus: [CLS] A [SEP] B [SEP] and padding, (rows, width)."""
        input_ids = np.full((len(rows), width), self.pad_id, dtype=np.int64)
        token_type_ids = np.zeros_like(input_ids)
        attention_mask = np.zeros_like(input_ids)
        tokens = self.corpus.tokens
        ranges = zip(
            rows.a_start.tolist(), rows.a_end.tolist(), rows.b_start.tolist(), rows.b_end.tolist(), strict=True
        )
        for row, (a_start, a_end, b_start, b_end) in enumerate(ranges):
            ids, middle = input_ids[row], a_end - a_start + 1
            ids[0] = self.cls_id
            ids[1:middle] = tokens[a_start:a_end]
            ids[middle] = self.sep_id
            end = middle + 1
            if b_end > b_start:
                end = middle + b_end - b_start + 2
                ids[middle + 1 : end - 1] = tokens[b_start:b_end]
                ids[end - 1] = self.sep_id
                token_type_ids[row, middle + 1 : end] = 1
            attention_mask[row, :end] = 1
        batch = {"input_ids": input_ids, "token_type_ids": token_type_ids, "attention_mask": attention_mask}
        if self.next_sentence:
            batch["next_sentence_label"] = rows.is_random.astype(np.int64)
        return batch

    def _make_plan(self, epoch: int) -> PairPlan:
        return plan_pairs(self.corpus, self.max_tokens, self.seed, epoch, self.short_probability, self.next_sentence)


def _pairs(
    corpus: Corpus, capacity: int, short_probability: float, rng: np.random.Generator
) -> Iterator[tuple[int, int, int, int, bool]]:
    """Yield (a_start, a_end, b_start, b_end, is_random) before truncation, document by document."""
    uniforms = _uniform_rows(rng, 6)
    pick = _RandomSentences(corpus)
    for document, starts in _documents(corpus):
        last, sentence = len(starts) - 1, 0
        while sentence < last:
            u_short, u_target, u_cut, u_random, u_document, u_sentence = next(uniforms)
            target = 2 + int(u_target * (capacity - 1)) if u_short < short_probability else capacity
            end = min(bisect_left(starts, starts[sentence] + target, sentence + 1), last)
            cut = sentence + 1 + int(u_cut * (end - sentence - 1))
            if end - sentence == 1 or u_random < 0.5:
                wanted = target - (starts[cut] - starts[sentence])
                yield starts[sentence], starts[cut], *pick(document, wanted, u_document, u_sentence), True
                sentence = cut
            else:
                yield starts[sentence], starts[cut], starts[cut], starts[end], False
                sentence = end


class _RandomSentences:
    """Draw a run of whole sentences from a document other than a given one."""

    def __init__(self, corpus: Corpus):
        self.sentence_starts = np.asarray(corpus.sentence_starts)
        self.document_starts = np.asarray(corpus.document_starts)
        self.documents = corpus.num_documents

    def __call__(self, document: int, wanted: int, u_document: float, u_sentence: float) -> tuple[int, int]:
        """Return the token range of sentences that hold at least `wanted` tokens or reach their document's end."""
        other = int(u_document * (self.documents - 1))
        other += other >= document
        first, last = int(self.document_starts[other]), int(self.document_starts[other + 1])
        sentence = first + int(u_sentence * (last - first))
        start = end = int(self.sentence_starts[sentence])
        while sentence < last and (end == start or end - start < wanted):
            sentence += 1
            end = int(self.sentence_starts[sentence])
        return start, end


def _single_segments(
    corpus: Corpus, capacity: int, short_probability: float, rng: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of runs of whole sentences that fit into `capacity`, or of pieces of a longer sentence."""
    uniforms = _uniform_rows(rng, 2)
    for _, starts in _documents(corpus):
        position = starts[0]
        while position < starts[-1]:
            u_short, u_target = next(uniforms)
            target = 2 + int(u_target * (capacity - 1)) if u_short < short_probability else capacity
            end = starts[bisect_right(starts, position + target) - 1]
            if end <= position:  # the sentence alone is longer
                end = position + target
            yield position, end
            position = end


def _documents(corpus: Corpus) -> Iterator[tuple[int, list[int]]]:
    """Yield (number, token positions of its sentence starts and of its end) of every document."""
    bounds = np.asarray(corpus.document_starts).tolist()
    for document, (first, last) in enumerate(zip(bounds, bounds[1:], strict=False)):
        yield document, corpus.sentence_starts[first : last + 1].tolist()


def _columns(rows: Iterator[tuple[int, ...]], width: int) -> np.ndarray:
    """Gather tuples of `width` integers into the columns of an array, without holding them as Python objects."""
    return np.fromiter(chain.from_iterable(rows), dtype=np.int64).reshape(-1, width).T


def _uniform_rows(rng: np.random.Generator, width: int, block: int = 4096) -> Iterator[list[float]]:
    """Yield rows of `width` uniform numbers in [0, 1), drawn in blocks."""
    while True:
        yield from rng.random((block, width)).tolist()


def _truncate(plan: PairPlan, capacity: int, rng: np.random.Generator) -> PairPlan:
    """Cut pairs down to `capacity` tokens, one by one from the longer segment (B when equal), front or back.

    The loop has a closed form: a segment of at most half the capacity stays whole, otherwise both end at half, A with
    the odd token; of the tokens that go, a binomial share with p = 1/2 is taken from the front.
    """
    a, b = plan.a_end - plan.a_start, plan.b_end - plan.b_start
    too_long = a + b > capacity
    keep_a = np.where(too_long, np.minimum(a, np.maximum(capacity - b, (capacity + 1) // 2)), a)
    keep_b = np.where(too_long, np.minimum(b, capacity - keep_a), b)
    front_a, front_b = rng.binomial(a - keep_a, 0.5), rng.binomial(b - keep_b, 0.5)
    a_start, b_start = plan.a_start + front_a, plan.b_start + front_b
    return PairPlan(a_start, a_start + keep_a, b_start, b_start + keep_b, plan.is_random)


def _check_plan_arguments(corpus: Corpus, max_tokens: int, short_probability: float, next_sentence: bool) -> None:
    smallest = 5 if next_sentence else 4
    integer("max_tokens", max_tokens, smallest)
    number("short_probability", short_probability, "a share in [0, 1]", minimum=0, maximum=1)
    if next_sentence and corpus.num_documents < 2:
        raise ValueError(
            "next_sentence=True needs at least two documents, because a random next sentence comes from another one; "
            "this corpus has 1: put empty lines between the documents of the text, or pass next_sentence=False"
        )


def _check_batch_arguments(batch_size: int, multiple: int) -> None:
    for name, value in (("batch_size", batch_size), ("pad_to_multiple_of", multiple)):
        integer(name, value, 1)
