"""Batches: what is in them, how much of them is padding, and that each follows from its number alone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from companion.training.batching import GroupedBatches, pad_rows, sorted_batches


def rows_of_lengths(lengths) -> dict[str, list]:
    """Make rows whose ids are all the number of the row, so that a batch tells which rows it holds."""
    return {"input_ids": [[number + 1] * int(length) for number, length in enumerate(lengths)]}


def lengths_like_sentences(rows: int) -> np.ndarray:
    return np.random.default_rng(0).geometric(1 / 20, rows).clip(3, 128)


def epoch(batches: GroupedBatches, number: int) -> list[np.ndarray]:
    steps = batches.steps_per_epoch
    return [batches.rows_of(i) for i in range(number * steps, (number + 1) * steps)]


def test_rows_are_padded_on_the_right_each_column_in_its_way():
    batch = pad_rows(
        {"input_ids": [[2, 7, 3], [2, 3]], "token_type_ids": [[0, 0, 1], [0, 1]], "labels": [[5, 6, 7], [8, 9]]},
        pad_id=1,
    )
    assert batch["input_ids"].tolist() == [[2, 7, 3], [2, 3, 1]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1], [0, 1, 0]]
    assert batch["labels"].tolist() == [[5, 6, 7], [8, 9, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert {values.dtype for values in batch.values()} == {torch.int64}


def test_the_mask_is_left_out_where_nothing_is_padded_and_made_anew_where_something_is():
    assert "attention_mask" not in pad_rows({"input_ids": [[2, 3], [2, 3]], "attention_mask": [[1, 1], [1, 1]]})
    assert pad_rows({"input_ids": [[2, 3]]}, multiple=4)["attention_mask"].tolist() == [[1, 1, 0, 0]]


def test_arrays_and_numbers_have_one_entry_a_row():
    vectors = np.array([[0.0, 1.0], [1.0, 1.0]])
    batch = pad_rows({"input_ids": [[2, 3], [2, 3]], "labels": vectors, "score": [1.5, 2.5], "id": (4, 5)})
    assert batch["labels"].tolist() == vectors.tolist()
    assert batch["score"].tolist() == [1.5, 2.5]
    assert batch["id"].tolist() == [4, 5]


@given(rows=st.integers(1, 200), batch_size=st.integers(1, 40), group=st.booleans(), seed=st.integers(0, 9))
def test_every_epoch_holds_every_row_once_in_batches_that_differ_little_in_size(rows, batch_size, group, seed):
    batches = GroupedBatches(rows_of_lengths(np.arange(rows) % 13 + 1), batch_size, seed=seed, group=group)
    for number in range(2):
        found = epoch(batches, number)
        assert sorted(np.concatenate(found).tolist()) == list(range(rows))
        sizes = [len(batch) for batch in found]
        assert max(sizes) <= batch_size
        assert min(sizes) >= rows // batches.steps_per_epoch


def test_thirty_three_rows_in_batches_of_thirty_two_are_cut_in_the_middle():
    assert sorted(len(batch) for batch in epoch(GroupedBatches(rows_of_lengths([4] * 33), 32), 0)) == [16, 17]


def test_a_batch_follows_from_seed_and_number_alone():
    rows = rows_of_lengths(lengths_like_sentences(200))
    forward, backward = GroupedBatches(rows, 16, seed=3), GroupedBatches(rows, 16, seed=3)
    numbers = range(2 * forward.steps_per_epoch)
    first = [forward[i] for i in numbers]
    backward = pickle.loads(pickle.dumps(backward))
    second = [backward[i] for i in reversed(numbers)][::-1]
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_seeds_and_epochs_have_orders_of_their_own():
    rows = rows_of_lengths(range(1, 201))
    batches, other = GroupedBatches(rows, 16, seed=0), GroupedBatches(rows, 16, seed=1)
    sets = [
        {frozenset(batch.tolist()) for batch in found}
        for found in (epoch(batches, 0), epoch(batches, 1), epoch(other, 0))
    ]
    for i in range(3):
        for j in range(i):
            assert len(sets[i] & sets[j]) <= 1


def test_grouping_saves_most_of_the_padding():
    lengths = lengths_like_sentences(2000)

    def width_over_length(group: bool) -> float:
        batches = GroupedBatches(rows_of_lengths(lengths), 32, group=group)
        return sum(batches[i]["input_ids"].numel() for i in range(batches.steps_per_epoch)) / lengths.sum()

    assert width_over_length(group=False) > 3
    assert width_over_length(group=True) < 1.3


def test_short_and_long_batches_come_in_random_order():
    batches = GroupedBatches(rows_of_lengths(lengths_like_sentences(2000)), 32)
    widths = [batches[i]["input_ids"].shape[1] for i in range(batches.steps_per_epoch)]
    assert abs(np.corrcoef(widths, np.arange(len(widths)))[0, 1]) < 0.3
    assert 0.3 < np.mean(np.diff(widths) > 0) < 0.7


def test_widths_are_rounded_up_when_asked():
    batches = GroupedBatches(rows_of_lengths([3, 9, 17]), 1, multiple=8)
    assert sorted(batches[i]["input_ids"].shape[1] for i in range(3)) == [8, 16, 24]


def test_several_processes_are_dealt_the_same_batches():
    rows = rows_of_lengths(lengths_like_sentences(100))
    whole, dealt = GroupedBatches(rows, 16), GroupedBatches(rows, 16, world_size=3)
    assert dealt.steps_per_epoch == whole.steps_per_epoch
    for number in range(2 * whole.steps_per_epoch):
        parts = [dealt.rows_of(3 * number + share) for share in range(3)]
        assert sorted(np.concatenate(parts)) == sorted(whole.rows_of(number))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_sorted_batches_go_from_long_to_short():
    lengths = [3, 9, 1, 9, 5]
    assert [batch.tolist() for batch in sorted_batches(lengths, 2)] == [[1, 3], [4, 0], [2]]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ({"input_ids": []}, {}, "rows are empty"),
        ({"input_ids": [[1]], "labels": [0, 1]}, {}, "column 'labels' has 2 rows, input_ids has 1"),
        (rows_of_lengths([3]), {"batch_size": 0}, "batch_size=0 is not allowed; it must be an integer above 0"),
        (rows_of_lengths([3]), {"multiple": 0}, "multiple=0 is not allowed"),
        (rows_of_lengths([3] * 33), {"world_size": 17}, "world_size=17 is more than the 16 rows of the smallest batch"),
    ],
)
def test_what_cannot_be_batched_is_refused(rows, options, message):
    with pytest.raises(ValueError, match=message):
        GroupedBatches(rows, **options)
