"""TokenTagger: words and spans in, tags and entities out; windows, weights, files, and what is refused."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from companion import BertForTokenClassification, Tokenizer
from companion.finetuning import TextClassifier, TokenTagger, load
from companion.finetuning.metrics import entity_scores
from companion.finetuning.sentences import Sentence, read_sentences, windows
from tests.toys import FILLERS


def tagged(count: int, seed: int = 0) -> tuple[list[list[str]], list[list[str]]]:
    """Make sentences in which "good" and all "bad" right after it are an entity of type G."""
    generator = random.Random(seed)
    sentences, tags = [], []
    for _ in range(count):
        words = generator.choices([*FILLERS[:3], ".", "good", "bad"], k=generator.randint(3, 8))
        row: list[str] = []
        for word in words:
            inside = word == "bad" and row and row[-1] != "O"
            row.append("B-G" if word == "good" else "I-G" if inside else "O")
        sentences.append(words)
        tags.append(row)
    return sentences, tags


def quick(tiny: Path, **changes) -> TokenTagger:
    return TokenTagger(tiny, **{"epochs": 1, "batch_size": 8, "max_length": 16, "learning_rate": 3e-3} | changes)


@pytest.fixture(scope="module")
def learned(tiny: Path) -> TokenTagger:
    """Return a tagger that has learned the rule; tests must not change it."""
    return quick(tiny, epochs=16, batch_size=16).fit(*tagged(600), validation=tagged(60, seed=1))


def test_it_learns_the_rule(learned: TokenTagger):
    words, tags = tagged(100, seed=2)
    predicted = learned.predict(words)
    assert [len(row) for row in predicted] == [len(row) for row in words]
    assert learned.score(words, tags) == entity_scores(tags, predicted).f1 > 0.9
    assert learned.tags_ == ["B-G", "I-G", "O"]
    assert learned.predict_entities([["the", "good", "bad"]]) == [[(1, 3, "G")]]


def test_probabilities_are_one_row_per_word(learned: TokenTagger):
    words = tagged(20, seed=3)[0]
    for row, probabilities in zip(words, learned.predict_proba(words), strict=True):
        assert probabilities.shape == (len(row), 3)
        np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)


def test_validation_is_recorded(learned: TokenTagger):
    words, tags = tagged(60, seed=1)
    steps, scores = learned.history_.column("validation_f1")
    assert len(steps) == 16
    assert scores[-1] == pytest.approx(learned.score(words, tags))
    numbers = {tag: number for number, tag in enumerate(learned.tags_)}
    right = [
        row[np.arange(len(one)), [numbers[tag] for tag in one]]
        for row, one in zip(learned.predict_proba(words), tags, strict=True)
    ]
    loss = -np.log(np.concatenate(right)).mean()
    assert learned.history_.column("validation_loss")[1][-1] == pytest.approx(loss, rel=1e-3)


def test_texts_give_spans_of_characters(learned: TokenTagger):
    text = "The good bad. The bad. good."
    found = learned.predict([text])[0]
    assert [text[one.start : one.end] for one in found] == ["good bad", "good"]
    assert learned.predict_entities([text]) == [found]


def test_training_on_spans_is_training_on_words(tiny: Path):
    words, tags = tagged(40)
    texts = [" ".join(row) for row in words]
    spans = []
    for row, one in zip(words, tags, strict=True):
        ends = np.cumsum([len(word) + 1 for word in row]) - 1
        spans.append(
            [
                (int(ends[start] - len(row[start])), int(ends[end - 1]), kind)
                for start, end, kind in Sentence(row).entities(one)
            ]
        )
    by_words, by_spans = quick(tiny).fit(words, tags), quick(tiny).fit(texts, spans)
    for a, b in zip(by_words.predict_proba(words), by_spans.predict_proba(words), strict=True):
        np.testing.assert_array_equal(a, b)


def test_predictions_do_not_depend_on_the_batch(learned: TokenTagger):
    words = tagged(30, seed=4)[0]
    together = learned.predict_proba(words)
    for row, probabilities in zip(words, together, strict=True):
        np.testing.assert_allclose(learned.predict_proba([row])[0], probabilities, atol=1e-5)


def test_the_same_seed_gives_the_same_tagger(tiny: Path):
    words, tags = tagged(30)
    one, other = (quick(tiny, random_state=3).fit(words, tags).predict_proba(words) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    different = quick(tiny, random_state=4).fit(words, tags).predict_proba(words)
    assert not np.array_equal(np.concatenate(one), np.concatenate(different))


# Windows.


@pytest.mark.parametrize("stride", [0, 1, 5])
def test_every_word_of_a_long_text_is_read_once(tiny: Path, stride: int):
    tokenizer = Tokenizer.from_pretrained(tiny)
    words = (FILLERS * 20)[:67] + ["goodgood"] * 5
    rows = windows(tokenizer, [Sentence(words), Sentence(["good"]), Sentence([])], 12, stride)
    read = [[word for word in row if word >= 0] for row in rows["words"]]
    for sample, count in enumerate([len(words), 1, 0]):
        found = [word for row, owner in zip(read, rows["sample"], strict=True) if owner == sample for word in row]
        assert sorted(found) == list(range(count))
    assert all(len(ids) <= 12 for ids in rows["input_ids"])


def test_a_word_is_read_off_its_first_piece_where_it_has_most_context(tiny: Path):
    tokenizer = Tokenizer.from_pretrained(tiny)
    words = ["good", "bad"] * 10
    rows = windows(tokenizer, [Sentence(words)], 12, 6)  # ten words in a window, each four further on
    first, second = rows["words"][:2]
    assert first == [-1, 0, 1, 2, 3, 4, 5, 6, -1, -1, -1, -1]  # word 6: 4 from the end of one, 3 from the start of two
    assert second[1:4] == [-1, -1, -1]
    for row, ids in zip(rows["words"], rows["input_ids"], strict=True):
        for word, token in zip(row, ids, strict=True):
            assert word < 0 or tokenizer.id_to_token(token) == words[word]


def test_a_long_text_is_tagged_as_a_short_one(learned: TokenTagger):
    long = [word for row in tagged(30, seed=5)[0] for word in row]
    tags = learned.predict([long])[0]
    assert len(tags) == len(long)
    wanted = ["B-G" if word == "good" else "O" for word in long]
    assert np.mean([tag == want for tag, want, word in zip(tags, wanted, long, strict=True) if word != "bad"]) > 0.95


def test_words_without_tokens_have_tags_too(learned: TokenTagger):
    assert [len(row) for row in learned.predict([["good", "", "\u200b", "bad"], []])] == [4, 0]


def test_words_of_a_text_are_those_of_the_tokenizer(tiny: Path):
    text = "Good, don't 你好 bad\u200b!"
    (sentence,) = read_sentences("X", [text], Tokenizer.from_pretrained(tiny))
    assert [text[start:end] for start, end in sentence.offsets] == sentence.words
    assert sentence.words[:6] == ["Good", ",", "don", "'", "t", "你"]


# Options.


def test_without_a_scheme_any_tags_are_learned(tiny: Path):
    words = tagged(300)[0]
    tags = [[word[0].upper() for word in row] for row in words]
    tagger = quick(tiny, scheme=None, epochs=6).fit(words, tags)
    assert tagger.score(words, tags) > 0.95
    assert tagger.predict(["good bad"]) == [[(0, 4, "G"), (5, 8, "B")]]
    with pytest.raises(ValueError, match=r"predict_entities needs tags that mark entities; scheme=None"):
        tagger.predict_entities(words)


def test_predicted_sequences_are_always_iob2(tiny: Path):
    words, tags = tagged(12)
    untrained = quick(tiny, learning_rate=1e-6).fit(words, tags)
    for row in untrained.predict(tagged(100, seed=6)[0]):
        assert all(b != "I-G" or a in ("B-G", "I-G") for a, b in zip(["O", *row], row, strict=False))


def test_a_weight_of_two_is_the_text_twice(tiny: Path):
    words, tags = tagged(6)
    options = {"batch_size": 64, "dropout": 0.0, "precision": "fp32"}
    weighted = quick(tiny, **options).fit(words, tags, sample_weight=[2, 1, 1, 1, 1, 1])
    doubled = quick(tiny, **options).fit([words[0], *words], [tags[0], *tags])
    for a, b in zip(weighted.predict_proba(words), doubled.predict_proba(words), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_early_stopping_keeps_the_best_epoch(tiny: Path):
    tagger = quick(tiny, epochs=4, early_stopping=True, validation_fraction=0.2).fit(*tagged(60))
    losses = tagger.history_.column("validation_loss")[1]
    assert tagger.best_epoch_ == int(np.argmin(losses)) + 1


@pytest.mark.parametrize("container", [tuple, np.array, pd.Series, iter], ids=["tuple", "array", "series", "iterator"])
def test_containers(tiny: Path, container):
    words, tags = [["good", "bad"], ["the", "good"]] * 4, [["B-G", "I-G"], ["O", "B-G"]] * 4
    expected = quick(tiny).fit(words, tags).predict_proba(words)
    got = quick(tiny).fit(container(words), container(tags)).predict_proba(container(words))
    assert all(np.array_equal(a, b) for a, b in zip(expected, got, strict=True))


# Files.


def test_saved_and_loaded_it_predicts_the_same(learned: TokenTagger, tmp_path: Path):
    learned.save(tmp_path / "tagger")
    again = load(tmp_path / "tagger")
    assert isinstance(again, TokenTagger) and again.tags_ == learned.tags_
    words = tagged(20, seed=7)[0]
    for a, b in zip(learned.predict_proba(words), again.predict_proba(words), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="holds a TokenTagger, not a TextClassifier"):
        TextClassifier.load(tmp_path / "tagger")


def test_the_pipeline_of_transformers_finds_the_same(learned: TokenTagger, tmp_path: Path):
    learned.save(tmp_path / "tagger")
    pipeline = transformers.pipeline("token-classification", str(tmp_path / "tagger"), aggregation_strategy="first")
    for row in tagged(20, seed=8)[0]:
        text = " ".join(row)
        theirs = [(one["start"], one["end"], one["entity_group"]) for one in pipeline(text)]
        assert theirs == learned.predict([text])[0]


def test_a_network_of_others_opens_with_its_labels(tiny: Path, tmp_path: Path):
    config = transformers.BertConfig.from_pretrained(tiny)
    config.id2label = {0: "O", 1: "I-PER", 2: "B-PER"}
    torch.manual_seed(0)
    theirs = transformers.BertForTokenClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    Tokenizer.from_pretrained(tiny).save_pretrained(tmp_path)
    tagger = load(tmp_path)
    assert isinstance(tagger.model_, BertForTokenClassification)
    assert tagger.tags_ == ["O", "I-PER", "B-PER"]
    ids = tagger.tokenizer_("good bad")["input_ids"]
    wanted = theirs(ids).logits[0, 1:3].softmax(-1).detach().numpy()
    np.testing.assert_allclose(tagger.predict_proba([["good", "bad"]])[0], wanted, atol=1e-5)


def test_it_can_be_cloned_and_shows_its_parameters(tiny: Path):
    tagger = quick(tiny, scheme=None, stride=2)
    assert clone(tagger).get_params() == tagger.get_params()


# What is refused, before any training.


GOOD = ([["good", "bad"], ["the"]], [["B-G", "I-G"], ["O"]])


@pytest.mark.parametrize(
    ("words", "tags", "error", "message"),
    [
        ([], [], ValueError, "X is empty"),
        ([["good"], "the"], [["O"], []], TypeError, r"X\[1\]='the' is of type str; it must be a list of words"),
        (
            ["good", ["the"]],
            [[], []],
            TypeError,
            r"X\[1\]=\['the'\] is of type list; it must be a str, as the first is",
        ),
        ([["good"], None], [["O"], ["O"]], TypeError, r"X\[1\]=None is missing"),
        ([["good", 3]], [["O", "O"]], TypeError, r"X\[0\]=\['good', 3\]"),
        ("good bad", [["O", "O"]], TypeError, "one str"),
        (GOOD[0], [["B-G", "I-G"]], ValueError, "y has 1 lists, X has 2 texts"),
        (GOOD[0], [["B-G"], ["O"]], ValueError, r"y\[0\] has 1 tags for 2 words"),
        (GOOD[0], [["O", "I-G"], ["O"]], ValueError, r"y\[0\]\[1\]='I-G' follows 'O'"),
        (GOOD[0], ["OO", "O"], TypeError, r"y\[0\]='OO' is one str"),
        (GOOD[0], [["O", "O"], ["O"]], ValueError, "tags of at least two kinds"),
        (GOOD[0], None, ValueError, "requires y to be passed"),
        (["good bad"], [[(0, 3, "G")]], ValueError, r"y\[0\] holds \(0, 3, 'G'\), which does not begin and end with a"),
        (["good bad"], [["B-G", "I-G"]], TypeError, r"y\[0\]\[0\]='B-G' is no span; pass \(start, end, type\)"),
    ],
)
def test_what_does_not_fit_is_refused(tiny: Path, words, tags, error: type, message: str):
    with pytest.raises(error, match=message):
        quick(tiny).fit(words, tags)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheme": "iobes"}, "scheme='iobes' is not allowed; it must be 'iob2' or None"),
        ({"stride": 14}, "stride=14 is not allowed"),
        ({"stride": -1}, "stride=-1 is not allowed"),
        ({"epochs": 0}, "epochs=0 is not allowed"),
    ],
)
def test_parameters_are_checked(tiny: Path, changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        quick(tiny, **changes).fit(*GOOD)


def test_a_new_tag_in_validation_is_named(tiny: Path):
    with pytest.raises(ValueError, match=r"validation\[1\]\[0\] holds 'B-NEW', which no text of y has"):
        quick(tiny).fit(*GOOD, validation=([["good"]], [["B-NEW"]]))


def test_it_must_be_fitted_first(tiny: Path):
    for method in (lambda t: t.predict(GOOD[0]), lambda t: t.score(*GOOD), lambda t: t.predict_proba(GOOD[0])):
        with pytest.raises(NotFittedError, match="call fit"):
            method(quick(tiny))
