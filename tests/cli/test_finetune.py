"""`companion finetune`: what is checked before the training, what is saved, and what is printed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from companion.cli import app
from companion.data import catalogue
from companion.finetuning import TextClassifier, TextRegressor, load
from tests.toys import keyword_texts, save_tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def finetune(tiny: Path, data: object, *words: object, output: object = "out") -> Result:
    quick = ("--max-length", 16, "--learning-rate", 3e-3, "--no-progress", "--device", "cpu")
    return run("finetune", data, "--model", tiny, "--output", output, *quick, *words)


def write(path: str, rows: list[dict]) -> Path:
    """Write rows as the ending of the path says."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(rows)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows(count: int, seed: int = 0, **names: str) -> list[dict]:
    """Make labelled rows with columns `text` and `label`, or others."""
    texts, labels = keyword_texts(count, seed)
    text, label = names.get("text", "text"), names.get("label", "label")
    return [{text: one, label: two} for one, two in zip(texts, labels, strict=True)]


@pytest.fixture
def reviews() -> Path:
    """Write a folder of three splits; return its path."""
    for split, count, seed in (("train", 120, 0), ("dev", 30, 1), ("test", 40, 2)):
        write(f"data/{split}.jsonl", rows(count, seed))
    return Path("data")


def test_a_folder_is_learned_saved_and_scored_beside_the_commonest_label(tiny: Path, reviews: Path):
    result = finetune(tiny, reviews, "--epochs", 6)
    assert result.exit_code == 0, result.output
    saved = load("out", device="cpu")
    texts, labels = keyword_texts(40, seed=2)
    assert saved.score(texts, labels) == 1.0
    assert result.stdout.splitlines() == [
        "saved to out; try: companion predict out 'some text'",
        "validation accuracy 1.000 (always 'positive': 0.500)",
        "test accuracy 1.000 (always 'positive': 0.500)",
    ]
    assert result.stderr == ""


def test_an_adapter_is_saved_alone_and_opened_again(tiny: Path, reviews: Path):
    result = finetune(tiny, reviews, "--epochs", 1, "--adapter", "lora")
    assert result.exit_code == 0, result.output
    assert {"adapter_model.safetensors", "companion.json"} <= {path.name for path in Path("out").iterdir()}
    assert not Path("out/model.safetensors").exists()
    assert load("out", device="cpu").adapter == "lora"
    refused = finetune(tiny, reviews, "--adapter", "prefix", output="other")
    assert refused.exit_code == 2 and "--adapter 'prefix' is not allowed; it must be None, 'lora'" in refused.stderr


def test_a_result_that_may_be_chance_is_called_so(tiny: Path, reviews: Path):
    result = finetune(tiny, reviews, "--epochs", 1, "--learning-rate", 1e-9)
    assert result.exit_code == 0
    assert "companion: on test this may be chance" in result.stderr and "more --epochs" in result.stderr


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_file_and_columns_by_name_are_enough(tiny: Path, kind: str):
    data = write(f"mine.{kind}", rows(40, text="review", label="stars"))
    result = finetune(tiny, data, "--text", "review", "--label", "stars", "--validation", 0.25, "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "validation accuracy" in result.stdout and "test" not in result.stdout.split("try:")[1]
    held_out = write(f"held-out.{kind}", rows(8, seed=3, text="review", label="stars"))
    options = ("--text", "review", "--label", "stars", "--validation", held_out, "--epochs", 1)
    assert "validation accuracy" in finetune(tiny, data, *options, output="other").stdout


def test_a_set_of_the_catalogue_needs_no_columns(tiny: Path, tmp_path: Path, monkeypatch):
    pairs = [{"sentence1": f"the {a}", "sentence2": b, "label": str(a == b), "idx": 0} for a in "red blue".split() for b in "red blue".split()]  # fmt: skip  # noqa: E501
    for split in ("train", "validation"):
        write(f"sets/tasks/rte/{split}.jsonl", pairs * 4)
    scores = [row | {"score": float(n)} for n, row in enumerate(pairs)]
    for split in ("train", "validation"):
        write(f"sets/stsb/{split}.jsonl", [{k: v for k, v in row.items() if k != "label"} for row in scores * 4])
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path / "sets"))
    result = finetune(tiny, "rte", "--epochs", 1)
    assert result.exit_code == 0 and "try: companion predict out 'some text' --pair 'another'" in result.stdout
    assert load("out").pairs_ is True
    result = finetune(tiny, "stsb", "--epochs", 1, output="numbers")
    assert result.exit_code == 0 and "validation R²" in result.stdout and "(always the mean: 0.000)" in result.stdout
    assert type(load("numbers")) is TextRegressor


def test_passes_over_a_set_are_those_of_the_catalogue(tiny: Path, reviews: Path, monkeypatch):
    card = catalogue.CATALOGUE["reviews"]
    monkeypatch.setitem(catalogue.CATALOGUE, "data", card)
    assert finetune(tiny, reviews).exit_code == 0
    assert load("out").epochs == card.epochs == 6
    assert finetune(tiny, reviews, "--epochs", 1, "--dropout", 0.2, "--weight-decay", 0.3).exit_code == 0
    saved = load("out")
    assert (saved.epochs, saved.dropout, saved.weight_decay) == (1, 0.2, 0.3)


def test_numbers_on_a_scale_make_a_regressor(tiny: Path):
    numbers = np.linspace(0, 1, 16)
    data = write("scale.csv", [{"text": f"red {'blue ' * n}", "label": x} for n, x in enumerate(numbers)])
    assert finetune(tiny, data, "--epochs", 1, "--max-length", 32).exit_code == 0
    assert type(load("out")) is TextRegressor
    whole = write("whole.csv", [{"text": f"red {n % 4}", "label": n % 4} for n in range(16)])
    assert finetune(tiny, whole, "--epochs", 1, "--regression", output="forced").exit_code == 0
    assert type(load("forced")) is TextRegressor
    assert finetune(tiny, whole, "--epochs", 1, output="classes").exit_code == 0
    assert type(load("classes")) is TextClassifier


def test_lists_of_labels_make_a_classifier_of_several(tiny: Path):
    several = [{"text": f"red {n}", "label": [["a"], ["a", "b"], []][n % 3]} for n in range(12)]
    write("several/train.jsonl", several)
    write("several/test.jsonl", several[:3])
    result = finetune(tiny, "several", "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert load("out").multilabel_ == "lists" and "test accuracy" in result.stdout
    predicted = json.loads(run("predict", "out", "red 1").stdout)
    assert set(predicted) == {"text", "labels", "probabilities"} and set(predicted["probabilities"]) == {"a", "b"}


# Each of these is noticed before the training, in one line, with exit status 2, and writes nothing.
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "afile"], "--output 'afile' is a file"),
        (["--output", "/proc/nope/x"], "--output '/proc/nope/x' cannot be written"),
        (["--output", "model"], "--output 'model' holds another model (config.json)"),
        (["--text", "review"], "column 'review' is not in the data, which has: text, label; name it with --text"),
        (["--pair", "other"], "column 'other' is not in the data, which has: text, label; name it with --pair"),
        (["--label", "stars"], "column 'stars' is not in the data, which has: text, label; name it with --label"),
        (["--label", "text"], "column 'text' is named twice"),
        (["--pair", "text"], "column 'text' is named twice"),
        (["--validation", "1.5"], "--validation 1.5 is no share between 0 and 1"),
        (["--validation", "nowhere.csv"], "'nowhere.csv' was not found"),
        (["--epochs", "0"], "--epochs 0 is not allowed"),
        (["--device", "gpu"], "--device 'gpu' is unknown"),
        (["--learning-rate", "-1"], "--learning-rate -1.0 is not allowed"),
        (["--max-length", "4000"], "--max-length 4000 is above the 48 positions"),
        (["--model", "nope"], "'nope' was not found"),
        (["--precision", "int4"], "--precision 'int4' is"),
    ],
)
def test_a_wrong_option_is_refused_before_the_training(tiny: Path, monkeypatch, options: list[str], message: str):
    monkeypatch.setattr("companion.finetuning.base.train", lambda *_, **__: pytest.fail("trained"))
    data = write("mine.jsonl", rows(12))
    Path("afile").write_text("mine")
    save_tiny(Path("model"))
    result = finetune(tiny, data, *options)
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert result.stderr.startswith("companion: ") and result.stderr.count("\n") == 1
    assert not Path("out").exists() and Path("afile").read_text() == "mine"


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"test": rows(4)}, "data has no split train to learn from; it has: test"),
        ({"train": rows(8), "test": [{"text": "x"}]}, "column 'label' is not in the data, which has: text"),
        ({"train": rows(8), "test": [{"text": None, "label": "positive"}]}, "test.jsonl, row 1: column 'text' is null"),
        ({"train": [*rows(8), {"text": "x", "label": None}]}, "train.jsonl, row 9: column 'label' is null"),
        ({"train": rows(8), "test": [{"text": "x", "label": "new"}]}, "test: validation[1][0]='new' is no label"),
        ({"train": [{"text": "x", "label": "one"}] * 8}, "train: y holds one class only"),
        ({"train": [{"text": n, "label": n % 2} for n in range(8)]}, "X[0]=0 is of type int; it must be a str"),
        (
            {"train": [{"text": f"{n}", "label": f"id-{n}"} for n in range(30)]},
            "every one of the 30 texts has a label of its own; --label names the column to learn",
        ),
    ],
)
def test_wrong_data_is_refused_before_the_training(tiny: Path, monkeypatch, splits: dict, message: str):
    monkeypatch.setattr("companion.finetuning.base.train", lambda *_, **__: pytest.fail("trained"))
    for name, content in splits.items():
        write(f"data/{name}.jsonl", content)
    result = finetune(tiny, "data")
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert result.stderr.count("\n") == 1 and not Path("out").exists()


def test_sets_for_other_uses_are_refused_with_what_they_are_for(tiny: Path):
    result = finetune(tiny, "python_questions")
    assert result.exit_code == 2 and "python_questions is a set for measuring search" in result.stderr


def test_what_was_trained_is_saved_before_it_is_scored(tiny: Path, reviews: Path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no more memory")

    monkeypatch.setattr(TextClassifier, "score", fail)
    result = finetune(tiny, reviews, "--epochs", 1)
    assert result.exit_code == 2 and "no more memory" in result.stderr
    assert load("out").classes_.tolist() == ["negative", "positive"]


def test_notes_beside_the_output_are_kept_and_an_older_classifier_is_replaced(tiny: Path, reviews: Path):
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")
    for epochs in (1, 2):
        assert finetune(tiny, reviews, "--epochs", epochs).exit_code == 0
        assert load("out").epochs == epochs
    assert Path("out/notes.txt").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_is_answered_in_one_line(tiny: Path, reviews: Path):
    command = [sys.executable, "-m", "companion", "finetune", "data", "--model", str(tiny), "--output", "out"]
    options = ["--epochs", "5000", "--max-length", "16", "--device", "cpu"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    shown = ""
    while "step" not in shown:  # the bar: the training has begun
        shown += process.stderr.read(1) or pytest.fail(shown)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    (line,) = [line for line in rest.splitlines() if line.startswith("companion:")]
    assert "fit was stopped after" in line and "nothing is kept" in line and "Traceback" not in rest
    assert not Path("out").exists()


def test_a_training_that_was_stopped_goes_on_with_the_same_command(tiny: Path, reviews: Path, monkeypatch):
    from companion.finetuning import classifier

    whole = finetune(tiny, reviews, "--epochs", 3)
    assert whole.exit_code == 0, whole.output
    expected = load("out", device="cpu").predict_proba(["good alpha"])
    shutil.rmtree("out")
    sums, calls = classifier.SequenceObjective.sums, []

    def stopped(self, model, batch):
        calls.append(1)
        if len(calls) == 7:
            signal.raise_signal(signal.SIGINT)
        return sums(self, model, batch)

    with monkeypatch.context() as patch:
        patch.setattr(classifier.SequenceObjective, "sums", stopped)
        result = finetune(tiny, reviews, "--epochs", 3, "--checkpoint", "kept")
    assert result.exit_code != 0 and "checkpoint='kept' goes on from there" in result.output
    assert not Path("out").exists() and Path("kept").exists()
    again = finetune(tiny, reviews, "--epochs", 3, "--checkpoint", "kept")
    assert again.exit_code == 0, again.output
    np.testing.assert_array_equal(load("out", device="cpu").predict_proba(["good alpha"]), expected)
    assert not list(Path("kept").glob("*")) if Path("kept").exists() else True


def test_words_with_tags_make_a_tagger(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path / "sets"))
    tagged = [{"tokens": ["the", "good", "alpha"], "ner_tags": ["O", "B-G", "I-G"]}] * 12
    for split in ("train", "validation", "test"):
        write(f"sets/wnut17/{split}.jsonl", tagged)
    result = finetune(tiny, "wnut17", "--epochs", 12, "--batch-size", 4)
    assert result.exit_code == 0, result.output
    assert "test F1 of entities 1.000 (no entity anywhere: 0.000)" in result.stdout
    assert load("out").predict(["the good alpha"]) == [[(4, 14, "G")]]


def test_tags_that_do_not_fit_are_refused_before_the_training(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path / "sets"))
    write("sets/wnut17/train.jsonl", [{"tokens": ["the", "good"], "ner_tags": ["O", "B-G"]}] * 4)
    write("sets/wnut17/test.jsonl", [{"tokens": ["the", "good"], "ner_tags": ["O", "I-G"]}] * 4)
    result = finetune(tiny, "wnut17")
    assert result.exit_code == 2
    assert "test: labels[0][1]='I-G' follows 'O'" in " ".join(result.stderr.split())
    assert not Path("out").exists()


def test_answers_in_texts_make_a_reader(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path / "sets"))
    asked = {"question": "who", "context": "the good alpha", "answers": {"text": ["good"], "answer_start": [4]}}
    for split in ("train", "validation"):
        write(f"sets/squad_v1_subset/{split}.jsonl", [asked] * 12)
    result = finetune(tiny, "squad_v1_subset", "--epochs", 12, "--batch-size", 4)
    assert result.exit_code == 0, result.output
    assert "validation F1 of words in answers 1.000" in result.stdout
    assert load("out").predict([("who", "the good alpha")])[0].text == "good"
