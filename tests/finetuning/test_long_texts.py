"""Long texts: what is kept of them, windows that leave nothing out, and what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from companion import Tokenizer
from companion.finetuning import TextClassifier, TextRegressor, load
from companion.finetuning.sequences import SequenceEstimator
from companion.finetuning.texts import TRUNCATIONS, encode_texts
from tests.toys import keyword_texts

WORDS = "the who good red blue"  # of the vocabulary of `tiny`, one token each


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Tokenizer:
    return Tokenizer.from_pretrained(tiny)


def tokens(tokenizer: Tokenizer, ids: list[int]) -> str:
    return " ".join(map(tokenizer.id_to_token, ids))


LONG = "red red blue blue good good the the who who"


@pytest.mark.parametrize(
    ("truncation", "kept"),
    [
        ("head", ["[CLS] red red blue blue good good the the [SEP]"]),
        ("tail", ["[CLS] blue blue good good the the who who [SEP]"]),
        ("head+tail", ["[CLS] red red good good the the who who [SEP]"]),
        ("windows", ["[CLS] red red blue blue good good the the [SEP]", "[CLS] the the who who [SEP]"]),
    ],
)
def test_what_is_kept_of_a_text_of_ten_words_in_rows_of_ten_tokens(tokenizer: Tokenizer, truncation: str, kept: list):
    rows = encode_texts(tokenizer, [LONG], 10, truncation)
    assert [tokens(tokenizer, ids) for ids in rows["input_ids"]] == kept
    assert rows["token_type_ids"] == [[0] * len(ids) for ids in rows["input_ids"]]
    assert rows.get("sample") == ([0, 0] if truncation == "windows" else None)


@pytest.mark.parametrize(
    ("truncation", "kept"),
    [
        ("head", "[CLS] red red blue blue [SEP] good the [SEP]"),
        ("tail", "[CLS] blue who who who [SEP] good the [SEP]"),
        ("head+tail", "[CLS] red who who who [SEP] good the [SEP]"),
    ],
)
def test_the_longer_text_of_a_pair_is_shortened(tokenizer: Tokenizer, truncation: str, kept: str):
    first = "red red blue blue who who who"
    rows = encode_texts(tokenizer, [(first, "good the")], 9, truncation)
    assert tokens(tokenizer, rows["input_ids"][0]) == kept
    assert rows["token_type_ids"] == [[0] * 6 + [1] * 3]


@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_short_texts_are_the_same_in_every_way(tokenizer: Tokenizer, truncation: str):
    for texts in (["red", "", LONG], [("red", ""), ("", "blue"), (LONG, LONG)]):
        rows = encode_texts(tokenizer, texts, 48, truncation)
        expected = encode_texts(tokenizer, texts, 48)
        assert {name: rows[name] for name in expected} == expected


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    max_length=st.integers(8, 40),
    share=st.floats(0, 0.4),
    truncation=st.sampled_from(TRUNCATIONS),
)
@settings(max_examples=60, deadline=None)
def test_rows_are_never_longer_than_asked_and_windows_hold_everything(
    tokenizer: Tokenizer, lengths: list[int], max_length: int, share: float, truncation: str
):
    words = WORDS.split()
    texts = [" ".join(words[i * i % 5] for i in range(length)) for length in lengths]
    rows = encode_texts(tokenizer, texts, max_length, truncation, int(share * max_length))
    assert max(map(len, rows["input_ids"])) <= max_length
    if truncation != "windows":
        expected = [min(length + 2, max_length) for length in lengths]
        assert [len(ids) for ids in rows["input_ids"]] == expected
        return
    stride = int(share * max_length)
    for index, text in enumerate(texts):
        windows = [ids[1:-1] for ids, sample in zip(rows["input_ids"], rows["sample"], strict=True) if sample == index]
        joined = windows[0] + [token for window in windows[1:] for token in window[stride:]]
        assert tokens(tokenizer, joined) == text


@pytest.mark.parametrize(("truncation", "accuracy"), [("head", 0.6), ("tail", 1.0), ("head+tail", 1.0)])
def test_the_word_that_decides_is_read_where_it_stands(tiny: Path, truncation: str, accuracy: float):
    filler = "the who " * 12
    texts, labels = keyword_texts(160)
    late = [filler + text for text in texts]
    estimator = TextClassifier(tiny, epochs=12, max_length=20, truncation=truncation, learning_rate=3e-3)
    with pytest.warns(UserWarning, match=r"120 of 120 texts are longer .* \(truncation='windows' reads all\)"):
        estimator.fit(late[:120], labels[:120])
    with pytest.warns(UserWarning, match="40 of 40"):
        found = estimator.score(late[120:], labels[120:])
    assert found <= accuracy if truncation == "head" else found >= accuracy


def test_windows_read_everything_without_a_warning(tiny: Path, tmp_path: Path):
    texts, labels = keyword_texts(120)
    late = ["the who " * 12 + text + " the who" * (i % 9) for i, text in enumerate(texts)]
    estimator = TextClassifier(tiny, epochs=14, max_length=20, truncation="windows", stride=6, learning_rate=3e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.fit(late, labels, validation=(late[:20], labels[:20]))
        probabilities = estimator.predict_proba(late)
    assert estimator.score(late, labels) > 0.9
    assert len(probabilities) == len(late)
    assert estimator.history_.column("validation_accuracy")[1][-1] == estimator.score(late[:20], labels[:20])
    estimator.save(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict_proba(late), probabilities)


def test_a_text_of_several_windows_gets_the_mean_of_their_logits(tiny: Path):
    texts, labels = keyword_texts(24)
    estimator = TextClassifier(tiny, epochs=1, max_length=12, truncation="windows", stride=0).fit(texts, labels)
    first, second = "red blue good the who red blue good the who", "the who red"
    parts = estimator.decision_function([first, second])
    whole = estimator.decision_function([f"{first} {second}", second])
    np.testing.assert_allclose(whole, [parts.mean(), parts[1]], atol=1e-5)


def test_the_windows_of_a_text_weigh_as_much_as_a_text_of_one(tiny: Path):
    """Two copies of a window with half the weight each are one of full weight."""
    window, other = "red blue good the who red blue good the who", "the who red"
    options = {"epochs": 1, "batch_size": 8, "max_length": 12, "stride": 0, "truncation": "windows", "dropout": 0.0}
    twice = TextRegressor(tiny, **options).fit([f"{window} {window}", other], [1.0, 0.0])
    once = TextRegressor(tiny, **options).fit([window, other], [1.0, 0.0])
    assert twice.history_.column("loss")[1] == pytest.approx(once.history_.column("loss")[1], rel=1e-5)
    given = TextRegressor(tiny, **options).fit([f"{window} {window}", other], [1.0, 0.0], sample_weight=[3.0, 1.0])
    assert given.history_.column("loss")[1] != pytest.approx(once.history_.column("loss")[1], rel=1e-3)


def test_a_long_pair_gives_every_window_of_one_with_every_window_of_the_other(tiny: Path):
    pairs = [("red " * 20, "blue " * 3), ("red", "good"), ("red " * 20, "blue " * 20)]
    estimator = TextRegressor(tiny, epochs=1, max_length=16, truncation="windows").fit(pairs, [1.0, 2.0, 3.0])
    assert estimator.predict(pairs).shape == (3,)


@pytest.mark.parametrize("estimator", [TextClassifier, TextRegressor])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"truncation": "middle"}, r"truncation='middle' is not allowed; it must be .*'head\+tail'"),
        ({"truncation": None}, "truncation=None is not allowed"),
        ({"truncation": "windows", "stride": -1}, "stride=-1 is not allowed"),
        ({"truncation": "windows", "max_length": 16, "stride": 14}, "stride=14 is not allowed"),
    ],
)
def test_what_is_not_allowed_is_refused_before_training(
    tiny: Path, estimator: type[SequenceEstimator], given: dict, message: str
):
    with pytest.raises(ValueError, match=message):
        estimator(tiny, **given).fit(["red", "blue"], [0, 1])
