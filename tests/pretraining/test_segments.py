"""Sentence pairs: the plan of an epoch against a plain reading of the published loop, and the batches cut from it."""

import numpy as np
import pytest
from scipy.stats import binom
from torch.utils.data import DataLoader

from companion.pretraining.corpus import prepare_corpus
from companion.pretraining.segments import PairBatches, PairPlan, _pairs, _truncate, plan_pairs
from tests.toys import NumberTokenizer, same_batch

CLS, SEP, PAD, FIRST = 2, 3, 0, 5
FIELDS = ("a_start", "a_end", "b_start", "b_end", "is_random")


def make_corpus(folder, documents):
    """Prepare a corpus from sentence lengths by document; its ids count up from 5, so an id tells its position."""
    number, lines = FIRST, []
    for lengths in documents:
        for length in lengths:
            lines.append(" ".join(map(str, range(number, number + length))))
            number += length
        lines.append("")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text("\n".join(lines))
    return prepare_corpus(folder / "text.txt", NumberTokenizer(250_000), folder / "corpus", progress=False)


@pytest.fixture(scope="module")
def documents():
    rng = np.random.default_rng(7)
    return [rng.geometric(0.05, size=rng.integers(1, 30)).tolist() for _ in range(150)]


@pytest.fixture(scope="module")
def corpus(documents, tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("segments"), documents)


def document_of(corpus, positions):
    sentences = np.searchsorted(corpus.sentence_starts, positions, side="right") - 1
    return np.searchsorted(corpus.document_starts, sentences, side="right") - 1


class Script:
    """A generator whose rows of uniform numbers are written down."""

    def __init__(self, *rows):
        self.rows = rows

    def random(self, shape):
        assert shape[1] == 6
        return np.array(self.rows, dtype=float)


def test_a_plan_worked_by_hand(tmp_path):
    # Positions: document 0 has sentences [0,4) [4,7) [7,12) [12,14), document 1 has [14,17) [17,23).
    corpus = make_corpus(tmp_path, [[4, 3, 5, 2], [3, 6]])
    script = Script(
        # short? target cut random? document sentence
        [0.50, 0.0, 0.0, 0.9, 0.0, 0.0],  # target 10: chunk of three, cut after one, B follows
        [0.50, 0.0, 0.0, 0.9, 0.0, 0.9],  # one sentence left: B is random, from document 1's second sentence
        [0.05, 0.2, 0.0, 0.9, 0.9, 0.6],  # short: target 3, one sentence, B from document 0's third, one is enough
        [0.50, 0.0, 0.9, 0.1, 0.0, 0.3],  # the last sentence alone
    )
    assert list(_pairs(corpus, 10, 0.1, script)) == [
        (0, 4, 4, 12, False),
        (12, 14, 17, 23, True),
        (14, 17, 7, 12, True),
        (17, 23, 4, 12, True),
    ]


def test_a_random_b_gives_the_rest_of_the_chunk_back(tmp_path):
    corpus = make_corpus(tmp_path, [[4, 3, 5, 2], [3, 6]])
    row = [0.5, 0.0, 0.0, 0.1, 0.0, 0.0]  # cut after one sentence, B from the other document's beginning
    starts = [pair[:2] for pair in _pairs(corpus, 10, 0.1, Script(*[row] * 6))]
    assert starts == [(0, 4), (4, 7), (7, 12), (12, 14), (14, 17), (17, 23)]


def published_pairs(documents, capacity, short_probability, uniforms):
    """The published loop over lists of sentences, a target for each chunk, and only other documents for random Bs."""
    positions = iter(range(10**9))
    texts = [[[next(positions) for _ in range(length)] for length in lengths] for lengths in documents]
    for number, document in enumerate(texts):
        index, chunk = 0, []
        while index < len(document):
            if not chunk:
                short, target_draw, cut_draw, random_draw, document_draw, sentence_draw = next(uniforms)
                target = 2 + int(target_draw * (capacity - 1)) if short < short_probability else capacity
            chunk.append(document[index])
            if index == len(document) - 1 or sum(map(len, chunk)) >= target:
                a_end = 1 if len(chunk) == 1 else 1 + int(cut_draw * (len(chunk) - 1))
                a = [token for sentence in chunk[:a_end] for token in sentence]
                is_random = len(chunk) == 1 or random_draw < 0.5
                if is_random:
                    others = texts[:number] + texts[number + 1 :]
                    other, b = others[int(document_draw * len(others))], []
                    for sentence in other[int(sentence_draw * len(other)) :]:
                        b.extend(sentence)
                        if len(b) >= target - len(a):
                            break
                    index -= len(chunk) - a_end
                else:
                    b = [token for sentence in chunk[a_end:] for token in sentence]
                yield a[0], a[-1] + 1, b[0], b[-1] + 1, is_random
                chunk = []
            index += 1


@pytest.mark.parametrize("capacity", [5, 40, 125])
@pytest.mark.parametrize("short_probability", [0.0, 0.1, 1.0])
def test_the_chunks_are_those_of_the_published_loop(corpus, documents, capacity, short_probability):
    rng = np.random.default_rng(3)
    uniforms = (row for _ in range(100) for row in rng.random((4096, 6)).tolist())
    expected = list(published_pairs(documents, capacity, short_probability, uniforms))
    assert list(_pairs(corpus, capacity, short_probability, np.random.default_rng(3))) == expected


def test_every_sentence_is_used_once_as_a_or_as_the_true_next(corpus):
    ranges = []
    for a_start, a_end, b_start, b_end, is_random in _pairs(corpus, 60, 0.1, np.random.default_rng(0)):
        ranges += [(a_start, a_end)] if is_random else [(a_start, a_end), (b_start, b_end)]
    assert [start for start, _ in ranges] == [0] + [end for _, end in ranges[:-1]]
    assert ranges[-1][1] == corpus.num_tokens


def test_truncation_lengths_equal_the_loop():
    def loop(a, b, capacity):
        while a + b > capacity:
            a, b = (a - 1, b) if a > b else (a, b - 1)
        return a, b

    for capacity in (2, 7, 8, 20):
        a, b = (grid.ravel() for grid in np.mgrid[1:30, 1:30])
        plan = PairPlan(np.zeros_like(a), a, 100 + 0 * b, 100 + b, b > 0)
        cut = _truncate(plan, capacity, np.random.default_rng(0))
        found = zip((cut.a_end - cut.a_start).tolist(), (cut.b_end - cut.b_start).tolist(), strict=True)
        assert list(found) == [loop(x, y, capacity) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
        assert (cut.a_start >= 0).all() and (cut.a_end <= a).all()
        assert (cut.b_start >= 100).all() and (cut.b_end <= 100 + b).all()


def test_truncation_takes_from_front_and_back_alike():
    rows = 4000
    ones = np.ones(rows, dtype=np.int64)
    plan = PairPlan(0 * ones, 50 * ones, 100 * ones, 110 * ones, ones > 0)
    cut = _truncate(plan, 20, np.random.default_rng(0))
    assert (cut.a_end - cut.a_start == 10).all() and (cut.b_start == 100).all() and (cut.b_end == 110).all()
    low, high = binom.interval(1 - 1e-6, 40 * rows, 0.5)
    assert low <= cut.a_start.sum() <= high
    assert len(np.unique(cut.a_start)) > 10


@pytest.mark.parametrize("max_tokens", [5, 16, 128])
def test_lengths_and_labels_of_a_plan(corpus, max_tokens):
    plan = plan_pairs(corpus, max_tokens, seed=1)
    assert plan.lengths.max() == max_tokens - 3
    assert (plan.a_end > plan.a_start).all() and (plan.b_end > plan.b_start).all()
    a, b = document_of(corpus, plan.a_start), document_of(corpus, plan.b_start)
    assert np.array_equal(a, document_of(corpus, plan.a_end - 1))
    assert np.array_equal(b, document_of(corpus, plan.b_end - 1))
    assert np.array_equal(a != b, plan.is_random)
    follows = ~plan.is_random
    assert (plan.b_start[follows] >= plan.a_end[follows]).all()
    whole = follows & (plan.lengths < max_tokens - 3)
    assert (plan.b_start[whole] == plan.a_end[whole]).all()


def test_half_of_the_chunks_that_can_be_cut_get_a_random_b(tmp_path):
    corpus = make_corpus(tmp_path, [[10] * 40] * 100)  # chunks of 13 sentences, the last one of each document shorter
    pairs = [_ for _ in _pairs(corpus, 125, 0.0, np.random.default_rng(0))]
    last = corpus.sentence_starts[corpus.document_starts[1:] - 1].tolist()
    several = [is_random for a_start, *_, is_random in pairs if a_start not in last]
    single = [is_random for a_start, *_, is_random in pairs if a_start in last]
    low, high = binom.interval(1 - 1e-6, len(several), 0.5)
    assert low <= sum(several) <= high
    assert single and all(single)


def test_random_documents_are_drawn_evenly(tmp_path):
    corpus = make_corpus(tmp_path, [[20] * 2000] * 5)  # each sentence alone fills a chunk, so each B is random
    plan = plan_pairs(corpus, max_tokens=10)
    counts = np.zeros((5, 5), dtype=int)
    np.add.at(counts, (document_of(corpus, plan.a_start), document_of(corpus, plan.b_start)), 1)
    low, high = binom.interval(1 - 1e-7, 2000, 1 / 4)
    assert (np.diag(counts) == 0).all()
    assert (counts.sum(axis=1) == 2000).all()
    assert ((counts[~np.eye(5, dtype=bool)] >= low) & (counts[~np.eye(5, dtype=bool)] <= high)).all()


def test_a_tenth_of_the_chunks_is_short(tmp_path):
    corpus = make_corpus(tmp_path, [[1] * 2000] * 20)  # sentences of one token: a chunk meets its target exactly
    pairs = [(a_start, b_end) for a_start, _, _, b_end, random in _pairs(corpus, 125, 0.1, np.random.default_rng(0))
             if not random and b_end % 2000]  # fmt: skip
    lengths = np.array([end - start for start, end in pairs])
    low, high = binom.interval(1 - 1e-6, len(lengths), 0.1 * 123 / 124)
    assert low <= (lengths < 125).sum() <= high
    assert lengths.min() >= 2 and lengths.max() == 125
    full = plan_pairs(corpus, short_probability=0.0)
    assert (full.lengths == 125).mean() > 0.9


def test_a_plan_depends_on_seed_and_epoch_alone(corpus):
    def plan(**options):
        return np.stack([getattr(plan_pairs(corpus, **options), field)[:200] for field in FIELDS])

    assert np.array_equal(plan(seed=1, epoch=2), plan(seed=1, epoch=2))
    assert not np.array_equal(plan(seed=1, epoch=2), plan(seed=2, epoch=1))
    assert not np.array_equal(plan(seed=1, epoch=2), plan(seed=1, epoch=3))
    assert (np.diff(plan_pairs(corpus).a_start) < 0).mean() > 0.4  # shuffled


def test_single_segments_are_whole_sentences_packed_to_the_brim(corpus):
    plan = plan_pairs(corpus, 60, next_sentence=False, short_probability=0.0)
    order = np.argsort(plan.a_start)
    start, end = plan.a_start[order], plan.a_end[order]
    assert start[0] == 0 and end[-1] == corpus.num_tokens and np.array_equal(start[1:], end[:-1])
    assert (end - start).max() == 58 and not plan.is_random.any() and np.array_equal(plan.b_start, plan.b_end)
    assert np.array_equal(document_of(corpus, start), document_of(corpus, end - 1))
    bounds = np.asarray(corpus.sentence_starts)
    whole = np.isin(end, bounds)
    assert ((end - start)[~whole] == 58).all()  # only a sentence longer than a segment is cut
    next_end = bounds[np.minimum(np.searchsorted(bounds, end, side="right"), len(bounds) - 1)]
    same_document = np.append(document_of(corpus, end[:-1]) == document_of(corpus, start[:-1]), False)
    assert (next_end - start)[whole & same_document].min() > 58  # the next sentence would not have fitted


def test_single_segments_worked_by_hand(tmp_path):
    corpus = make_corpus(tmp_path, [[3, 4, 2, 12], [5]])
    plan = plan_pairs(corpus, 10, next_sentence=False, short_probability=0.0)
    assert sorted(zip(plan.a_start.tolist(), plan.a_end.tolist(), strict=True)) == [
        (0, 7), (7, 9), (9, 17), (17, 21), (21, 26)
    ]  # fmt: skip


@pytest.fixture(params=[True, False], ids=["pairs", "single"])
def make_batches(request, corpus):
    def make(batch_size=16, **options):
        options = {"cls_id": CLS, "sep_id": SEP, "pad_id": PAD, "next_sentence": request.param} | options
        return PairBatches(corpus, batch_size, 64, **options)

    return make


def test_rows_are_laid_out_as_published(make_batches, corpus):
    batches = make_batches(pad_to_multiple_of=8)
    plan, step = batches.plan(0), 3
    batch = batches[step]
    for row in range(16):
        a_start, a_end, b_start, b_end, is_random = (getattr(plan, field)[step * 16 + row] for field in FIELDS)
        a, b = list(range(FIRST + a_start, FIRST + a_end)), list(range(FIRST + b_start, FIRST + b_end))
        expected = [CLS, *a, SEP] + ([*b, SEP] if b else [])
        types = [0] * (len(a) + 2) + ([1] * (len(b) + 1) if b else [])
        padding = batch["input_ids"].shape[1] - len(expected)
        assert batch["input_ids"][row].tolist() == expected + [PAD] * padding
        assert batch["token_type_ids"][row].tolist() == types + [0] * padding
        assert batch["attention_mask"][row].tolist() == [1] * len(expected) + [0] * padding
        if batches.next_sentence:
            assert batch["next_sentence_label"][row] == is_random
    assert ("next_sentence_label" in batch) == batches.next_sentence
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}


def test_width_is_the_longest_row_rounded_up(corpus):
    for multiple in (1, 8, 50):
        batches = PairBatches(corpus, 2, 64, cls_id=CLS, sep_id=SEP, short_probability=1.0, pad_to_multiple_of=multiple)
        widths = set()
        for step in range(60):
            batch = batches[step]
            longest = int(batch["attention_mask"].sum(axis=1).max())
            widths.add(batch["input_ids"].shape[1])
            assert batch["input_ids"].shape[1] == min(64, -(-longest // multiple) * multiple)
        assert len(widths) > 1


def test_a_batch_depends_on_the_step_alone(make_batches):
    batches = make_batches()
    last = 2 * batches.steps_per_epoch + 2
    steps = [0, 1, batches.steps_per_epoch - 1, batches.steps_per_epoch, last]
    forward = [batches[step] for step in steps]
    backward = [batches[step] for step in reversed(steps)][::-1]
    fresh = [make_batches()[step] for step in steps]
    for step in range(len(steps)):
        assert same_batch(forward[step], backward[step]) and same_batch(forward[step], fresh[step])
    assert not same_batch(batches[0], batches[batches.steps_per_epoch])
    assert not same_batch(batches[0], make_batches(seed=1)[0])
    with pytest.raises(IndexError, match="number=-1 is negative"):
        batches[-1]


def test_an_epoch_sees_every_example_of_its_plan_at_most_once(make_batches):
    batches = make_batches()
    rows = np.concatenate([batches[step]["input_ids"][:, 1] for step in range(batches.steps_per_epoch)])
    starts = np.sort(FIRST + batches.plan(0).a_start)
    assert 0 <= len(starts) - len(rows) < 16
    values, counts = np.unique(rows, return_counts=True)
    known, available = np.unique(starts, return_counts=True)
    assert (counts <= available[np.searchsorted(known, values)]).all()


def test_a_small_corpus_repeats_its_examples(tmp_path):
    corpus = make_corpus(tmp_path, [[4], [5], [6]])
    batches = PairBatches(corpus, 8, 32, cls_id=CLS, sep_id=SEP)
    assert batches.steps_per_epoch == 1
    starts = batches[5]["input_ids"][:, 1]
    assert sorted(starts[:3].tolist()) == [FIRST, FIRST + 4, FIRST + 9]
    assert starts.tolist() == [starts[row % 3] for row in range(8)]


def test_workers_build_the_same_batches(make_batches):
    batches = make_batches()
    steps = range(batches.steps_per_epoch - 3, batches.steps_per_epoch + 3)
    found = {}
    for workers in (0, 1, 2):
        loader = DataLoader(batches, sampler=steps, batch_size=None, num_workers=workers)
        found[workers] = [{key: value.numpy() for key, value in batch.items()} for batch in loader]
    for row, step in enumerate(steps):
        assert all(same_batch(found[workers][row], batches[step]) for workers in found)


def test_wrong_arguments_are_named(corpus, tmp_path):
    alone = make_corpus(tmp_path, [[5, 5, 5]])
    with pytest.raises(ValueError, match=r"needs at least two documents.*has 1: put empty lines"):
        plan_pairs(alone)
    assert len(plan_pairs(alone, next_sentence=False)) == 1
    with pytest.raises(ValueError, match="max_tokens=4 is not allowed; it must be an integer of at least 5"):
        plan_pairs(corpus, max_tokens=4)
    with pytest.raises(ValueError, match="short_probability=1.5 is not allowed; it must be a share in .0, 1."):
        plan_pairs(corpus, short_probability=1.5)
    with pytest.raises(ValueError, match="batch_size=0 is not allowed"):
        PairBatches(corpus, 0, cls_id=CLS, sep_id=SEP)
    with pytest.raises(ValueError, match="pad_to_multiple_of=0 is not allowed"):
        PairBatches(corpus, 6, cls_id=CLS, sep_id=SEP, pad_to_multiple_of=0)
