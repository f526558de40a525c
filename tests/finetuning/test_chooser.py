"""MultipleChoice: what it learns, choices of any number, batches of whole questions, files, and what is refused."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from companion import Tokenizer
from companion.finetuning import MultipleChoice, load
from companion.finetuning.choices import ChoiceBatches, ChoiceObjective, Question, encode_choices
from companion.finetuning.new_head import with_new_head
from companion.model.heads import BertForMultipleChoice
from tests.toys import FILLERS

COLOURS = ["red", "blue", "green"]
Asked = tuple[list[tuple[str, list[str]]], list[int]]


def asked(count: int, seed: int = 0) -> Asked:
    """Make texts with one colour in them; the choice to take names it too, among two or three that do not."""
    generator = random.Random(seed)
    questions, labels = [], []
    for _ in range(count):
        colours = generator.sample(COLOURS, generator.randint(2, 3))
        label = generator.randrange(len(colours))
        words = generator.choices(FILLERS, k=generator.randint(1, 5))
        words.insert(generator.randint(0, len(words)), colours[label])
        questions.append((" ".join(words), [f"{generator.choice(FILLERS)} {colour}" for colour in colours]))
        labels.append(label)
    return questions, labels


def quick(tiny: Path, **changes) -> MultipleChoice:
    return MultipleChoice(tiny, **{"epochs": 1, "batch_size": 8, "max_length": 24, "learning_rate": 3e-3} | changes)


@pytest.fixture(scope="module")
def learned(tiny: Path) -> MultipleChoice:
    """Return a chooser that has learned; tests must not change it."""
    return quick(tiny, epochs=25, batch_size=16).fit(*asked(600), validation=asked(60, seed=1))


def test_it_learns_to_choose(learned: MultipleChoice):
    questions, labels = asked(200, seed=2)
    assert learned.score(questions, labels) > 0.9
    assert learned.score(questions, labels) == np.mean(learned.predict(questions) == labels)
    probabilities = learned.predict_proba(questions)
    assert [len(one) for one in probabilities] == [len(choices) for _, choices in questions]
    assert all(one.sum() == pytest.approx(1) for one in probabilities)
    assert [int(one.argmax()) for one in probabilities] == learned.predict(questions).tolist()


def test_the_validation_is_that_of_its_predictions(learned: MultipleChoice):
    questions, labels = asked(60, seed=1)
    chosen = [p[label] for p, label in zip(learned.predict_proba(questions), labels, strict=True)]
    assert learned.history_.column("validation_loss")[1][-1] == pytest.approx(-np.log(chosen).mean(), rel=1e-4)
    assert learned.history_.column("validation_accuracy")[1][-1] == learned.score(questions, labels)
    assert max(learned.history_.column("choosing_accuracy")[1]) > 0.9


def test_the_order_of_choices_and_the_company_of_other_questions_change_nothing(learned: MultipleChoice):
    questions, _ = asked(20, seed=3)
    forth = learned.predict_proba(questions)
    back = learned.predict_proba([(text, choices[::-1]) for text, choices in questions])
    alone = [learned.predict_proba([question])[0] for question in questions]
    for one, other, single in zip(forth, back, alone, strict=True):
        np.testing.assert_allclose(one, other[::-1], atol=1e-5)
        np.testing.assert_allclose(one, single, atol=1e-5)


def test_a_choice_may_be_named_by_its_words(tiny: Path):
    questions, labels = asked(24)
    by_number = quick(tiny).fit(questions, labels).predict_proba(questions)
    words = [choices[label] for (_, choices), label in zip(questions, labels, strict=True)]
    by_words = quick(tiny).fit(questions, words)
    np.testing.assert_array_equal(np.concatenate(by_words.predict_proba(questions)), np.concatenate(by_number))
    assert by_words.score(questions, words) == by_words.score(questions, labels)


def test_batches_hold_whole_questions_once_an_epoch(tiny: Path):
    tokenizer, (questions, labels) = Tokenizer.from_pretrained(tiny), asked(21)
    rows = {**encode_choices(tokenizer, [Question(a, tuple(b)) for a, b in questions], 24), "labels": labels}
    batches = ChoiceBatches(rows, 5, seed=3, pad_id=tokenizer.pad_id)
    seen = []
    for number in range(batches.steps_per_epoch):
        batch = batches[number]
        for places, label, index in zip(batch["places"], batch["labels"], batches.rows_of(number), strict=True):
            text, choices = questions[index]
            assert label == labels[index] and (places >= 0).sum() == len(choices)
            for place, choice in zip(places[places >= 0], choices, strict=True):
                expected = tokenizer(text, choice, padding=False, return_tensors=False)["input_ids"][0]
                row = batch["input_ids"][place]
                assert row[row != tokenizer.pad_id].tolist() == expected
            seen.append(int(index))
    assert sorted(seen) == list(range(21))


def test_the_loss_is_that_of_the_model_where_all_have_as_many_choices(tiny: Path):
    tokenizer = Tokenizer.from_pretrained(tiny)
    questions = [Question("red who", ("the red", "blue")), Question("blue", ("green", "the blue who"))]
    rows = {**encode_choices(tokenizer, questions, 24), "labels": np.array([0, 1])}
    batch = ChoiceBatches(rows, 2, pad_id=tokenizer.pad_id)[0]
    model = with_new_head(BertForMultipleChoice, tiny)
    sums = ChoiceObjective().sums(model, batch)["choosing"]
    names = ("input_ids", "token_type_ids", "attention_mask")
    output = model(**{name: batch[name].view(2, 2, -1) for name in names}, labels=batch["labels"])
    torch.testing.assert_close(sums.loss, 2 * output.loss)
    assert sums.correct == (output.logits.argmax(-1) == batch["labels"]).sum()


def test_a_missing_choice_gets_no_share(tiny: Path):
    tokenizer = Tokenizer.from_pretrained(tiny)
    questions = [Question("red", ("red", "blue")), Question("red", ("red", "blue", "green"))]
    model = with_new_head(BertForMultipleChoice, tiny)
    torch.nn.init.zeros_(model.classifier.weight)
    rows = {**encode_choices(tokenizer, questions, 24), "labels": np.array([0, 0])}
    batch = ChoiceBatches(rows, 2, pad_id=tokenizer.pad_id)[0]
    loss = ChoiceObjective().sums(model, batch)["choosing"].loss
    assert loss.item() == pytest.approx(np.log(2) + np.log(3), abs=1e-5)


def test_sample_weights_count(tiny: Path):
    questions, labels = asked(24)
    whole = quick(tiny).fit(questions, labels)
    none = quick(tiny).fit(questions * 2, labels + [1 - label % 2 for label in labels], [1.0] * 24 + [0.0] * 24)
    equal = quick(tiny).fit(questions, labels, [5.0] * 24)
    np.testing.assert_allclose(equal.predict_proba(questions)[0], whole.predict_proba(questions)[0], atol=1e-5)
    assert none.history_.column("choosing_accuracy")[1]


def test_early_stopping_keeps_the_best_epoch(tiny: Path):
    estimator = quick(tiny, epochs=6, early_stopping=True, n_iter_no_change=1, validation_fraction=0.25).fit(*asked(80))
    losses = estimator.history_.column("validation_loss")[1]
    assert estimator.best_epoch_ == 1 + int(np.argmin(losses))


def test_a_saved_chooser_chooses_the_same_here_and_in_transformers(learned: MultipleChoice, tmp_path: Path):
    learned.save(tmp_path)
    questions, _ = asked(20, seed=4)
    for again in (MultipleChoice.load(tmp_path), load(tmp_path)):
        assert isinstance(again, MultipleChoice)
        expected = np.concatenate(learned.predict_proba(questions))
        np.testing.assert_array_equal(np.concatenate(again.predict_proba(questions)), expected)
    theirs = transformers.AutoModelForMultipleChoice.from_pretrained(tmp_path).eval()
    for (text, choices), ours in zip(questions, learned.predict_proba(questions), strict=True):
        batch = learned.tokenizer_([text] * len(choices), choices)
        with torch.inference_mode():
            logits = theirs(**{name: value[None] for name, value in batch.items()}).logits[0]
        np.testing.assert_allclose(logits.softmax(-1), ours, atol=1e-5)


def test_it_is_an_estimator_of_scikit_learn(tiny: Path):
    estimator = quick(tiny, random_state=4)
    assert clone(estimator).get_params() == estimator.get_params()
    with pytest.raises(NotFittedError, match="MultipleChoice is not fitted yet"):
        estimator.predict([("red", ["a", "b"])])


def test_long_texts_are_truncated_with_a_warning(tiny: Path):
    questions = [("the who " * 30, ["red", "blue"])] * 4
    with pytest.warns(UserWarning, match="8 of 8 texts are longer than max_length=24"):
        quick(tiny).fit(questions, [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("questions", "labels", "error", "message"),
    [
        ([], [], ValueError, "X is empty"),
        (["red"], [0], TypeError, r"X\[0\]='red' is of type str; it must be a text and its choices"),
        ([("red", "blue")], [0], TypeError, r"X\[0\]\[1\]='blue' must be a list of str"),
        ([("red", ["a", None])], [0], TypeError, r"X\[0\]\[1\].* must be a list of str"),
        ([("red", ["a"])], [0], ValueError, "must hold two or more choices, all different"),
        ([("red", ["a", "a"])], [0], ValueError, "must hold two or more choices, all different"),
        ([("red", ["a", "b"])], [2], ValueError, r"y\[0\]=2 is no choice .* its number from 0 to 1"),
        ([("red", ["a", "b"])], [-1], ValueError, r"y\[0\]=-1 is no choice"),
        ([("red", ["a", "b"])], ["c"], ValueError, r"y\[0\]='c' is no choice of its question; .* one of its 2 choices"),
        ([("red", ["a", "b"])], [True], ValueError, r"y\[0\]=True is no choice"),
        ([("red", ["a", "b"])], [0, 1], ValueError, "y has 2 labels for 1 questions"),
        ([("red", ["a", "b"])], None, ValueError, "requires y to be passed, but the target y is None"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(tiny: Path, questions, labels, error, message: str):
    with pytest.raises(error, match=message):
        quick(tiny).fit(questions, labels)


def test_labels_of_validation_are_checked_too(tiny: Path):
    with pytest.raises(ValueError, match=r"validation\[1\]\[0\]=7 is no choice"):
        quick(tiny).fit(*asked(8), validation=([("red", ["a", "b"])], [7]))
