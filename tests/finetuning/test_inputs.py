"""What texts and labels may come in, and what is said when they are not right."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import DataConversionWarning

from companion.finetuning import TextClassifier, TextRegressor
from companion.finetuning.labels import number_labels
from companion.finetuning.texts import read_texts
from tests.toys import keyword_texts


def quick(tiny: Path, **changes) -> TextClassifier:
    """Return an estimator that trains for moments."""
    return TextClassifier(tiny, **{"epochs": 1, "batch_size": 8, "max_length": 16, "learning_rate": 3e-3} | changes)


def column(values: list, kind: str | None) -> object:
    """Return values as a column of a data set in a format."""
    return datasets.Dataset.from_dict({"x": values}).with_format(kind)["x"]


FORMATS = (None, "numpy", "pandas", "torch")
COLUMNS = {f"column, {kind}": (lambda values, kind=kind: column(values, kind)) for kind in FORMATS}
CONTAINERS: dict[str, Callable[[list], object]] = {
    "tuple": tuple,
    "generator": lambda values: (value for value in values),
    "map": lambda values: map(str, values),
    "array": np.array,
    "objects": lambda values: np.array(values, dtype=object),
    "column vector": lambda values: np.array(values)[:, None],
    "Series": lambda values: pd.Series(values, index=range(5, 5 + len(values))),
    "Series in another order": lambda values: pd.Series(values, index=range(len(values))[::-1]),
    "string dtype": lambda values: pd.Series(values, dtype="string"),
    "categories": lambda values: pd.Series(values, dtype="category"),
    "DataFrame of one column": lambda values: pd.DataFrame({"text": values}, index=range(3, 3 + len(values))),
    "Index": pd.Index,
    "dict values": lambda values: dict(enumerate(values)).values(),
    **{
        f"column, {kind}": (lambda values, kind=kind: column(values, kind))
        for kind in (None, "numpy", "pandas", "torch")
    },
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_texts_come_in_every_usual_container(name: str):
    texts, _ = keyword_texts(6)
    assert read_texts("X", CONTAINERS[name](texts)) == texts


def test_texts_that_can_be_read_only_once_are_trained_on(tiny: Path):
    texts, labels = keyword_texts(16)
    expected = quick(tiny).fit(texts, labels).predict_proba(texts)
    found = quick(tiny).fit((text for text in texts), iter(labels))
    np.testing.assert_array_equal(found.predict_proba(map(str, texts)), expected)


PAIRS = [("red", "blue alpha"), ("blue", "red")] * 8


@pytest.mark.parametrize(
    "pairs",
    [
        zip(*map(list, zip(*PAIRS, strict=True)), strict=True),
        np.array(PAIRS),
        pd.DataFrame(PAIRS, columns=["premise", "hypothesis"], index=range(16)[::-1]),
        [list(pair) for pair in PAIRS],
        column(PAIRS, None),
        column(PAIRS, "numpy"),
    ],
    ids=["zip", "array", "DataFrame", "lists", "column", "column, numpy"],
)
def test_pairs_come_in_every_usual_container(pairs):
    assert read_texts("X", pairs) == PAIRS


def test_pairs_and_single_texts_are_not_mixed_up(tiny: Path):
    of_pairs = quick(tiny).fit(PAIRS, ["a", "b"] * 8)
    turned = of_pairs.predict_proba([(second, first) for first, second in PAIRS])
    assert np.abs(turned - of_pairs.predict_proba(PAIRS)).max() > 1e-6
    with pytest.raises(TypeError, match="X holds single texts, but this TextClassifier was fitted on pairs of texts"):
        of_pairs.predict(["red"])
    single = TextRegressor(tiny, epochs=1, max_length=16).fit(["red", "blue"], [0.0, 1.0])
    with pytest.raises(TypeError, match="X holds pairs of texts, but this TextRegressor was fitted on single texts"):
        single.predict(PAIRS)


LABELS = {
    "int": ([3, 1], [1, 3], "i"),
    "str": (["b", "a"], ["a", "b"], "U"),
    "bool": ([True, False], [False, True], "b"),
    "whole floats": ([2.0, 1.0], [1.0, 2.0], "f"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_keep_their_type(tiny: Path, kind: str):
    labels, classes, dtype = LABELS[kind]
    texts, _ = keyword_texts(12)
    estimator = quick(tiny).fit(texts, labels * 6)
    assert estimator.classes_.tolist() == classes
    assert estimator.classes_.dtype.kind == estimator.predict(texts).dtype.kind == dtype
    assert 0 <= estimator.score(texts, labels * 6) <= 1


NUMBERS = {
    "array": np.array,
    "int8": lambda values: np.array(values, dtype=np.int8),
    "Series": lambda values: pd.Series(values, index=range(len(values))[::-1]),
    "nullable": lambda values: pd.Series(values, dtype="Int64"),
    "categories": lambda values: pd.Series(values, dtype="category"),
    "tensor": torch.tensor,
    "tensors": lambda values: [torch.tensor(value) for value in values],
    "scalars of NumPy": lambda values: [np.int64(value) for value in values],
    "generator": iter,
    **{
        f"column, {kind}": (lambda values, kind=kind: column(values, kind))
        for kind in (None, "numpy", "pandas", "torch")
    },
}


@pytest.mark.parametrize("name", NUMBERS)
def test_labels_come_in_every_usual_container(name: str):
    classes, ids = number_labels(NUMBERS[name]([3, 1, 3, 1, 1]), 5)
    assert classes.tolist() == [1, 3]
    assert ids.tolist() == [1, 0, 1, 0, 0] and ids.dtype == np.int64


@pytest.mark.parametrize("kind", [np.array, torch.tensor, pd.DataFrame], ids=["NumPy", "PyTorch", "pandas"])
def test_a_column_vector_of_labels_is_flattened_with_the_warning_of_scikit_learn(tiny: Path, kind):
    texts, _ = keyword_texts(12)
    expected = quick(tiny).fit(texts, [3, 1] * 6)
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed when a 1d array was expected"):
        found = quick(tiny).fit(texts, kind([[3], [1]] * 6))
    assert found.classes_.tolist() == [1, 3] and found.multilabel_ is None
    np.testing.assert_array_equal(found.predict_proba(texts), expected.predict_proba(texts))


@pytest.mark.parametrize(
    ("texts", "labels", "error", "message"),
    [
        ([], [], ValueError, "X is empty"),
        ("a text", ["x"], TypeError, r"X='a text' is one str; pass a list"),
        (b"a text", ["x"], TypeError, r"X=b'a text' is one bytes"),
        ({"a": 1}, ["x"], TypeError, "X is of type dict; pass a list"),
        ({"a", "b"}, ["x", "y"], TypeError, "X is a set, which has no order"),
        (None, ["x"], TypeError, "X is of type NoneType"),
        (["a", "b", float("nan")], ["x", "y", "x"], TypeError, r"X\[2\]=nan is missing; drop it"),
        (["a", "b", pd.NA], ["x", "y", "x"], TypeError, r"X\[2\]=<NA> is missing"),
        ([None, "b"], ["x", "y"], TypeError, r"X\[0\]=None is missing"),
        ([1, 2], ["x", "y"], TypeError, r"X\[0\]=1 is of type int; it must be a str or a pair of str"),
        ([("a", "b"), "c"], ["x", "y"], TypeError, r"X\[1\]='c' is of type str; it must be a pair of str"),
        (["a", ("b", "c")], ["x", "y"], TypeError, r"X\[1\]=\('b', 'c'\) .* must be a str, as the first is"),
        ([("a", "b", "c")], ["x"], TypeError, r"X\[0\]=\('a', 'b', 'c'\)"),
        (np.ones((3, 4)), ["x", "y", "x"], TypeError, r"X\[0\]=\[1.0, 1.0, 1.0, 1.0\] is of type list"),
        (["a", "b"], ["x"], ValueError, "y has 1 labels, X has 2 texts"),
        (["a", "b"], ["x", "x"], ValueError, r"y holds one class only \('x'\)"),
        (["a", "b"], ["x", None], ValueError, r"y\[1\]=None is missing; drop the text, or give it a label"),
        (["a", "b"], ["x", float("nan")], ValueError, r"y\[1\]=nan is missing"),
        (["a", "b"], pd.Series(["x", pd.NA], dtype="string"), ValueError, r"y\[1\]=<NA> is missing"),
        (["a", "b"], pd.Series([pd.Timestamp(0), pd.NaT]), ValueError, r"y\[1\]=NaT is missing"),
        (["a", "b"], pd.Series([1, None], dtype="Int64"), ValueError, r"y\[1\]=<NA> is missing"),
        (["a", "b"], np.array([1.0, np.nan]), ValueError, r"y\[1\]=nan is missing"),
        (["a", "b"], [0.5, 1.0], ValueError, r"y\[0\]=0.5 is a continuous number, no class; use a TextRegressor"),
        (["a", "b"], ["x", 1], TypeError, r"y mixes str and numbers \('x', y\[1\]=1\)"),
        (["a", "b"], [object(), 1], TypeError, r"y\[0\]=<object .* a label is a str, int or bool"),
        (["a", "b"], "xy", TypeError, "y='xy' is one str"),
        (["a", "b"], {0: "x", 1: "y"}, TypeError, "y is of type dict"),
        (["a", "b"], None, ValueError, "TextClassifier requires y to be passed, but the target y is None"),
    ],
)
def test_wrong_input_is_named(tiny: Path, texts, labels, error, message: str):
    with pytest.raises(error, match=message):
        quick(tiny).fit(texts, labels)


def test_texts_that_are_too_long_are_counted_once(tiny: Path):
    texts, labels = ["red " * 9, "red " * 6, "blue", "good " * 7] * 2, ["a", "b"] * 4
    message = r"4 of 8 texts are longer than max_length=8 tokens; the rest is not read"
    with pytest.warns(UserWarning, match=message) as caught:
        estimator = quick(tiny, max_length=8).fit(texts, labels)
    assert len(caught) == 1 and caught[0].filename == __file__
    with pytest.warns(UserWarning, match=r"1 of 2 text is longer") as caught:
        estimator.predict(["blue", "red " * 7])
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.predict(["red " * 6])  # [CLS], six words, [SEP]: it just fits
    with pytest.warns(UserWarning, match="1 of 1 text is longer"):
        quick(tiny, max_length=8).fit(PAIRS, ["a", "b"] * 8).predict([("red " * 3, "blue " * 3)])
