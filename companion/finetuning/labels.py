"""Labels as they are given, and as class numbers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from companion.finetuning.metrics import as_list, sorted_labels

Labels = Sequence[Hashable] | np.ndarray
STORABLE = (str, int, float, bool)  # types of labels that a JSON file gives back as they were


def number_labels(labels: Labels, count: int, classes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes, sorted, and the number of every label among them, int64, (count,).

    Raises
    ------
    ValueError
        If there are not `count` labels, one is missing (None, NaN), not whole or not hashable, there are fewer than two
        classes, or `classes` are given and a label is not among them.
    """
    items = as_list(labels)
    if len(items) != count:
        raise ValueError(f"labels has {len(items)} items, texts has {count}; every text needs one label")
    for index, label in enumerate(items):
        if label is None or (isinstance(label, float) and not label.is_integer()):
            raise ValueError(f"labels[{index}]={label!r} is no class; use whole numbers, str or other names")
    if classes is None and len(found := sorted_labels(items)) < 2:
        raise ValueError(f"labels hold one class only ({found[0]!r}); a classifier needs at least two")
    classes = label_array(found) if classes is None else classes
    numbers = {label: number for number, label in enumerate(classes.tolist())}
    if unknown := [label for label in sorted_labels(items) if label not in numbers]:
        raise ValueError(f"labels of validation hold {unknown}, which training does not have: {list(numbers)}")
    return classes, np.array([numbers[label] for label in items], dtype=np.int64)


def label_array(labels: Sequence[Hashable]) -> np.ndarray:
    """Return labels as an array (labels,): of their own type if they are all of one simple type, else of objects."""
    kinds = {type(label) for label in labels}
    if len(kinds) == 1 and ((kind := kinds.pop()) in STORABLE or issubclass(kind, np.generic)):
        return np.array(labels)
    array = np.empty(len(labels), dtype=object)
    for place, label in enumerate(labels):  # in one assignment, tuples would become rows
        array[place] = label
    return array
