"""Masked language modelling: how many tokens, which ones, what becomes of them, and that a seed and a step decide."""

import numpy as np
import pytest
from scipy.stats import binom

from companion.pretraining.corpus import prepare_corpus
from companion.pretraining.masking import MaskedBatches, continuation_pieces, mask_tokens, masking_generator
from companion.pretraining.segments import PairBatches
from tests.toys import NumberTokenizer, same_batch

PAD, UNK, CLS, SEP, MASK = range(5)
SPECIAL = frozenset(range(5))
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + [f"{'##' * (i % 3 == 0)}t{i}" for i in range(5, 1000)]
CONTINUATION = continuation_pieces(VOCABULARY)


def make_rows(rows, tokens, seed=0, padding=0):
    """[CLS] ... [SEP] ... [SEP] and padding, with random ordinary ids between."""
    ids = np.random.default_rng(seed).integers(5, 1000, size=(rows, tokens))
    ids[:, 0] = CLS
    ids[:, [tokens // 2, tokens - padding - 1]] = SEP
    ids[:, tokens - padding :] = PAD
    return ids


def mask(ids, seed=0, **options):
    options = {"special_ids": SPECIAL, "vocab_size": 1000, "mask_id": MASK} | options
    return mask_tokens(ids, rng=np.random.default_rng(seed), **options)


def within(count, total, probability, confidence=1 - 1e-6):
    low, high = binom.interval(confidence, total, probability)
    return low <= count <= high


@pytest.mark.parametrize(("tokens", "padding"), [(128, 0), (128, 24), (64, 0), (8, 2), (5, 0)])
@pytest.mark.parametrize("probability", [0.15, 0.4, 0.01])
def test_each_row_has_a_fixed_number_of_labels(tokens, padding, probability):
    _, labels = mask(make_rows(50, tokens, padding=padding), probability=probability)
    ordinary = tokens - padding - 3
    assert set((labels != -100).sum(axis=1).tolist()) == {max(1, round(probability * ordinary))}


def test_labels_are_the_originals_and_the_rest_stays():
    ids = make_rows(200, 128, padding=9)
    before = ids.copy()
    corrupted, labels = mask(ids)
    chosen = labels != -100
    assert np.array_equal(ids, before)
    assert np.array_equal(labels[chosen], ids[chosen])
    assert np.array_equal(corrupted[~chosen], ids[~chosen])
    assert not np.isin(ids[chosen], list(SPECIAL)).any()
    assert labels.dtype == np.int64 and corrupted.dtype == ids.dtype


def test_eighty_ten_ten():
    ids = make_rows(2000, 128)
    corrupted, labels = mask(ids)
    chosen = labels != -100
    total = chosen.sum()
    assert total == 2000 * 19
    masked = (corrupted[chosen] == MASK).sum()
    kept = (corrupted[chosen] == ids[chosen]).sum()
    assert within(masked, total, 0.8)
    assert within(kept, total, 0.1 + 0.1 / 995)  # one in 995 random tokens is the original
    assert within(total - masked - kept, total, 0.1 * 994 / 995)


@pytest.mark.parametrize(("mask_share", "random_share"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.5, 0.5)])
def test_other_shares(mask_share, random_share):
    ids = make_rows(500, 128)
    corrupted, labels = mask(ids, mask_share=mask_share, random_share=random_share)
    chosen = labels != -100
    total = chosen.sum()
    assert within((corrupted[chosen] == MASK).sum(), total, mask_share)
    changed = (corrupted[chosen] != MASK) & (corrupted[chosen] != ids[chosen])
    assert within(changed.sum(), total, random_share * 994 / 995)


def test_every_ordinary_position_is_chosen_alike():
    rows = 20_000
    _, labels = mask(make_rows(rows, 32))
    counts = (labels != -100).sum(axis=0)
    special = [0, 16, 31]
    assert counts[special].tolist() == [0, 0, 0]
    assert all(within(count, rows, 4 / 29, 1 - 1e-7) for count in np.delete(counts, special))  # round(0.15 * 29) = 4


def test_choices_of_neighbours_are_independent():
    rows = 20_000
    chosen = mask(make_rows(rows, 32))[1] != -100
    both = (chosen[:, 1:15] & chosen[:, 2:16]).sum(axis=0)
    assert all(within(count, rows, 4 / 29 * 3 / 28, 1 - 1e-7) for count in both)


def test_random_tokens_are_drawn_evenly_from_the_ordinary_vocabulary():
    ids = make_rows(3000, 128) % 15
    ids[ids < 5] += 5
    special = {*SPECIAL, 9}
    corrupted, labels = mask(ids, vocab_size=15, special_ids=special, mask_share=0.0, random_share=1.0)
    counts = np.bincount(corrupted[labels != -100], minlength=15)
    assert counts[sorted(special)].sum() == 0
    ordinary = counts[sorted(set(range(15)) - special)]
    assert all(within(count, ordinary.sum(), 1 / 9, 1 - 1e-7) for count in ordinary)


def test_rows_without_ordinary_tokens_and_zero_probability_have_no_labels():
    ids = np.array([[CLS, SEP, PAD, PAD], [CLS, 7, SEP, PAD]])
    corrupted, labels = mask(ids, mask_share=1.0, random_share=0.0)
    assert corrupted.tolist() == [[CLS, SEP, PAD, PAD], [CLS, MASK, SEP, PAD]]
    assert labels.tolist() == [[-100] * 4, [-100, 7, -100, -100]]
    assert (mask(make_rows(4, 64), probability=0.0)[1] == -100).all()


def test_a_seed_and_a_step_decide():
    ids = make_rows(8, 64)
    first, again, other = (
        mask_tokens(ids, special_ids=SPECIAL, vocab_size=1000, mask_id=MASK, rng=masking_generator(3, step))
        for step in (5, 5, 6)
    )
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


def words_of(row):
    """Positions of each word: a piece "##..." continues the word before it, unless a special token stands there."""
    words = []
    for position, token in enumerate(row.tolist()):
        if token in SPECIAL:
            continue
        if CONTINUATION[token] and words and row[position - 1] not in SPECIAL:
            words[-1].append(position)
        else:
            words.append([position])
    return words


@pytest.mark.parametrize("probability", [0.15, 0.5])
def test_whole_words_are_chosen_greedily_in_random_order(probability):
    ids = make_rows(300, 96, padding=5)
    _, labels = mask(ids, seed=4, probability=probability, whole_words=True, is_continuation=CONTINUATION)
    keys = np.random.default_rng(4).random((300, 3, 96))[:, 0]  # the order: a word's key is that of its first piece
    for row in range(300):
        words = sorted(words_of(ids[row]), key=lambda word: keys[row, word[0]])
        quota = max(1, round(probability * sum(map(len, words))))
        expected = []
        for word in words:
            if len(expected) + len(word) <= quota:
                expected += word
        assert np.flatnonzero(labels[row] != -100).tolist() == sorted(expected)
        assert quota - len(expected) <= 1  # a row falls short only where no single piece is left to fill it


def test_a_word_cut_open_does_not_join_the_segment_before():
    piece, continued = 5, 6  # "t5", "##t6"
    assert not CONTINUATION[piece] and CONTINUATION[continued]
    ids = np.array([[CLS, piece, continued, SEP, continued, continued, SEP]] * 200)
    chosen = mask(ids, probability=0.5, whole_words=True, is_continuation=CONTINUATION)[1] != -100
    patterns = {tuple(np.flatnonzero(row).tolist()) for row in chosen}
    assert patterns == {(1, 2), (4, 5)}


def test_the_pieces_of_a_chosen_word_are_corrupted_one_by_one():
    piece, continued = 5, 6
    ids = np.array([[CLS] + [piece, continued] * 20 + [SEP]] * 500)
    corrupted, labels = mask(ids, whole_words=True, is_continuation=CONTINUATION)
    chosen = (labels != -100)[:, 1:-1].reshape(-1, 2)
    assert np.array_equal(chosen[:, 0], chosen[:, 1])
    masked = (corrupted == MASK)[:, 1:-1].reshape(-1, 2)[chosen[:, 0]]
    assert within(masked.all(axis=1).sum(), len(masked), 0.64)
    assert within(masked.sum(axis=1).tolist().count(1), len(masked), 0.32)


def test_continuation_pieces_follow_the_order_of_the_ids():
    assert continuation_pieces(["[PAD]", "play", "##ing", "#", "##"]).tolist() == [False, False, True, False, True]


def test_wrong_arguments_are_named():
    ids = make_rows(2, 16)
    with pytest.raises(ValueError, match="probability=1.5 is not allowed; it must be a share in .0, 1."):
        mask(ids, probability=1.5)
    with pytest.raises(ValueError, match=r"mask_share=0.8 and random_share=0.3 add up to more than 1"):
        mask(ids, random_share=0.3)
    with pytest.raises(ValueError, match=r"input_ids has shape \(16,\); pass a \(batch, tokens\) array"):
        mask(ids[0])
    with pytest.raises(ValueError, match="whole_words=True needs is_continuation"):
        mask(ids, whole_words=True)
    with pytest.raises(ValueError, match=r"is_continuation has shape \(3,\); pass one bool for each of 1000 ids"):
        mask(ids, whole_words=True, is_continuation=np.zeros(3, dtype=bool))
    with pytest.raises(ValueError, match=r"special_ids holds \[1000\], outside the vocabulary of vocab_size=1000"):
        mask(ids, special_ids={0, 1000})
    with pytest.raises(ValueError, match="none is left to draw from"):
        mask(ids % 5, special_ids=range(5), vocab_size=5)
    with pytest.raises(ValueError, match=r"input_ids holds 1000, outside the vocabulary of vocab_size=1000"):
        mask(np.where(ids == ids.max(), 1000, ids))
    with pytest.raises(ValueError, match="input_ids holds -100, outside"):
        mask(np.where(ids == SEP, -100, ids))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masking")
    rng = np.random.default_rng(0)
    lines = [
        " ".join(map(str, rng.integers(5, 1000, size=rng.integers(3, 40)))) + "\n" * (i % 9 == 0) for i in range(500)
    ]
    (folder / "text.txt").write_text("\n".join(lines))
    return prepare_corpus(folder / "text.txt", NumberTokenizer(VOCABULARY), folder / "corpus", progress=False)


def make_batches(corpus, seed=0, **options):
    pairs = PairBatches(corpus, 16, 64, seed, cls_id=CLS, sep_id=SEP, pad_id=PAD)
    return MaskedBatches(pairs, vocab_size=1000, mask_id=MASK, special_ids=SPECIAL, **options)


def test_masked_batches_restore_to_the_pairs(corpus):
    batches = make_batches(corpus)
    for step in (0, 3, batches.steps_per_epoch):
        batch, plain = batches[step], batches.pairs[step]
        restored = np.where(batch["labels"] != -100, batch["labels"], batch["input_ids"])
        assert np.array_equal(restored, plain["input_ids"])
        assert not np.array_equal(batch["input_ids"], plain["input_ids"])
        assert np.array_equal(batch["next_sentence_label"], plain["next_sentence_label"])


@pytest.mark.parametrize(
    "options", [{}, {"whole_words": True, "is_continuation": CONTINUATION}], ids=["pieces", "words"]
)
def test_masked_batches_depend_on_their_number_alone(corpus, options):
    batches = make_batches(corpus, **options)
    steps = [0, 4, batches.steps_per_epoch + 2]
    forward = [batches[step] for step in steps]
    for step, batch in reversed(list(zip(steps, forward, strict=True))):
        assert same_batch(batches[step], batch)
    assert not same_batch(make_batches(corpus, seed=1, **options)[0], batches[0])


def test_masks_are_drawn_anew_in_every_epoch(corpus):
    """The same segments come back with other masks: over 30 epochs nearly every token has been predicted once."""
    pairs = PairBatches(corpus, 16, 64, cls_id=CLS, sep_id=SEP, next_sentence=False, short_probability=0.0)
    batches = MaskedBatches(pairs, vocab_size=1000, mask_id=MASK, special_ids=SPECIAL)
    seen: dict[tuple, np.ndarray] = {}
    for step in range(30 * batches.steps_per_epoch):
        plain, labels = pairs[step]["input_ids"], batches[step]["labels"]
        for row, label in zip(plain, labels, strict=True):
            key = tuple(row[row != PAD].tolist())
            seen[key] = seen.get(key, False) | (label[: len(key)] != -100)
    covered = np.concatenate([chosen[1:-1] for chosen in seen.values()])
    assert 0.97 < covered.mean() < 1  # 1 - 0.85 ** 30 = 0.992
