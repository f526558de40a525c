"""Estimators on disk: they come back as they were, nothing else is lost, and folders of Transformers open too."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from companion import BertForSequenceClassification, BertForTokenClassification, Tokenizer
from companion.finetuning import TextClassifier, TextRegressor, load
from companion.finetuning.new_head import with_new_head
from companion.finetuning.saved import check_folder
from companion.support.devices import generators_kept
from tests.toys import keyword_texts, save_tiny


def quick(tiny: Path, **changes) -> TextClassifier:
    """Return an estimator that trains for moments."""
    return TextClassifier(tiny, **{"epochs": 1, "batch_size": 8, "max_length": 16, "learning_rate": 3e-3} | changes)


def test_a_saved_classifier_comes_back_with_its_parameters_and_predictions(fitted: TextClassifier, tmp_path: Path):
    texts, _ = keyword_texts(20, seed=6)
    fitted.save(tmp_path / "saved")
    loaded = TextClassifier.load(tmp_path / "saved", device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(texts), fitted.predict_proba(texts))
    assert loaded.predict(texts).tolist() == fitted.predict(texts).tolist()
    assert loaded.classes_.dtype == fitted.classes_.dtype
    expected = fitted.get_params() | {"model": str(fitted.model), "device": "cpu"}
    assert loaded.get_params() == expected
    assert not loaded.model_.training


def test_a_loaded_classifier_can_be_fitted_anew(fitted: TextClassifier, tmp_path: Path):
    fitted.save(tmp_path / "saved")
    loaded = TextClassifier.load(tmp_path / "saved")
    texts, labels = keyword_texts(200)
    expected = fitted.predict_proba(texts)
    np.testing.assert_array_equal(loaded.fit(texts, labels).predict_proba(texts), expected)


@pytest.mark.parametrize("labels", [[1, 0], [True, False], ["1", "0"], [2.0, 1.0]])
def test_labels_keep_their_type_on_disk(tiny: Path, tmp_path: Path, labels):
    texts, _ = keyword_texts(12)
    estimator = quick(tiny).fit(texts, labels * 6)
    estimator.save(tmp_path / "saved")
    loaded = TextClassifier.load(tmp_path / "saved")
    assert loaded.classes_.tolist() == estimator.classes_.tolist()
    assert loaded.classes_.dtype == estimator.classes_.dtype


def test_transformers_opens_what_is_saved(fitted: TextClassifier, tmp_path: Path):
    fitted.save(tmp_path / "saved")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    texts, labels = keyword_texts(10, seed=7)
    with torch.inference_mode():
        logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    assert [model.config.id2label[i] for i in logits.argmax(-1).tolist()] == labels
    np.testing.assert_allclose(logits.softmax(-1), fitted.predict_proba(texts), atol=1e-5)


@pytest.mark.parametrize(
    ("names", "classes"), [(["no", "perhaps", "yes"], ["no", "perhaps", "yes"]), (None, [0, 1, 2])]
)
def test_a_plain_folder_of_transformers_is_opened(tiny: Path, tmp_path: Path, names, classes):
    entries = json.loads((tiny / "config.json").read_text())
    for name in ("id2label", "label2id", "architectures", "model_type"):
        entries.pop(name)
    labels = {"id2label": dict(enumerate(names))} if names else {"num_labels": 3}
    with generators_kept():
        theirs = transformers.BertForSequenceClassification(transformers.BertConfig(**entries, **labels)).eval()
    theirs.save_pretrained(tmp_path)
    Tokenizer.from_pretrained(tiny).save_pretrained(tmp_path)
    loaded = TextClassifier.load(tmp_path)
    assert loaded.classes_.tolist() == classes
    batch = loaded.tokenizer_(["alpha good", "red"], max_length=16)
    with torch.inference_mode():
        expected = theirs(**batch).logits.softmax(-1)
    np.testing.assert_allclose(
        loaded.set_params(max_length=16).predict_proba(["alpha good", "red"]), expected, atol=1e-5
    )


def test_folders_of_other_tasks_are_refused(tiny: Path, tmp_path: Path):
    message = r"holds a BertModel, not the trained head of .*TextClassifier\(.*tiny'\)\.fit"
    with pytest.raises(ValueError, match=message):
        TextClassifier.load(tiny)
    with_new_head(BertForTokenClassification, tiny, num_labels=2).save_pretrained(tmp_path / "tags")
    with pytest.raises(ValueError, match="holds a BertForTokenClassification"):
        TextClassifier.load(tmp_path / "tags")
    with_new_head(BertForSequenceClassification, tiny, num_labels=1).save_pretrained(tmp_path / "score")
    with pytest.raises(ValueError, match="holds a model for regression"):
        TextClassifier.load(tmp_path / "score")


def test_saving_replaces_a_saved_classifier_and_nothing_else(fitted: TextClassifier, tmp_path: Path):
    folder = tmp_path / "saved"
    fitted.save(folder)
    before = sorted(path.name for path in folder.iterdir())
    assert "companion.json" in before
    (folder / "notes.txt").write_text("mine")
    (folder / "notes.txt").chmod(0o600)
    fitted.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*before, "notes.txt"])
    assert (folder / "notes.txt").read_text() == "mine" and (folder / "notes.txt").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    with pytest.raises(ValueError, match="is a file; pass the path of a folder"):
        fitted.save(folder / "notes.txt")


def test_another_model_is_not_overwritten(fitted: TextClassifier, tmp_path: Path):
    pretrained = save_tiny(tmp_path / "pretrained")
    before = {path.name: path.read_bytes() for path in pretrained.iterdir()}
    with pytest.raises(ValueError, match=r"holds another model \(config.json\), which saving would overwrite"):
        fitted.save(pretrained)
    assert {path.name: path.read_bytes() for path in pretrained.iterdir()} == before


def test_it_is_saved_where_folders_cannot_be_swapped(fitted: TextClassifier, tmp_path: Path, monkeypatch):
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    for _ in range(2):
        fitted.save(link)
    assert link.is_symlink() and (real / "companion.json").is_file()
    monkeypatch.chdir(real)
    fitted.save(".")
    assert Path(os.getcwd()) == real and TextClassifier.load(".").classes_.tolist() == fitted.classes_.tolist()
    assert [path.name for path in real.iterdir() if path.name.startswith(".")] == []


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_done(tmp_path: Path):
    with pytest.raises(OSError, match=r"folder='/proc/nope/x' cannot be written"):
        check_folder("/proc/nope/x")
    check_folder(tmp_path / "new" / "deep")
    assert list(tmp_path.iterdir()) == []


def test_load_finds_the_class(fitted: TextClassifier, tiny: Path, tmp_path: Path):
    fitted.save(tmp_path / "classes")
    TextRegressor(tiny, epochs=1, max_length=16).fit(["red", "blue"], [0.0, 1.0]).save(tmp_path / "numbers")
    assert type(load(tmp_path / "classes")) is TextClassifier
    assert type(load(tmp_path / "numbers", device="cpu")) is TextRegressor
    with pytest.raises(ValueError, match=r"holds a TextRegressor, not a TextClassifier; open it with companion\.finet"):
        TextClassifier.load(tmp_path / "numbers")
    for name in ("classes", "numbers"):  # without the file, as others save it, the config decides
        (tmp_path / name / "companion.json").unlink()
    assert type(load(tmp_path / "classes")) is TextClassifier
    assert type(load(tmp_path / "numbers")) is TextRegressor
    with pytest.raises(ValueError, match="holds a model for regression; TextClassifier is for single_label"):
        TextClassifier.load(tmp_path / "numbers")
    with pytest.raises(ValueError, match="holds a model for single_label_classification; TextRegressor is for regress"):
        TextRegressor.load(tmp_path / "classes")


def test_what_is_saved_is_read_once(fitted: TextClassifier, tmp_path: Path, monkeypatch):
    fitted.save(tmp_path / "saved")
    read = []
    monkeypatch.setattr(
        "companion.finetuning.saved.read_json", lambda path: read.append(path.name) or json.loads(path.read_text())
    )
    assert isinstance(load(tmp_path / "saved"), TextClassifier)
    assert read.count("companion.json") == 1


def test_load_says_what_no_estimator_opens(tiny: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="holds a BertModel, which no estimator opens"):
        load(tiny)
    save_tiny(tmp_path / "later")
    (tmp_path / "later" / "companion.json").write_text(json.dumps({"estimator": "TextChooser"}))
    with pytest.raises(ValueError, match="holds a TextChooser, which this version does not know; it opens TextClass"):
        load(tmp_path / "later")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing")


def test_a_folder_of_an_older_version_still_opens_and_is_renewed(fitted: TextClassifier, tmp_path: Path):
    texts, _ = keyword_texts(10)
    fitted.save(tmp_path / "old")
    saved = json.loads((tmp_path / "old" / "companion.json").read_text())
    parameters = saved["parameters"] | {"seed": 5}
    parameters = {key: value for key, value in parameters.items() if key not in ("random_state", "class_weight")}
    (tmp_path / "old" / "companion.json").unlink()
    old = {"classes": saved["classes"], "parameters": parameters}
    (tmp_path / "old" / "classifier.json").write_text(json.dumps(old))
    loaded = load(tmp_path / "old", device="cpu")
    assert loaded.random_state == 5 and loaded.pairs_ is None and loaded.multilabel_ is None
    np.testing.assert_array_equal(loaded.predict(texts), fitted.predict(texts))
    loaded.save(tmp_path / "old")
    assert not (tmp_path / "old" / "classifier.json").exists()


def test_parameters_that_json_writes_otherwise_come_back(tiny: Path, tmp_path: Path):
    texts, _ = keyword_texts(12)
    estimator = quick(tiny, class_weight={1: 2.0, 0: 0.5}, random_state=np.random.RandomState(0), epochs=np.int64(1))
    estimator.fit([(text, "red") for text in texts], [1, 0] * 6).save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert loaded.class_weight == {1: 2.0, 0: 0.5} and loaded.epochs == 1 and loaded.random_state is None
    assert loaded.pairs_ is True
    with pytest.raises(TypeError, match="was fitted on pairs"):
        loaded.predict(texts)


def test_a_model_of_others_reads_texts_to_the_end_of_its_positions(fitted: TextClassifier, tmp_path: Path):
    fitted.save(tmp_path / "saved")
    (tmp_path / "saved" / "companion.json").unlink()
    loaded = TextClassifier.load(tmp_path / "saved")
    assert loaded.max_length == loaded.model_.config.max_position_embeddings == 48
    loaded.predict(["red " * 46])  # without a warning: 48 with [CLS] and [SEP]


def test_a_save_that_fails_leaves_the_old_one(fitted: TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fitted.save(tmp_path / "saved")
    before = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}

    def full_disk(*_):
        raise OSError("no space left")

    monkeypatch.setattr(Tokenizer, "save_pretrained", full_disk)
    with pytest.raises(OSError, match="no space left"):
        fitted.save(tmp_path / "saved")
    assert {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_pickle_gives_the_same_predictions(fitted: TextClassifier):
    texts, _ = keyword_texts(10)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(texts), fitted.predict_proba(texts))
