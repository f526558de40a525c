"""A conditional random field: against the list of all sequences of tags, on texts short enough to write it down."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from companion.finetuning.crf import LinearChainCRF, log_partition, path_score
from companion.finetuning.tags import allowed, best_path, best_tags, check_iob2

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


@pytest.fixture
def crf() -> LinearChainCRF:
    """One with transitions of its own, in double precision."""
    torch.manual_seed(0)
    crf = LinearChainCRF(TAGS).double()
    with torch.no_grad():
        crf.starts.normal_()
        crf.steps.normal_()
    return crf


def listed(crf: LinearChainCRF, scores: torch.Tensor) -> dict[tuple[int, ...], float]:
    """Return the score of every sequence that IOB2 allows, added up by hand."""
    found = {}
    for path in product(range(len(TAGS)), repeat=len(scores)):
        names = ["O", *(TAGS[tag] for tag in path)]
        if all(allowed(a, b) for a, b in zip(names, names[1:], strict=False)):
            steps = sum(crf.steps[a, b].item() for a, b in zip(path, path[1:], strict=False))
            words = sum(row[tag].item() for row, tag in zip(scores, path, strict=True))
            found[path] = crf.starts[path[0]].item() + steps + words
    return found


@pytest.mark.parametrize("words", [1, 2, 3, 5])
def test_the_loss_is_the_softmax_over_all_allowed_sequences(crf: LinearChainCRF, words: int):
    scores = torch.randn(words, len(TAGS), dtype=torch.double)
    found = listed(crf, scores)
    together = np.logaddexp.reduce(list(found.values()))
    for path, score in list(found.items())[::7]:
        loss = crf(scores[None], torch.tensor([path]))
        assert loss.item() == pytest.approx(together - score)
    starts, steps = crf.chain()
    mask = torch.ones(1, words, dtype=torch.bool)
    assert log_partition(scores[None], starts, steps, mask).item() == pytest.approx(together)


@pytest.mark.parametrize("words", [1, 2, 4, 6])
def test_the_decoded_sequence_is_the_best_of_all(crf: LinearChainCRF, words: int):
    for seed in range(5):
        scores = torch.randn(words, len(TAGS), generator=torch.Generator().manual_seed(seed), dtype=torch.double)
        found = listed(crf, scores)
        assert crf.decode(scores) == [TAGS[tag] for tag in max(found, key=found.get)]
        check_iob2(crf.decode(scores), "decoded")


def test_without_transitions_it_decodes_as_the_scheme_alone_does():
    scores = torch.randn(9, len(TAGS)).log_softmax(-1)
    assert LinearChainCRF(TAGS).decode(scores) == best_tags(scores.double().numpy(), TAGS)


def test_all_scores_zero_count_the_allowed_sequences():
    """One type: 2, 5, 13, 34 sequences, every second Fibonacci number."""
    crf = LinearChainCRF(["O", "B-X", "I-X"])
    for words, count in enumerate((2, 5, 13, 34), start=1):
        loss = crf(torch.zeros(1, words, 3), torch.zeros(1, words, dtype=torch.long))
        assert loss.exp().item() == pytest.approx(count, rel=1e-5)


def test_a_forbidden_sequence_costs_infinitely_much(crf: LinearChainCRF):
    scores = torch.randn(1, 2, len(TAGS), dtype=torch.double)
    assert crf(scores, torch.tensor([[0, 2]])).item() == float("inf")
    assert crf(scores, torch.tensor([[1, 4]])).item() == float("inf")


def test_padding_changes_nothing_whatever_it_holds(crf: LinearChainCRF):
    short, long = torch.randn(2, len(TAGS), dtype=torch.double), torch.randn(4, len(TAGS), dtype=torch.double)
    scores = torch.stack([torch.cat([short, torch.full((2, len(TAGS)), 99.0)]), long])
    labels = torch.tensor([[1, 2, -100, -100], [0, 3, 4, 0]])
    mask = labels >= 0
    alone = crf(short[None], labels[:1, :2]), crf(long[None], labels[1:])
    assert crf(scores, labels, mask).item() == pytest.approx((sum(alone) / 2).item())


def test_the_gradient_is_that_of_finite_differences_and_none_reaches_what_is_forbidden(crf: LinearChainCRF):
    scores = torch.randn(2, 3, len(TAGS), dtype=torch.double, requires_grad=True)
    labels = torch.tensor([[1, 2, 0], [3, 4, -100]])
    assert torch.autograd.gradcheck(lambda x: crf(x, labels, labels >= 0), scores)
    crf(scores, labels, labels >= 0).backward()
    assert torch.isfinite(crf.steps.grad).all() and torch.isfinite(crf.starts.grad).all()
    assert (crf.steps.grad[~crf.allowed_steps] == 0).all()


def test_it_learns_an_order_that_the_words_do_not_show():
    """Scores say nothing; every text is B-PER, I-PER, O: the chain alone learns it."""
    crf = LinearChainCRF(["O", "B-PER", "I-PER"])
    scores, labels = torch.zeros(4, 3, 3), torch.tensor([[1, 2, 0]] * 4)
    optimiser = torch.optim.Adam(crf.parameters(), lr=0.1)
    for _ in range(100):
        loss = crf(scores, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2
    assert crf.decode(scores[0]) == ["B-PER", "I-PER", "O"]


def test_a_path_score_adds_words_start_and_steps():
    scores = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    starts, steps = torch.tensor([10.0, 20.0]), torch.tensor([[100.0, 200.0], [300.0, 400.0]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert path_score(scores, torch.tensor([[1, 0]]), starts, steps, mask).item() == 20 + 2 + 300 + 3
    assert best_path(np.array([[1.0, 2], [3, 4]]), starts.numpy(), steps.numpy()) == [1, 1]
