"""A fit that is stopped and gone on with ends as one never stopped; another fit is refused; nothing is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from companion.finetuning import TextClassifier, TokenTagger
from companion.finetuning.base import FineTuned
from companion.training.checkpoint import remove_checkpoint
from companion.training.run import Run
from tests.toys import keyword_texts

TEXTS, LABELS = keyword_texts(40)
HELD_OUT = (TEXTS[30:], LABELS[30:])


def quick(tiny: Path, **changes: Any) -> TextClassifier:
    """Twelve steps of training, with dropout."""
    options = {"epochs": 3, "batch_size": 8, "max_length": 16, "learning_rate": 3e-3, "dropout": 0.1}
    return TextClassifier(tiny, **options | changes)


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the training be interrupted once after a step, as Ctrl-C does it."""
    real = Run.must_stop
    monkeypatch.setattr(Run, "must_stop", lambda run, *given: run.history.step == step or real(run, *given))


def interrupted(
    estimator: FineTuned, step: int, folder: Path, monkeypatch: pytest.MonkeyPatch, *given: Any, **others: Any
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, step)
        with pytest.raises(KeyboardInterrupt, match=rf"stopped after {step} of .* steps; checkpoint='.*' goes on"):
            estimator.fit(*given, **others, checkpoint=folder)
    assert not hasattr(estimator, "model_")


def same_weights(one: FineTuned, other: FineTuned) -> bool:
    states = one.model_.state_dict(), other.model_.state_dict()
    return all(torch.equal(weight, states[1][name]) for name, weight in states[0].items())


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, [1, 7]),
        ({"adapter": "lora"}, [5]),
        ({"freeze": 1, "layer_decay": 0.9}, [4]),
        ({"early_stopping": True, "n_iter_no_change": 1, "epochs": 6}, [3, 6]),
    ],
)
def test_it_ends_as_one_never_stopped(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, changes: dict, steps: list[int]
):
    given = (TEXTS[:30], LABELS[:30])
    whole = quick(tiny, **changes).fit(*given, validation=HELD_OUT)
    for step in steps:
        interrupted(quick(tiny, **changes), step, tmp_path / "kept", monkeypatch, *given, validation=HELD_OUT)
    resumed = quick(tiny, **changes).fit(*given, validation=HELD_OUT, checkpoint=tmp_path / "kept")
    assert same_weights(resumed, whole)
    for name in ("loss", "validation_loss"):
        assert resumed.history_.column(name) == whole.history_.column(name)
    assert resumed.history_.step == whole.history_.step and resumed.n_iter_ == whole.n_iter_
    assert getattr(resumed, "best_epoch_", None) == getattr(whole, "best_epoch_", None)
    assert not (tmp_path / "kept").exists()


def test_the_best_epoch_before_the_stop_is_not_forgotten(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch):
    """The loss is made to rise after the first epoch, so that its weights are the best ones."""
    losses = iter([0.1, 0.5, 0.6, 0.7, 0.8])
    score = TextClassifier._score_validation
    monkeypatch.setattr(
        TextClassifier,
        "_score_validation",
        lambda self, *given: score(self, *given) | {"validation_loss": next(losses)},
    )
    options = {"early_stopping": True, "n_iter_no_change": 2, "epochs": 5}
    interrupted(quick(tiny, **options), 6, tmp_path, monkeypatch, TEXTS[:30], LABELS[:30], validation=HELD_OUT)
    resumed = quick(tiny, **options).fit(TEXTS[:30], LABELS[:30], validation=HELD_OUT, checkpoint=tmp_path)
    assert (resumed.best_epoch_, resumed.n_iter_) == (1, 3)
    first = quick(tiny, epochs=5)
    interrupted(first, 4, tmp_path / "first", monkeypatch, TEXTS[:30], LABELS[:30])
    after_one_epoch = load_file(tmp_path / "first" / "checkpoint" / "model.safetensors")
    trained = resumed.model_.bert.embeddings.tokens.weight
    assert any(weight.shape == trained.shape and torch.equal(weight, trained) for weight in after_one_epoch.values())


def test_a_tagger_goes_on_too(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch):
    words, tags = [["rain", "again"], ["sun"]] * 8, [["O", "B-X"], ["B-Y"]] * 8
    options = {"epochs": 2, "batch_size": 4, "max_length": 16}
    whole = TokenTagger(tiny, **options).fit(words, tags)
    interrupted(TokenTagger(tiny, **options), 3, tmp_path, monkeypatch, words, tags)
    assert same_weights(TokenTagger(tiny, **options).fit(words, tags, checkpoint=tmp_path), whole)


@pytest.mark.parametrize(
    ("changes", "data", "named"),
    [
        ({"dropout": 0.0}, {}, r"dropout=0.0 was 0.1"),
        ({"freeze": 1}, {}, r"freeze=1 was None"),
        ({"learning_rate": 1e-3}, {}, r"learning_rate=0.001 was 0.003"),
        ({}, {"y": LABELS[::-1]}, r"the data has changed"),
        ({}, {"X": ["another text", *TEXTS[1:]]}, r"the data has changed"),
        ({}, {"sample_weight": np.arange(1.0, 41.0)}, r"the data has changed"),
        ({}, {"validation": HELD_OUT}, r"the validation has changed"),
    ],
)
def test_another_fit_is_refused_and_the_checkpoint_kept(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, changes: dict, data: dict, named: str
):
    interrupted(quick(tiny), 6, tmp_path, monkeypatch, TEXTS, LABELS)
    with pytest.raises(ValueError, match=f"is of another run: .*{named}"):
        quick(tiny, **changes).fit(**{"X": TEXTS, "y": LABELS} | data, checkpoint=tmp_path)
    quick(tiny).fit(TEXTS, LABELS, checkpoint=tmp_path)


def test_other_labels_to_validate_on_are_another_fit(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch):
    interrupted(quick(tiny), 6, tmp_path, monkeypatch, TEXTS[:30], LABELS[:30], validation=HELD_OUT)
    turned = (HELD_OUT[0], HELD_OUT[1][::-1])
    with pytest.raises(ValueError, match="the validation has changed"):
        quick(tiny).fit(TEXTS[:30], LABELS[:30], validation=turned, checkpoint=tmp_path)


def test_a_stop_in_the_middle_of_a_replacement_loses_nothing(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
):
    """The checkpoint then lies under the name that it has until the next one is in its place."""
    whole, folder = quick(tiny).fit(TEXTS, LABELS), tmp_path / "kept"
    interrupted(quick(tiny), 6, folder, monkeypatch, TEXTS, LABELS)
    (folder / "checkpoint").rename(folder / ".checkpoint.old")
    assert same_weights(quick(tiny).fit(TEXTS, LABELS, checkpoint=folder), whole)
    assert not folder.exists()


@pytest.mark.parametrize("left", [".checkpoint.old", ".checkpoint.partial"])
def test_what_an_interrupted_replacement_left_is_removed_too(tmp_path: Path, left: str):
    (tmp_path / left).mkdir()
    remove_checkpoint(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_else_is_in_the_folder_stays(tmp_path: Path, tiny: Path):
    (tmp_path / "notes.txt").write_text("mine")
    quick(tiny).fit(TEXTS, LABELS, checkpoint=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_halves_go_on_as_halves(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch):
    """Memory runs out in the second step; the halves that follow are interrupted, and gone on with as halves."""
    options = {"dropout": 0.0}
    whole, taken, real = quick(tiny, **options).fit(TEXTS, LABELS), [], Run.optimise

    def scarce(run: Run, *given: Any) -> Any:
        taken.append(run.settings.accumulation)
        if taken == [1, 1]:
            raise torch.OutOfMemoryError("planted")
        return real(run, *given)

    monkeypatch.setattr(Run, "optimise", scarce)
    with pytest.warns(UserWarning, match="two halves"):
        interrupted(quick(tiny, **options), 7, tmp_path, monkeypatch, TEXTS, LABELS)
    resumed = quick(tiny, **options).fit(TEXTS, LABELS, checkpoint=tmp_path)
    assert set(taken[2:]) == {2}
    np.testing.assert_allclose(resumed.predict_proba(TEXTS), whole.predict_proba(TEXTS), atol=1e-4)


def test_a_checkpoint_that_is_no_path_is_refused(tiny: Path):
    with pytest.raises(ValueError, match="checkpoint=3 is not allowed; it must be None or the path of a folder"):
        quick(tiny).fit(TEXTS, LABELS, checkpoint=3)
