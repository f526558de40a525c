"""Whatever holds the items, the same list comes out of it."""

from __future__ import annotations

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

from companion.support.containers import as_list, as_texts, is_missing

TEXTS = ["b", "a", "c"]
HOLDERS = {
    "list": lambda: list(TEXTS),
    "tuple": lambda: tuple(TEXTS),
    "generator": lambda: (text for text in TEXTS),
    "map": lambda: map(str, TEXTS),
    "keys": lambda: dict.fromkeys(TEXTS).keys(),
    "array of str": lambda: np.array(TEXTS),
    "array of objects": lambda: np.array(TEXTS, dtype=object),
    "list of NumPy's str": lambda: [np.str_(text) for text in TEXTS],
    "Series, index in another order": lambda: pd.Series(TEXTS, index=[2, 0, 1]),
    "Series, index with gaps": lambda: pd.Series(TEXTS, index=[7, 70, 9]),
    "Series, pandas' own str": lambda: pd.Series(TEXTS, dtype="string"),
    "Series, categories": lambda: pd.Series(TEXTS, dtype="category"),
    "Index": lambda: pd.Index(TEXTS),
    "column of a data set": lambda: datasets.Dataset.from_dict({"text": TEXTS})["text"],
    "column in NumPy's format": lambda: datasets.Dataset.from_dict({"text": TEXTS}).with_format("numpy")["text"],
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_texts_come_in_their_order(holder: str):
    assert as_texts("texts", HOLDERS[holder]()) == TEXTS
    assert all(type(text) is str for text in as_texts("texts", HOLDERS[holder]()))


NUMBERS = {
    "array": lambda: np.array([1, 0, 1]),
    "small array": lambda: np.array([1, 0, 1], dtype=np.int8),
    "list of NumPy's": lambda: [np.int64(1), np.int64(0), np.int64(1)],
    "tensor": lambda: torch.tensor([1, 0, 1]),
    "tensor with gradient": lambda: torch.tensor([1.0, 0.0, 1.0], requires_grad=True),
    "list of tensors": lambda: [torch.tensor(value) for value in (1, 0, 1)],
    "nullable Series": lambda: pd.Series([1, 0, 1], dtype="Int64"),
    "column in torch's format": lambda: datasets.Dataset.from_dict({"n": [1, 0, 1]}).with_format("torch")["n"],
}


@pytest.mark.parametrize("holder", NUMBERS)
def test_numbers_are_those_of_python(holder: str):
    items = as_list("labels", NUMBERS[holder]())
    assert items == [1, 0, 1] and {type(item) for item in items} <= {int, float}


def test_rows_of_a_frame_are_its_items():
    assert as_list("texts", pd.DataFrame({"a": ["x", "y"], "b": ["u", "v"]}, index=[5, 1])) == [["x", "u"], ["y", "v"]]


@pytest.mark.parametrize("wrong", ["cats purr", b"cats", {"a": 1}, {"a", "b"}, 7, None, np.array(3)])
def test_what_holds_no_ordered_items_is_refused_by_name(wrong):
    with pytest.raises(TypeError, match="^texts"):
        as_list("texts", wrong)


@pytest.mark.parametrize("missing", [None, float("nan"), np.nan, pd.NA, pd.NaT, np.datetime64("NaT")])
def test_every_form_of_missing_is_named_with_its_index(missing):
    assert is_missing(missing)
    with pytest.raises(TypeError, match=r"^texts\[1\]=.* is missing; drop it"):
        as_texts("texts", ["a", missing])


@pytest.mark.parametrize("present", ["", 0, False, 0.0, [], np.array([1, 2])])
def test_what_is_empty_or_zero_is_not_missing(present):
    assert not is_missing(present)
