"""`companion predict`: every kind of saved model, texts from everywhere, one line for what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from companion.cli import app
from companion.finetuning import MultipleChoice, QuestionAnswerer, TextClassifier, TextRegressor, TokenTagger
from companion.model.encoder import BertModel
from tests.toys import keyword_texts, save_tiny

PAIRS = [("red", "blue"), ("blue", "red")] * 4


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a classifier, a classifier of pairs, a regressor, a tagger and a reader."""
    folder = tmp_path_factory.mktemp("saved")
    tiny = save_tiny(folder / "tiny")
    quick = {"epochs": 1, "max_length": 16, "learning_rate": 3e-3}
    TextClassifier(tiny, **quick | {"epochs": 4}).fit(*keyword_texts(200)).save(folder / "classes")
    TextClassifier(tiny, **quick).fit(PAIRS, [0, 1] * 4).save(folder / "pairs")
    TextRegressor(tiny, **quick).fit(["red", "blue"], [1.0, 2.0]).save(folder / "numbers")
    TokenTagger(tiny, **quick | {"epochs": 8}).fit([["good", "red"]] * 20, [["B-G", "O"]] * 20).save(folder / "tags")
    asked = [("who", "the good red"), ("who", "good alpha")] * 20
    QuestionAnswerer(tiny, **quick | {"epochs": 8}).fit(asked, ["good"] * 40).save(folder / "answers")
    MultipleChoice(tiny, **quick).fit([("who", ["red", "good"])] * 2, [0, 1]).save(folder / "choices")
    return folder


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, words)], input=stdin)


def answers(result: Result) -> list[dict]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_classifier_gives_labels_and_probabilities(saved: Path):
    good, bad = answers(run(saved / "classes", "the good alpha", "who bad"))
    assert good["text"] == "the good alpha" and good["label"] == "positive" and bad["label"] == "negative"
    assert sum(good["probabilities"].values()) == pytest.approx(1, abs=2e-4)
    assert good["probabilities"]["positive"] > 0.5


def test_a_regressor_gives_numbers(saved: Path):
    (row,) = answers(run(saved / "numbers", "red"))
    expected = TextRegressor.load(saved / "numbers").predict(["red"])[0]
    assert row == {"text": "red", "value": pytest.approx(expected, abs=1e-4)}


def test_a_tagger_gives_entities(saved: Path):
    first, second = answers(run(saved / "tags", "good red", "red"))
    assert first == {"text": "good red", "entities": [{"start": 0, "end": 4, "type": "G", "text": "good"}]}
    assert second == {"text": "red", "entities": []}


def test_a_reader_gives_an_answer_and_its_place(saved: Path):
    (row,) = answers(run(saved / "answers", "who", "--pair", "the good red"))
    share = row.pop("probability")
    assert row == {"text": "who", "pair": "the good red", "answer": "good", "start": 4, "end": 8}
    assert 0.5 < share <= 1


def test_pairs_come_from_options_lines_and_files(saved: Path):
    expected = answers(run(saved / "pairs", "red", "blue", "--pair", "blue", "--pair", "red"))
    assert [(row["text"], row["pair"]) for row in expected] == PAIRS[:2] and expected[0]["label"] in (0, 1)
    assert answers(run(saved / "pairs", stdin=b"red\tblue\r\nblue\tred\r\n")) == expected
    Path("two.csv").write_text("sentence1,sentence2\nred,blue\nblue,red\n")
    Path("two.tsv").write_text("a\tb\nred\tblue\nblue\tred\n")
    Path("two.txt").write_text("red\tblue\nblue\tred\n")
    for options in (["two.csv"], ["two.tsv", "--column", "a", "--column", "b"], ["two.txt"]):
        assert answers(run(saved / "pairs", "--input", *options)) == expected


def test_single_texts_come_from_standard_input_and_files(saved: Path):
    expected = answers(run(saved / "classes", "the good", "naïve bad"))
    assert answers(run(saved / "classes", stdin="the good\r\n\r\nnaïve bad".encode())) == expected
    assert answers(run(saved / "classes", stdin=b"\xef\xbb\xbf" + "the good\nnaïve bad\n".encode())) == expected
    rows = [{"text": "the good", "n": 1}, {"text": "naïve bad", "n": 2}]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("rows.csv").write_text("review,n\nthe good,1\nnaïve bad,2\n", encoding="utf-8")
    Path("rows.txt").write_text("the good\nnaïve bad\n", encoding="utf-8")
    for options in (["rows.jsonl"], ["rows.csv", "--column", "review"], ["rows.txt"]):
        assert answers(run(saved / "classes", "--input", *options)) == expected


def test_a_blank_is_filled_by_as_many_words_as_asked_for():
    (row,) = answers(run("mini", "The [MASK] was late.", "--count", 2))
    assert len(row["masks"]) == 1 and len(row["masks"][0]) == 2
    (row,) = answers(run("mini", "The [MASK] was late."))
    assert len(row["masks"][0]) == 5


@pytest.mark.parametrize(
    ("words", "stdin", "message"),
    [
        (["classes"], b"", "there is no text"),
        (["classes"], b"good\ncaf\xe9\n", "standard input, line 2 is not UTF-8 (invalid continuation byte)"),
        (["classes", "x", "--count", "3"], None, "--count 3 is for filling [MASK]"),
        (["classes", "x", "--device", "tpu"], None, "--device 'tpu' is unknown"),
        (["classes", "x", "--pair", "y"], None, "X holds pairs of texts, but this TextClassifier was fitted on single"),
        (["pairs", "x"], None, "X holds single texts, but this TextClassifier was fitted on pairs of texts"),
        (["pairs", "x", "y", "--pair", "z"], None, "--pair is given 1 times for 2 texts"),
        (["classes", "--input", "no.csv"], None, "--input no.csv is no file"),
        (
            ["classes", "--input", "rows.csv"],
            None,
            "rows.csv has the columns a, b; name that of the text with --column",
        ),
        (["classes", "--input", "rows.csv", "--column", "c"], None, "column 'c' is not in rows.csv, which has: a, b"),
        (["classes", "x", "--input", "rows.csv"], None, "as arguments and with --input; use one of them"),
        (["classes", "x", "--column", "a"], None, "--column names a column of a file"),
        (
            ["tiny", "x"],
            None,
            "holds a BertModel, which has no head that predicts; fine-tune it first: companion finet",
        ),
        (["choices", "x"], None, "chooses among given choices; use it from Python: companion.finetuning.load("),
        (["nowhere", "x"], None, "checkpoint"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(saved: Path, words: list[str], stdin: bytes | None, message: str):
    Path("rows.csv").write_text("a,b\n1,2\n")
    result = run(saved / words[0], *words[1:], stdin=stdin)
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert result.stderr.startswith("companion: ") and result.stderr.count("\n") == 1


def test_the_folder_of_a_run_stands_for_its_model(tmp_path: Path):
    save_tiny(tmp_path / "run" / "model")
    result = run(tmp_path / "run", "x")
    assert result.exit_code == 2 and "holds a BertModel, which has no head that predicts" in result.stderr
    assert isinstance(BertModel.from_pretrained(tmp_path / "run"), BertModel)


def test_bytes_that_are_no_text_are_refused_as_an_argument(saved: Path):
    command = [sys.executable.encode(), b"-m", b"companion", b"predict", str(saved / "classes").encode(), b"caf\xe9"]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 2 and b"is not UTF-8" in done.stderr and b"Traceback" not in done.stderr
