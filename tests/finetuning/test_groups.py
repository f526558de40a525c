"""Freezing and rates by layer: which weights change, how fast, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from companion import BertModel
from companion.finetuning import TextClassifier
from companion.finetuning.groups import depth_of, fine_tuning_groups
from companion.finetuning.new_head import with_new_head
from companion.model.heads import BertForSequenceClassification
from companion.training.optimisers import parameter_groups
from tests.toys import keyword_texts

QUICK = {"epochs": 1, "batch_size": 8, "max_length": 16}


@pytest.fixture
def model(tiny: Path) -> BertForSequenceClassification:
    return with_new_head(BertForSequenceClassification, tiny, num_labels=2)


def scales(model: BertForSequenceClassification, **options) -> dict[str, float]:
    """Return the rate of every trained weight, by its name."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    return {
        names[id(weight)]: group["lr_scale"]
        for group in fine_tuning_groups(model, 0.1, **options)
        for weight in group["params"]
    }


def test_without_settings_all_is_trained_alike_and_decays_as_ever(model):
    ours, plain = fine_tuning_groups(model, 0.1), parameter_groups(model, 0.1)
    assert [(group["weight_decay"], [id(p) for p in group["params"]]) for group in ours] == [
        (group["weight_decay"], [id(p) for p in group["params"]]) for group in plain
    ]
    assert {group["lr_scale"] for group in ours} == {1.0}


def test_every_layer_has_a_lower_rate_than_the_one_above_it(model):
    found, layers = scales(model, layer_decay=0.5, head_scale=3.0), model.config.num_hidden_layers
    assert found["classifier.weight"] == 3.0
    assert found["bert.pooler.dense.weight" if "bert.pooler.dense.weight" in found else "bert.pooler.weight"] == 1.0
    for layer in range(layers):
        assert found[f"bert.encoder.layers.{layer}.attention.query.bias"] == 0.5 ** (layers - layer)
    assert found["bert.embeddings.norm.weight"] == 0.5 ** (layers + 1)


@pytest.mark.parametrize(
    ("freeze", "lowest"),
    [(None, "bert.embeddings"), ("embeddings", "bert.encoder.layers.0"), (1, "bert.encoder.layers.1")],
)
def test_what_is_frozen_and_what_is_not(model, freeze, lowest):
    found = scales(model, freeze=freeze)
    assert next(iter(found)).startswith(lowest)
    depths = {depth_of(name, model.config.num_hidden_layers) for name in found}
    assert depths == set(range(min(depths), model.config.num_hidden_layers + 2))


def test_a_frozen_encoder_leaves_only_the_head(model):
    assert set(scales(model, freeze="encoder")) == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("freeze", ["embeddings", "encoder", 1, 2])
def test_frozen_weights_stay_bit_for_bit(tiny: Path, freeze):
    estimator = TextClassifier(tiny, freeze=freeze, **QUICK).fit(*keyword_texts(24))
    before, after = BertModel.from_pretrained(tiny).state_dict(), estimator.model_.bert.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    layers = estimator.model_.config.num_hidden_layers
    count = layers + 2 if freeze == "encoder" else 1 if freeze == "embeddings" else freeze + 1
    assert same == {name for name in before if depth_of(f"bert.{name}", layers) < count}
    assert all(weight.requires_grad for weight in estimator.model_.parameters())


def test_a_rate_of_the_head_alone_changes_the_head_more(tiny: Path):
    def moved(rate: float | None) -> float:
        estimator = TextClassifier(tiny, head_learning_rate=rate, random_state=0, **QUICK).fit(*keyword_texts(24))
        start = with_new_head(BertForSequenceClassification, tiny, seed=0, num_labels=len(estimator.classes_))
        return float((estimator.model_.classifier.weight - start.classifier.weight).detach().norm())

    assert moved(3e-2) > 5 * moved(None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": "head"}, "freeze='head' is not allowed; it must be None, 'embeddings', 'encoder' or a number"),
        ({"freeze": -1}, "freeze=-1 is not allowed"),
        ({"freeze": True}, "freeze=True is not allowed"),
        ({"freeze": 99}, "freeze=99 is not allowed; it must be at most the"),
        ({"layer_decay": 0}, "layer_decay=0"),
        ({"layer_decay": 1.5}, "layer_decay=1.5"),
        ({"head_learning_rate": 0}, "head_learning_rate=0"),
    ],
)
def test_settings_out_of_range_are_refused(tiny: Path, settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        TextClassifier(tiny, **QUICK, **settings).fit(["a", "b"], [0, 1])


def test_a_batch_that_does_not_fit_in_memory_is_taken_in_halves(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    import companion.finetuning.base as base

    true, tried = base.train, []

    def short_of_memory(model, batches, objective, settings, **options):
        tried.append(settings.accumulation)
        if settings.accumulation == 1:
            raise torch.OutOfMemoryError("no memory left")
        return true(model, batches, objective, settings, **options)

    settings = {"epochs": 3, "batch_size": 8, "max_length": 16, "dropout": 0.0}
    texts = keyword_texts(10, seed=4)[0]
    whole = TextClassifier(tiny, **settings).fit(*keyword_texts(40)).predict_proba(texts)
    monkeypatch.setattr(base, "train", short_of_memory)
    with pytest.warns(UserWarning, match="does not fit in memory.*two halves.*Lower batch_size=8"):
        halved = TextClassifier(tiny, **settings).fit(*keyword_texts(40)).predict_proba(texts)
    assert tried == [1, 2]
    torch.testing.assert_close(torch.as_tensor(halved), torch.as_tensor(whole), atol=1e-4, rtol=1e-4)


def test_memory_that_is_short_even_for_halves_is_an_error(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    def never(*args, **options):
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr("companion.finetuning.base.train", never)
    with pytest.warns(UserWarning, match="two halves"), pytest.raises(torch.OutOfMemoryError):
        TextClassifier(tiny, **QUICK).fit(*keyword_texts(12))
