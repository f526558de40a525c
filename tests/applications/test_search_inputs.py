"""What search may be given: containers, several questions, more texts, long texts, a model of the caller's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from companion.applications.search.embedder import SentenceEmbedder
from companion.applications.search.engine import SearchEngine
from companion.applications.search.tune import ContrastiveBatches, tune
from companion.applications.search.vectors import embed, normalise
from companion.model.encoder import BertModel
from companion.text.tokenizer import Tokenizer
from tests.toys import keyword_texts, save_tiny

TEXTS = ["the good alpha", "a red one", "the blue delta who", "gamma"]
PAIRS = [("red", "blue alpha"), ("good", "bad"), ("green", "the gamma"), ("who", "delta")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def parts(tiny: Path) -> tuple[BertModel, Tokenizer]:
    return BertModel.from_pretrained(tiny), Tokenizer.from_pretrained(tiny)


CONTAINERS = {
    "tuple": tuple,
    "generator": iter,
    "array": np.array,
    "Series in another order": lambda texts: pd.Series(texts, index=[2, 0, 3, 1]),
    "Series with gaps": lambda texts: pd.Series(texts, index=[5, 6, 9, 11]),
    "Index": pd.Index,
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_texts_keep_their_order_in_every_container(tiny: Path, parts, kind: str):
    expected = embed(TEXTS, *parts)
    np.testing.assert_array_equal(embed(CONTAINERS[kind](TEXTS), *parts), expected)
    engine = SearchEngine(CONTAINERS[kind](TEXTS), tiny)
    assert engine.texts == TEXTS
    np.testing.assert_array_equal(engine.scores(CONTAINERS[kind](TEXTS)), SearchEngine(TEXTS, tiny).scores(TEXTS))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("cats purr", "'cats purr' is one str; pass a list"),
        ({"a": 1}, "is of type dict"),
        (["a", None], r"\[1\]=None is missing; drop it"),
        (["a", float("nan")], r"\[1\]=nan is missing"),
        (["a", 7], r"\[1\]=7 is of type int; it must be a str"),
    ],
)
def test_what_is_no_list_of_texts_is_named(tiny: Path, parts, texts, message: str):
    engine = SearchEngine(TEXTS, tiny)
    for use in (
        lambda: SearchEngine(texts, tiny),
        lambda: embed(texts, *parts),
        lambda: engine.add(texts),
        lambda: engine.scores(texts),
    ):
        with pytest.raises(TypeError, match=message):
            use()
    assert engine.texts == TEXTS and len(engine.vectors) == 4


def test_a_model_by_its_name_is_refused_with_where_to_pass_it():
    with pytest.raises(TypeError, match="model='mini' is no BertModel; pass a name or a folder as the second"):
        SearchEngine(["one text"], model="mini")  # type: ignore[arg-type]


def test_several_questions_are_answered_as_one_by_one(tiny: Path):
    engine = SearchEngine(TEXTS, tiny)
    for questions in (["red", "who"], ("red", "who"), iter(["red", "who"])):
        together = engine.search(questions, 2)
        for question, hits in zip(["red", "who"], together, strict=True):
            alone = engine.search(question, 2)
            assert [hit.number for hit in hits] == [hit.number for hit in alone] and len(hits) == 2
            np.testing.assert_allclose([hit.score for hit in hits], [hit.score for hit in alone], atol=1e-5)
    assert len(engine.search("red", 99)) == 4


@pytest.mark.parametrize("count", [0, -1, 1.5, "3", True, None])
def test_a_count_that_is_none_is_named(tiny: Path, count):
    with pytest.raises(ValueError, match="count=.* is not allowed; it must be an integer above 0"):
        SearchEngine(TEXTS, tiny).search("red", count)


def test_added_texts_are_found_and_the_others_are_not_encoded_again(tiny: Path, monkeypatch, tmp_path: Path):
    engine, seen = SearchEngine(TEXTS[:2], tiny), []
    before, encode = engine.vectors.copy(), SearchEngine._embed

    def note(self, texts, *rest):
        seen.append(texts)
        return encode(self, texts, *rest)

    monkeypatch.setattr(SearchEngine, "_embed", note)
    engine.add(text for text in TEXTS[2:])
    assert seen == [TEXTS[2:]] and engine.texts == TEXTS
    np.testing.assert_array_equal(engine.vectors[:2], before)
    assert engine.search("gamma", 1)[0].number == 3
    engine.save(tmp_path / "engine")
    assert SearchEngine.load(tmp_path / "engine").search("gamma") == engine.search("gamma")
    grown = SearchEngine(TEXTS[:1], tiny, centre=False)
    grown.add(TEXTS[1:])
    np.testing.assert_allclose(grown.vectors, SearchEngine(TEXTS, tiny, centre=False).vectors, atol=1e-6)


def test_a_single_text_is_not_centred_away(tiny: Path):
    (hit,) = SearchEngine(["the good alpha"], tiny).search("the good alpha")
    assert hit.score == pytest.approx(1.0, abs=1e-5)


def test_long_texts_are_read_as_far_as_asked_and_the_model_allows(tiny: Path, tmp_path: Path, parts):
    long = ["red " * 30 + "good", "red " * 30 + "bad"]  # 48 positions: the last word is inside
    assert np.abs(np.diff(SearchEngine(long, tiny, centre=False).vectors, axis=0)).max() > 1e-5
    short = SearchEngine(long, tiny, centre=False, max_length=8)
    np.testing.assert_allclose(short.vectors[0], short.vectors[1], atol=1e-6)
    short.save(tmp_path / "engine")
    assert SearchEngine.load(tmp_path / "engine").max_length == 8
    np.testing.assert_allclose(embed(long, *parts, max_length=8)[0], embed(["red " * 6], *parts)[0], atol=1e-5)
    with pytest.raises(ValueError, match="max_length=64 is longer than the 48 positions"):
        SearchEngine(long, tiny, max_length=64)


def test_the_model_of_the_caller_is_left_as_it_is(tiny: Path):
    model = BertModel.from_pretrained(tiny).train()
    engine = SearchEngine(TEXTS, tiny, model=model, device="cpu", centre=False)
    assert model.training and model.device == torch.device("cpu")
    expected = normalise(embed(TEXTS, BertModel.from_pretrained(tiny), Tokenizer.from_pretrained(tiny)))
    np.testing.assert_allclose(engine.vectors, expected, atol=1e-6)  # without dropout
    assert [hit.number for hit in engine.search("gamma", 1)] == [3] and model.training


def test_an_engine_of_an_older_version_opens(tiny: Path, tmp_path: Path):
    engine = SearchEngine(TEXTS, tiny, pooling="max")
    engine.save(tmp_path / "engine")
    (tmp_path / "engine" / "engine.json").write_text(json.dumps({"how": "max", "texts": TEXTS}))
    again = SearchEngine.load(tmp_path / "engine")
    assert again.pooling == "max" and again.search("red") == engine.search("red")


@pytest.mark.parametrize("kind", [iter, tuple, np.array, lambda pairs: pd.DataFrame(pairs, index=[3, 1, 0, 2])])
def test_pairs_come_in_every_container(parts, kind):
    expected = ContrastiveBatches(PAIRS, parts[1]).sides
    assert ContrastiveBatches(kind(PAIRS), parts[1]).sides == expected


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["red", "blue"], r"pairs\[0\]='red' is one str; each item must be a pair"),
        ("red", "pairs='red' is one str"),
        ([("red", "blue"), ("good", None)], r"pairs\[1\]=\('good', None\)"),
    ],
)
def test_what_is_no_pair_is_named(tiny: Path, pairs, message: str):
    with pytest.raises(TypeError, match=message):
        tune(pairs, tiny)


def test_an_epoch_is_shuffled_once(parts, monkeypatch):
    batches, calls = ContrastiveBatches(PAIRS, parts[1], batch_size=2), []
    make = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: calls.append(seed) or make(seed))
    rows = [batches.rows_of(number).tolist() for number in (0, 1, 2, 3, 0)]
    assert calls == [[0, 0], [0, 1], [0, 0]] and rows[0] == rows[4]
    assert sorted(rows[0] + rows[1]) == sorted(rows[2] + rows[3]) == [0, 1, 2, 3]


def test_vectors_serve_every_estimator_of_scikit_learn(tiny: Path, parts):
    texts, labels = keyword_texts(60)
    embedder = SentenceEmbedder(tiny, pooling="max", max_length=16, device="cpu")
    pipeline = make_pipeline(clone(embedder), LogisticRegression(C=1000, max_iter=2000)).fit(texts, labels)
    assert pipeline.score(texts, labels) > 0.9
    vectors = embedder.fit_transform(pd.Series(texts, index=range(60)[::-1]))
    np.testing.assert_array_equal(vectors, embed(texts, *parts, pooling="max", max_length=16))
    assert embedder.get_feature_names_out().tolist() == [f"bert{i}" for i in range(32)]
    frame = embedder.set_output(transform="pandas").transform(texts[:3])
    assert list(frame.columns) == [f"bert{i}" for i in range(32)] and frame.shape == (3, 32)
    with pytest.raises(ValueError, match="pooling='sum' is not allowed"):
        SentenceEmbedder(tiny, pooling="sum").fit(texts)
    with pytest.raises(TypeError, match="X='red' is one str"):
        embedder.transform("red")
