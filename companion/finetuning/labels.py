"""Labels as they are given, and as what a network is trained on: numbers of classes, or 0 and 1 for each class."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.exceptions import DataConversionWarning
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.class_weight import compute_class_weight

from companion.finetuning.texts import one_column
from companion.support.containers import as_list, is_missing
from companion.support.require import number, require, shortened

Label = str | int | float | bool
Labels = Iterable[Label]


def number_labels(
    labels: Labels, count: int | None = None, classes: np.ndarray | None = None, name: str = "y"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes, sorted, and the number of every label among them, int64, (count,).

    Parameters
    ----------
    labels : iterable of str, int, bool or whole float
        One per text; containers as in `companion.support.containers.as_list`. A column vector is flattened with
        scikit-learn's DataConversionWarning.
    count : int, optional
        How many there must be.
    classes : array, optional
        The classes that are known; None takes those that occur.
    name : str
        The argument, for messages.

    Raises
    ------
    TypeError
        If a label is of another type, or str and numbers are mixed.
    ValueError
        If the count differs, a label is missing or no whole number, there are fewer than two classes, or a label is
        not among `classes`.
    """
    items = as_labels(labels, count, name)
    if classes is None:
        encoder = LabelEncoder().fit(checked_labels(items, name))
        if len(encoder.classes_) < 2:
            raise ValueError(f"{name} holds one class only ({items[0]!r}); a classifier needs at least two")
        return encoder.classes_, encoder.transform(items).astype(np.int64)
    return classes, _numbers(items, classes, name)


def as_labels(labels: Any, count: int | None, name: str = "y") -> list[Any]:
    """Return labels as a list; a column vector is flattened with a warning.

    Raises
    ------
    ValueError
        If there are not `count`, or one is missing; names its index.
    """
    flat = one_column(labels)
    if flat is not labels:
        message = f"A column-vector {name} was passed when a 1d array was expected; pass {name}.ravel()"
        warnings.warn(message, DataConversionWarning, stacklevel=4)
    items = as_list(name, flat)
    if count is not None and len(items) != count:
        raise ValueError(f"{name} has {len(items)} labels, X has {count} texts; every text needs one label")
    for index, label in enumerate(items):
        if is_missing(label):
            raise ValueError(f"{name}[{index}]={label!r} is missing; drop the text, or give it a label")
    return items


def is_multilabel(labels: Any) -> bool:
    """Return whether labels are several per text: an array of several columns, or a list of lists, tuples or sets."""
    if len(getattr(labels, "shape", ())) == 2:
        return labels.shape[1] > 1
    return isinstance(labels, list) and any(isinstance(one, list | tuple | set | frozenset) for one in labels)


def binarise_labels(
    labels: Any, count: int, classes: np.ndarray | None = None, name: str = "y"
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return the classes, 0 or 1 for every text and class, float32, (count, classes), and whether lists were given.

    Parameters
    ----------
    labels : array, DataFrame or list of lists
        An indicator matrix of 0 and 1 (also as a list of equally long rows), whose classes are the names of the
        columns of a DataFrame, else 0, 1, 2, ...; or for every text a list of its labels, which may be empty.
    count, classes, name
        As in `number_labels`.

    Raises
    ------
    TypeError, ValueError
        As in `number_labels`.
    """
    names = None if classes is None else classes.tolist()
    rows = as_list(name, labels)
    if len(rows) != count:
        raise ValueError(f"{name} has {len(rows)} rows, X has {count} texts; every text needs one")
    if _is_indicator(rows, labels):
        found = list(labels.columns) if hasattr(labels, "columns") else list(range(len(rows[0])))
        if names is not None and len(found) != len(names):
            raise ValueError(f"{name} has {len(found)} columns, the classifier {len(names)} classes; pass one each")
        return np.array(found if names is None else names), np.array(rows, dtype=np.float32), False
    sets = [_label_set(row, f"{name}[{index}]") for index, row in enumerate(rows)]
    flat = [label for row in sets for label in row]
    if names is None:
        names = LabelEncoder().fit(checked_labels(flat, name)).classes_.tolist() if flat else []
        if len(names) < 2:
            raise ValueError(f"{name} holds {len(names)} different labels; several per text need at least two")
    matrix = np.zeros((count, len(names)), dtype=np.float32)
    for row, numbers in enumerate(np.split(_numbers(flat, np.array(names), name), np.cumsum([*map(len, sets)])[:-1])):
        matrix[row, numbers] = 1
    return np.array(names), matrix, True


def label_weights(class_weight: Any, classes: np.ndarray, ids: np.ndarray) -> np.ndarray | None:
    """Return the weight of every label, (labels,), or None where all are alike.

    Parameters
    ----------
    class_weight : None, "balanced" or mapping
        As in scikit-learn: "balanced" gives every class the same weight in total, a mapping names weights; a class
        that it does not name weighs 1.

    Raises
    ------
    ValueError
        If it is something else, or names a class that does not occur.
    """
    if class_weight is None:
        return None
    if isinstance(class_weight, Mapping):
        if unknown := [label for label in class_weight if label not in classes.tolist()]:
            raise ValueError(f"class_weight names {unknown[0]!r}, which is not among the labels {classes.tolist()}")
        weights = [
            number("class_weight", class_weight.get(label, 1), "a mapping to numbers of 0 or more", minimum=0)
            for label in classes.tolist()
        ]
        return np.array(weights)[ids]
    require("class_weight", class_weight, class_weight == "balanced", "None, 'balanced' or a dict of label to weight")
    return compute_class_weight("balanced", classes=np.arange(len(classes)), y=ids)[ids]


def log_odds(matrix: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the logarithm of the odds of every label, (classes,): what is known before a text is read.

    Half a text is added on either side, so that a label that all texts have, or none, has finite odds.

    Parameters
    ----------
    matrix : array of 0 and 1, (texts, classes)
    weights : array, (texts,), optional
        Of the texts.

    References
    ----------
    Lin et al. (2017), "Focal Loss for Dense Object Detection": a detector starts from the share of objects.

    Examples
    --------
    >>> import numpy as np
    >>> log_odds(np.array([[1, 0], [0, 0], [0, 0]])).round(2).tolist()  # ln(1.5 / 2.5), ln(0.5 / 3.5)
    [-0.51, -1.95]
    """
    weights = np.ones(len(matrix)) if weights is None else np.asarray(weights, dtype=np.float64)
    having = weights @ matrix
    return np.log(having + 0.5) - np.log(weights.sum() - having + 0.5)


def _is_indicator(rows: list[Any], labels: Any) -> bool:
    if len(getattr(labels, "shape", ())) == 2:
        if any(value not in (0, 1) for row in rows for value in row):
            raise ValueError("y is an array of several columns; it must hold 0 and 1 only, or pass lists of labels")
        return True
    equal = len({len(row) for row in rows if isinstance(row, list | tuple)}) == 1
    binary = all(isinstance(row, list | tuple) and len(row) > 1 and set(row) <= {0, 1} for row in rows)
    return equal and binary


def _label_set(row: Any, place: str) -> list[Any]:
    if not isinstance(row, list | tuple | set | frozenset):
        raise TypeError(f"{place}={shortened(row)} is no list; with several labels per text each text needs a list")
    return list(dict.fromkeys(as_labels(list(row), None, place)))


def checked_labels(items: list[Any], name: str) -> list[Any]:
    """Return the labels, if they are str, or whole numbers and bool.

    Raises
    ------
    TypeError, ValueError
        If one is not, or str and numbers are mixed; names its index.
    """
    text = isinstance(items[0], str)
    for index, label in enumerate(items):
        if not isinstance(label, str | int | float):
            kind = type(label).__name__
            raise TypeError(f"{name}[{index}]={shortened(label)} is of type {kind}; a label is a str, int or bool")
        if isinstance(label, str) != text:
            raise TypeError(f"{name} mixes str and numbers ({items[0]!r}, {name}[{index}]={label!r}); use one of them")
        if isinstance(label, float) and not label.is_integer():
            raise ValueError(f"{name}[{index}]={label!r} is a continuous number, no class; use a TextRegressor")
    return items


def _numbers(items: list[Any], classes: np.ndarray, name: str) -> np.ndarray:
    known = {label: number for number, label in enumerate(classes.tolist())}
    for index, label in enumerate(items):
        if label not in known:
            raise ValueError(f"{name}[{index}]={label!r} is no label that was learned, which are: {[*known]}")
    return np.array([known[label] for label in items], dtype=np.int64)
