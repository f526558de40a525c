"""QuestionAnswerer: what it learns, windows, questions without answer, files, and what is refused."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from companion import BertForQuestionAnswering, Tokenizer
from companion.finetuning import QuestionAnswerer, TextClassifier, load
from companion.finetuning.answers import Answer, answer_f1
from tests.toys import FILLERS

COLOURS = ["red", "blue", "green"]


def asked(count: int, seed: int = 0, unanswerable: bool = False) -> tuple[list[tuple[str, str]], list]:
    """Make questions "who" whose answer is the colour in the text; some texts may have none."""
    generator = random.Random(seed)
    pairs, answers = [], []
    for number in range(count):
        words = generator.choices(FILLERS[:5], k=generator.randint(3, 9))
        answer = None if unanswerable and number % 3 == 0 else generator.choice(COLOURS)
        if answer:
            words.insert(generator.randint(0, len(words)), answer)
        pairs.append(("who", " ".join(words)))
        answers.append(answer)
    return pairs, answers


def quick(tiny: Path, **changes) -> QuestionAnswerer:
    return QuestionAnswerer(tiny, **{"epochs": 1, "batch_size": 8, "max_length": 24, "learning_rate": 3e-3} | changes)


@pytest.fixture(scope="module")
def learned(tiny: Path) -> QuestionAnswerer:
    """Return a reader that always answers; tests must not change it."""
    return quick(tiny, epochs=8, batch_size=16).fit(*asked(300), validation=asked(60, seed=1))


@pytest.fixture(scope="module")
def careful(tiny: Path) -> QuestionAnswerer:
    """Return a reader that knows questions without answer; tests must not change it."""
    return quick(tiny, epochs=12, batch_size=16).fit(*asked(400, unanswerable=True))


def test_it_finds_the_answer(learned: QuestionAnswerer):
    pairs, answers = asked(100, seed=2)
    predicted = learned.predict(pairs)
    assert np.mean([one.text == answer for one, answer in zip(predicted, answers, strict=True)]) > 0.9
    for (_, text), one in zip(pairs, predicted, strict=True):
        assert text[one.start : one.end] == one.text and one.text
    expected = np.mean([answer_f1(one.text, [answer]) for one, answer in zip(predicted, answers, strict=True)])
    assert learned.score(pairs, answers) == learned.evaluate(pairs, answers)["f1"] == pytest.approx(expected)


def test_the_best_answers_are_ordered_and_share_the_probability(learned: QuestionAnswerer):
    pairs = asked(10, seed=3)[0]
    for best, first in zip(learned.predict_n_best(pairs, 4), learned.predict(pairs), strict=True):
        assert len(best) == 4 and best[0] == first
        shares = [one.probability for one in best]
        assert shares == sorted(shares, reverse=True) and sum(shares) <= 1 + 1e-9
        assert len({(one.start, one.end) for one in best}) == 4


def test_it_says_where_there_is_no_answer(careful: QuestionAnswerer):
    pairs, answers = asked(90, seed=4, unanswerable=True)
    assert careful.unanswerable_
    assert careful.evaluate(pairs, answers)["exact_match"] > 0.9
    without = [pair for pair, answer in zip(pairs, answers, strict=True) if answer is None]
    assert {one[:3] for one in careful.predict(without)} >= {("", 0, 0)}


def test_a_threshold_asks_for_more_or_less_certainty(careful: QuestionAnswerer):
    pairs = asked(30, seed=5, unanswerable=True)[0]
    eager, silent = clone(careful), clone(careful)
    for other, threshold in ((eager, 1e6), (silent, -1e6)):
        other.__dict__.update({name: value for name, value in careful.__dict__.items() if name.endswith("_")})
        other.set_params(null_threshold=threshold)
    assert all(one.text for one in eager.predict(pairs))
    assert not any(one.text for one in silent.predict(pairs))


def test_an_answer_is_found_in_whatever_window_it_stands(learned: QuestionAnswerer):
    words = FILLERS[1:5] * 15
    for place in (0, 17, 31, 59):
        text = " ".join([*words[:place], "blue", *words[place:]])
        assert learned.predict([("who", text)])[0][:3] == ("blue", text.index("blue"), text.index("blue") + 4)


def test_validation_is_recorded(learned: QuestionAnswerer):
    pairs, answers = asked(60, seed=1)
    measured = learned.evaluate(pairs, answers)
    assert learned.history_.column("validation_f1")[1][-1] == pytest.approx(measured["f1"])
    assert learned.history_.column("validation_exact_match")[1][-1] == pytest.approx(measured["exact_match"])
    assert learned.history_.column("validation_loss")[1][-1] < learned.history_.column("validation_loss")[1][0]


def test_the_loss_is_that_of_the_network(tiny: Path):
    pairs, answers = asked(8)
    reader = quick(tiny, batch_size=8, dropout=0.0, precision="fp32").fit(pairs, answers)
    again = quick(tiny, dropout=0.0)
    model, tokenizer = again._start(0, num_labels=2)
    rows = again._encode(tokenizer, pairs, again._targets(again.read_labels(pairs, answers), len(pairs)))
    losses = [
        model(
            torch.tensor([ids]),
            token_type_ids=torch.tensor([segments]),
            start_positions=torch.tensor([start]),
            end_positions=torch.tensor([end]),
        ).loss.item()
        for ids, segments, start, end in zip(
            *(rows[name] for name in ("input_ids", "token_type_ids", "start_positions", "end_positions")), strict=True
        )
    ]
    assert reader.history_.column("loss")[1][0] == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_weight_of_zero_leaves_a_question_out(tiny: Path):
    pairs, answers = asked(8)
    options = {"batch_size": 16, "dropout": 0.0, "precision": "fp32"}
    weighted = quick(tiny, **options).fit(pairs, answers, sample_weight=[1] * 6 + [0] * 2).predict_n_best(pairs)
    fewer = quick(tiny, **options).fit(pairs[:6], answers[:6]).predict_n_best(pairs)
    for a, b in zip(weighted, fewer, strict=True):
        np.testing.assert_allclose([one.probability for one in a], [one.probability for one in b], atol=1e-4)


def test_the_same_seed_gives_the_same_reader(tiny: Path):
    one, other = (quick(tiny, random_state=3).fit(*asked(20)).predict_n_best(asked(5)[0]) for _ in range(2))
    assert one == other


def test_saved_and_loaded_it_answers_the_same(careful: QuestionAnswerer, tmp_path: Path):
    careful.save(tmp_path / "reader")
    again = load(tmp_path / "reader")
    assert isinstance(again, QuestionAnswerer) and again.unanswerable_
    pairs = asked(20, seed=6, unanswerable=True)[0]
    assert again.predict_n_best(pairs) == careful.predict_n_best(pairs)
    with pytest.raises(ValueError, match="holds a QuestionAnswerer, not a TextClassifier"):
        TextClassifier.load(tmp_path / "reader")


def test_transformers_computes_the_same(learned: QuestionAnswerer, tmp_path: Path):
    learned.save(tmp_path / "reader")
    theirs = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "reader").eval()
    (question, text) = asked(1, seed=7)[0][0]
    inputs = learned.tokenizer_(question, text)
    with torch.no_grad():
        output = theirs(**inputs)
    start, end = int(output.start_logits.argmax()), int(output.end_logits.argmax())
    places = learned.tokenizer_(question, text, return_offsets=True)["offsets"][0]
    assert learned.predict([(question, text)])[0][1:3] == (int(places[start][0]), int(places[end][1]))


def test_a_network_of_others_opens(tiny: Path, tmp_path: Path):
    BertForQuestionAnswering.from_pretrained(tiny).save_pretrained(tmp_path)
    Tokenizer.from_pretrained(tiny).save_pretrained(tmp_path)
    reader = load(tmp_path)
    assert isinstance(reader, QuestionAnswerer) and not reader.unanswerable_
    assert reader.predict([("who", "the good")])[0].text


@pytest.mark.parametrize(
    ("pairs", "answers", "error", "message"),
    [
        (["who"], ["good"], TypeError, r"X\[0\] is a str; pass pairs: \(question, text\)"),
        ([("who", "good")], ["bad"], ValueError, r"y\[0\]: 'bad' does not stand anywhere in its text"),
        ([("who", "good")], None, ValueError, "requires y to be passed"),
        ([("who", None)], ["good"], TypeError, r"X\[0\]"),
        ([], [], ValueError, "X is empty"),
        ([("who " * 40, "good")], ["good"], ValueError, "max_length|longer"),
    ],
)
def test_what_does_not_fit_is_refused(tiny: Path, pairs, answers, error: type, message: str):
    with pytest.raises(error, match=message):
        quick(tiny).fit(pairs, answers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": 20}, "stride=20 is not allowed"),
        ({"max_answer_length": 0}, "max_answer_length=0 is not allowed"),
        ({"null_threshold": "high"}, "null_threshold='high' is not allowed"),
    ],
)
def test_parameters_are_checked(tiny: Path, changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        quick(tiny, **changes).fit(*asked(4))


def test_it_must_be_fitted_first(tiny: Path):
    with pytest.raises(NotFittedError, match="call fit"):
        quick(tiny).evaluate(*asked(2))
    assert Answer("x", 0, 1).probability == 1
