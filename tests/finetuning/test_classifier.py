"""TextClassifier: what it learns, that it is a scikit-learn estimator, that it is the loop its documentation shows."""

from __future__ import annotations

import logging
import random
from copy import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from companion import BertForSequenceClassification, BertModel, Tokenizer
from companion.finetuning import TextClassifier
from companion.finetuning.new_head import default_learning_rate, with_new_head
from companion.finetuning.texts import encode_texts
from companion.support.devices import generators_kept, seed_everything
from companion.training.batching import GroupedBatches
from companion.training.inference import predict_rows
from companion.training.loop import History
from companion.training.settings import TrainingSettings
from tests.loops import bare_loop
from tests.toys import FILLERS, keyword_texts

POSITIONS = 48


def order_texts(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Make texts whose label is which of the words "red" and "blue", always both there, comes first."""
    generator = random.Random(seed)
    texts, labels = [], []
    for i in range(count):
        first, second = ("red", "blue") if i % 2 else ("blue", "red")
        gaps = [" ".join(generator.choices(FILLERS, k=generator.randint(0, 2))) for _ in range(3)]
        texts.append(f"{gaps[0]} {first} {gaps[1]} {second} {gaps[2]}")
        labels.append(first)
    return texts, labels


def quick(tiny: Path, **changes) -> TextClassifier:
    """Return an estimator that trains for moments."""
    return TextClassifier(tiny, **{"epochs": 1, "batch_size": 8, "max_length": 16, "learning_rate": 3e-3} | changes)


def test_a_separable_task_is_learned_to_the_last_text(fitted: TextClassifier):
    texts, labels = keyword_texts(100, seed=2)
    assert fitted.score(texts, labels) == 1.0
    assert fitted.predict(texts).tolist() == labels


def test_the_order_of_words_is_learned_where_a_bag_of_words_guesses(tiny: Path):
    train, test = order_texts(400, seed=1), order_texts(100, seed=2)
    bag = make_pipeline(CountVectorizer(), LogisticRegression()).fit(*train)
    assert bag.score(*test) < 0.65
    estimator = quick(tiny, epochs=12, batch_size=16, learning_rate=2e-3, from_scratch=True)
    assert estimator.fit(*train).score(*test) > 0.9


def test_validation_is_recorded_after_every_epoch(fitted: TextClassifier):
    steps, accuracies = fitted.history_.column("validation_accuracy")
    assert steps == [7, 14, 21, 28, 35, 42]  # 200 texts in batches of 32
    texts, labels = keyword_texts(60, seed=1)
    assert accuracies[-1] == fitted.score(texts, labels)
    probabilities = fitted.predict_proba(texts)[np.arange(60), [list(fitted.classes_).index(label) for label in labels]]
    assert fitted.history_.column("validation_loss")[1][-1] == pytest.approx(-np.log(probabilities).mean(), rel=1e-4)
    assert len(fitted.history_.column("validation_f1")[1]) == fitted.n_iter_ == 6


def test_every_step_is_recorded_and_the_loss_falls(fitted: TextClassifier):
    steps, losses = fitted.history_.column("loss")
    assert steps == list(range(1, 43))
    assert losses[0] == pytest.approx(np.log(2), abs=0.1)
    assert losses[-1] < 0.2
    assert fitted.history_.column("classification_accuracy")[1][-1] == 1.0
    assert max(fitted.history_.column("learning_rate")[1]) <= fitted.learning_rate_ == 3e-3


def test_fit_is_the_bare_loop_of_its_documentation(tiny: Path):
    texts, labels = keyword_texts(50)
    estimator = quick(tiny, epochs=2, random_state=5, weight_decay=0.1).fit(texts, labels)

    rows = encode_texts(Tokenizer.from_pretrained(tiny), texts, max_length=16)
    rows["labels"] = [["negative", "positive"].index(label) for label in labels]
    model = with_new_head(BertForSequenceClassification, tiny, seed=5, num_labels=2)
    batches = GroupedBatches(rows, batch_size=8, seed=5)
    settings = TrainingSettings(steps=2 * batches.steps_per_epoch, learning_rate=3e-3, seed=5)
    losses = bare_loop(model, batches, settings, weight_decay=0.1)

    assert estimator.history_.column("loss")[1] == pytest.approx(losses, abs=1e-5)
    with torch.inference_mode():
        expected = model.eval()(**GroupedBatches(rows, batch_size=50, group=False)[0]).logits.softmax(-1)
    order = GroupedBatches(rows, batch_size=50, group=False).rows_of(0)
    np.testing.assert_allclose(estimator.predict_proba(texts)[order], expected, atol=1e-4)


def test_the_same_seed_gives_the_same_and_another_seed_another_classifier(tiny: Path):
    texts, labels = keyword_texts(24)
    first, again, other = (quick(tiny, random_state=seed).fit(texts, labels).predict_proba(texts) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize("validated", [False, True])
def test_the_generators_of_the_caller_are_left_as_they_were(tiny: Path, validated: bool):
    def draw() -> tuple:
        return random.random(), np.random.random(), torch.rand(1).item()

    seed_everything(11)
    expected = draw()
    seed_everything(11)
    texts, labels = keyword_texts(16)
    quick(tiny).fit(texts, labels, validation=(texts, labels) if validated else None).predict(texts)
    assert draw() == expected


def test_the_generators_are_put_back_after_an_error_too():
    seed_everything(11)
    expected = random.random(), np.random.random(), torch.rand(1).item()
    seed_everything(11)
    with pytest.raises(KeyError), generators_kept():
        seed_everything(3)
        raise KeyError
    assert (random.random(), np.random.random(), torch.rand(1).item()) == expected


def test_predictions_do_not_depend_on_order_batches_or_mode(fitted: TextClassifier):
    texts = keyword_texts(30, seed=4)[0]
    expected = fitted.predict_proba(texts)
    order = np.random.default_rng(0).permutation(30)
    np.testing.assert_allclose(fitted.predict_proba([texts[i] for i in order]), expected[order], atol=1e-5)
    np.testing.assert_allclose([fitted.predict_proba([text])[0] for text in texts], expected, atol=1e-5)
    fitted.model_.train()
    np.testing.assert_array_equal(fitted.predict_proba(texts), expected)
    assert fitted.model_.training, "the caller's mode is the caller's"
    fitted.model_.eval()


def test_a_new_head_stands_on_the_pre_trained_encoder(tiny: Path, caplog: pytest.LogCaptureFixture):
    model = with_new_head(BertForSequenceClassification, tiny, seed=3, labels=("a", "b", "c"))
    for name, weight in BertModel.from_pretrained(tiny).state_dict().items():
        assert torch.equal(model.bert.state_dict()[name], weight), name
    with generators_kept():
        seed_everything(3)
        fresh = BertForSequenceClassification(model.config)
    assert torch.equal(model.classifier.weight, fresh.classifier.weight)
    assert model.config.num_labels == 3
    assert caplog.records == []


def test_from_scratch_takes_the_shape_and_no_weight(tiny: Path):
    model = with_new_head(BertForSequenceClassification, tiny, from_scratch=True)
    weight = BertModel.from_pretrained(tiny).embeddings.tokens.weight
    assert model.bert.embeddings.tokens.weight.shape == weight.shape
    assert not torch.equal(model.bert.embeddings.tokens.weight, weight)


def test_the_default_learning_rate_follows_the_width(tiny: Path):
    rates = [default_learning_rate(width) for width in (128, 256, 512, 768, 1024)]
    assert rates == pytest.approx([3e-4, 3e-4, 7.5e-5, 3.33e-5, 1.875e-5], rel=1e-2)
    texts, labels = keyword_texts(8)
    assert quick(tiny, learning_rate=None).fit(texts, labels).learning_rate_ == 3e-4


def test_dropout_is_that_of_the_checkpoint_unless_it_is_set(tiny: Path):
    texts, labels = keyword_texts(8)
    fits = {dropout: quick(tiny, dropout=dropout).fit(texts, labels) for dropout in (None, 0.1, 0.0)}
    losses = {dropout: fit.history_.column("loss")[1][0] for dropout, fit in fits.items()}
    assert losses[None] == losses[0.1] != losses[0.0]
    untrained = with_new_head(BertForSequenceClassification, tiny, num_labels=2)  # in evaluation mode
    rows = encode_texts(Tokenizer.from_pretrained(tiny), texts, max_length=16)
    numbers = torch.tensor([sorted(set(labels)).index(label) for label in labels])
    expected = torch.nn.functional.cross_entropy(predict_rows(untrained, rows), numbers)
    assert losses[0.0] == pytest.approx(expected.item(), abs=1e-6)


def test_fitting_and_predicting_say_nothing(tiny: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture):
    texts, labels = keyword_texts(16)
    with caplog.at_level(logging.INFO, logger="companion"):
        quick(tiny).fit(texts, labels).predict(texts)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_several_processes_share_every_batch(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    estimator = quick(tiny, batch_size=8)
    tokenizer = Tokenizer.from_pretrained(tiny)
    rows = encode_texts(tokenizer, keyword_texts(16)[0], max_length=16)
    monkeypatch.setenv("WORLD_SIZE", "2")
    batches = estimator._batches(rows | {"labels": np.zeros(16)}, tokenizer, None, 0)
    assert batches.steps_per_epoch == 2
    assert [len(batches.rows_of(number)) for number in range(4)] == [4, 4, 4, 4]


def test_it_is_a_classifier_whose_parameters_are_kept_as_given(tiny: Path):
    estimator = TextClassifier(tiny, learning_rate=1e-3, random_state=4)
    assert is_classifier(estimator)
    again = clone(estimator)
    assert again.get_params() == estimator.get_params()
    assert again.model is not None and again.random_state == 4 and again.learning_rate == 1e-3


def test_fit_changes_no_parameter_and_replaces_what_was_fitted(tiny: Path):
    estimator = quick(tiny, learning_rate=None)
    before = estimator.get_params()
    texts, labels = keyword_texts(16)
    estimator.fit(texts, labels)
    assert estimator.get_params() == before
    estimator.fit(texts[:9], ["a", "b", "c"] * 3)
    assert estimator.classes_.tolist() == ["a", "b", "c"]
    assert estimator.predict_proba(texts).shape == (16, 3)


def test_search_cross_validation_and_pipelines_take_it(tiny: Path):
    texts, labels = keyword_texts(24)
    search = GridSearchCV(quick(tiny), {"learning_rate": [1e-9, 3e-3], "epochs": [16]}, cv=2).fit(texts, labels)
    assert search.best_params_["learning_rate"] == 3e-3
    assert cross_val_score(quick(tiny), texts, labels, cv=3, scoring="roc_auc", error_score="raise").shape == (3,)
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = Pipeline([("lower", lower), ("classify", quick(tiny))]).fit([text.upper() for text in texts], labels)
    expected = quick(tiny).fit(texts, labels).predict_proba(texts)
    np.testing.assert_array_equal(pipeline.predict_proba([text.upper() for text in texts]), expected)


def test_texts_and_labels_are_not_taken_for_metadata(tiny: Path):
    texts, labels = keyword_texts(16)
    with config_context(enable_metadata_routing=True):
        assert quick(tiny).set_fit_request(validation=True).get_metadata_routing().fit.requests["validation"]
        assert cross_val_score(quick(tiny), texts, labels, cv=2, error_score="raise").shape == (2,)


def test_the_decision_function_is_the_log_odds(fitted: TextClassifier, tiny: Path):
    texts, _ = keyword_texts(8)
    probabilities = fitted.predict_proba(texts)
    np.testing.assert_allclose(probabilities.sum(-1), 1.0)
    np.testing.assert_allclose(
        fitted.decision_function(texts), np.log(probabilities[:, 1] / probabilities[:, 0]), atol=1e-4
    )
    three = quick(tiny).fit(texts, ["a", "b", "c", "a", "b", "c", "a", "b"])
    assert three.decision_function(texts).shape == (8, 3)


def test_bfloat16_changes_probabilities_little(fitted: TextClassifier):
    texts, _ = keyword_texts(40, seed=5)
    half = copy(fitted).set_params(precision="bf16")
    difference = np.abs(half.predict_proba(texts) - fitted.predict_proba(texts)).max()
    assert 0 < difference < 0.05


def test_pairs_are_encoded_in_two_segments_and_cut_together(tiny: Path):
    tokenizer = Tokenizer.from_pretrained(tiny)
    rows = encode_texts(tokenizer, [("red blue", "good"), ("red " * 9, "blue " * 9)], max_length=9)
    assert [tokenizer.id_to_token(i) for i in rows["input_ids"][0]] == [
        "[CLS]",
        "red",
        "blue",
        "[SEP]",
        "good",
        "[SEP]",
    ]
    assert rows["token_type_ids"] == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1, 1, 1, 1]]


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_an_unfitted_estimator_says_what_to_call(method: str):
    with pytest.raises(NotFittedError, match=r"TextClassifier is not fitted yet; call fit\(texts, labels\) or load"):
        getattr(TextClassifier(), method)(["a"])


def test_an_unfitted_estimator_is_not_saved(tmp_path: Path):
    with pytest.raises(NotFittedError):
        TextClassifier().save(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs=0 is not allowed; it must be an integer above 0"),
        ({"epochs": 1.5}, "epochs=1.5 is not allowed"),
        ({"batch_size": 0}, "batch_size=0 is not allowed"),
        ({"max_length": 64}, f"max_length=64 is above the {POSITIONS} positions of .*tiny"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0 is not allowed"),
        ({"warmup_share": 2}, "warmup_share=2 is not allowed"),
        ({"dropout": 1.0}, r"dropout=1.0 is not allowed; it must be None or a probability in \[0, 1\)"),
        ({"precision": "fp8"}, "precision='fp8' is unknown"),
        ({"epochs": "3"}, "epochs='3' is not allowed; it must be an integer above 0"),
        ({"epochs": True}, "epochs=True is not allowed"),
        ({"batch_size": 4.0}, "batch_size=4.0 is not allowed"),
        ({"max_length": 2.7}, "max_length=2.7 is not allowed; it must be an integer of at least 3"),
        ({"learning_rate": "1e-3"}, "learning_rate='1e-3' is not allowed; it must be None or a number above 0"),
        ({"learning_rate": float("inf")}, "learning_rate=inf is not allowed"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1 is not allowed"),
        ({"dropout": "x"}, "dropout='x' is not allowed"),
        ({"random_state": -1}, "random_state=-1 is not allowed; it must be None, an integer of 0 or more"),
        ({"random_state": "x"}, "random_state='x' is not allowed"),
        ({"device": "gpu"}, "device='gpu' is unknown"),
        ({"from_scratch": "no"}, "from_scratch='no' is not allowed; it must be True or False"),
        ({"progress": 1}, "progress=1 is not allowed"),
        ({"early_stopping": "yes"}, "early_stopping='yes' is not allowed"),
        ({"validation_fraction": 1.0}, r"validation_fraction=1.0 is not allowed; it must be a share in \(0, 1\)"),
        ({"n_iter_no_change": 0}, "n_iter_no_change=0 is not allowed"),
        ({"class_weight": "even"}, "class_weight='even' is not allowed; it must be None, 'balanced' or a dict"),
        ({"class_weight": {"neutral": 2}}, "class_weight names 'neutral', which is not among the labels"),
        ({"class_weight": {"positive": -2}}, "class_weight=-2 is not allowed"),
    ],
)
def test_a_parameter_out_of_range_is_named_and_nothing_is_fitted(tiny: Path, changes, message: str):
    estimator = quick(tiny, **changes)
    with pytest.raises(ValueError, match=message):
        estimator.fit(*keyword_texts(8))
    with pytest.raises(NotFittedError):
        estimator.predict(["a"])


def test_parameters_that_mean_the_same_are_taken_and_kept(tiny: Path):
    texts, labels = keyword_texts(16)
    expected = quick(tiny).fit(texts, labels).predict_proba(texts)
    numbers = {"epochs": np.int64(1), "batch_size": np.int32(8), "learning_rate": np.float64(3e-3), "dropout": None}
    estimator = quick(tiny, **numbers, random_state=np.int64(0), max_length=torch.tensor(16), from_scratch=np.False_)
    np.testing.assert_array_equal(estimator.fit(texts, labels).predict_proba(texts), expected)
    assert type(estimator.epochs) is np.int64


def test_a_random_state_draws_another_seed_for_every_fit_and_none_draws_from_the_global_one(tiny: Path):
    texts, labels = keyword_texts(16)

    def twice(state) -> list[np.ndarray]:
        estimator = quick(tiny, random_state=state)
        return [estimator.fit(texts, labels).predict_proba(texts) for _ in range(2)]

    first, second = twice(np.random.RandomState(3))
    assert np.abs(first - second).max() > 1e-4
    np.testing.assert_array_equal(twice(np.random.RandomState(3)), [first, second])
    np.random.seed(3)
    np.testing.assert_array_equal(twice(None), [first, second])


def test_validation_of_another_form_is_named(tiny: Path):
    texts, labels = keyword_texts(8)
    with pytest.raises(ValueError, match=r"it must be None or a tuple of texts and their labels: validation=\(X, y\)"):
        quick(tiny).fit(texts, labels, validation=texts)


def test_logarithms_of_probabilities_are_those_of_the_probabilities(fitted: TextClassifier):
    texts, _ = keyword_texts(8)
    np.testing.assert_allclose(fitted.predict_log_proba(texts), np.log(fitted.predict_proba(texts)), atol=1e-9)


def test_a_weighted_score_counts_texts_by_their_weight(fitted: TextClassifier):
    texts, labels = keyword_texts(4, seed=2)
    wrong = [labels[0], labels[0], *labels[2:]]  # the second is wrong
    assert fitted.score(texts, wrong) == 0.75
    assert fitted.score(texts, wrong, sample_weight=[1, 3, 1, 1]) == 0.5
    assert fitted.score(X=texts, y=wrong) == 0.75


def test_a_label_only_in_validation_is_named(tiny: Path):
    message = r"validation\[1\]\[1\]='neutral' is no label that was learned, which are: \['negative', 'positive'\]"
    with pytest.raises(ValueError, match=message):
        quick(tiny).fit(*keyword_texts(8), validation=(["a", "b"], ["positive", "neutral"]))


def test_a_tokenizer_of_another_model_is_refused(tiny: Path, tmp_path: Path):
    BertModel(BertModel.from_pretrained(tiny).config.replace(vocab_size=10)).save_pretrained(tmp_path)
    Tokenizer.from_pretrained(tiny).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has 10 token embeddings, its tokenizer"):
        quick(tmp_path).fit(*keyword_texts(8))


def test_an_interrupted_fit_raises_and_keeps_the_old_state(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    estimator = quick(tiny).fit(*keyword_texts(8))
    before = estimator.model_
    monkeypatch.setattr("companion.finetuning.base.train", lambda *_, **__: History(step=1, finished=False))
    with pytest.raises(KeyboardInterrupt, match="fit was stopped after 1 of 2 steps; nothing is kept"):
        estimator.fit(*keyword_texts(16))
    assert estimator.model_ is before
