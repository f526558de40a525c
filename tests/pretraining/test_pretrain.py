"""A whole pre-training run, small: what it writes, that it resumes exactly, and the command line on top of it."""

import json
import math
import os
import random
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from companion.cli import app
from companion.cli.pretrain import _phase
from companion.model.heads import BertForPreTraining
from companion.pretraining.batches import training_batches
from companion.pretraining.config import Phase, PretrainingConfig
from companion.pretraining.run import pretrain
from companion.text.tokenizer import Tokenizer
from companion.training.settings import TrainingSettings

SUBJECTS, VERBS = "cat dog bird fox owl".split(), "sees hears finds likes leaves".split()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Forty documents of six sentences in a language of ten words."""
    pick = random.Random(0)
    sentence = lambda: f"The {pick.choice(SUBJECTS)} {pick.choice(VERBS)} the {pick.choice(SUBJECTS)}."  # noqa: E731
    documents = ["\n".join(sentence() for _ in range(6)) for _ in range(40)]
    path = tmp_path_factory.mktemp("text") / "animals.txt"
    path.write_text("\n\n".join(documents), encoding="utf-8")
    return path


def settings(**changes):
    return TrainingSettings(**({"steps": 8, "learning_rate": 1e-3, "log_every": 1, "precision": "fp32"} | changes))


def config(text, folder, training=None, **changes):
    options = {"model": "tiny", "vocab_size": 60, "batch_size": 8, "max_tokens": 24, "validation_batches": 2} | changes
    return PretrainingConfig(source=text, folder=folder, training=training or settings(), validation=text, **options)


@pytest.fixture(scope="module")
def finished(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, pretrain(config(text, folder), progress=False)


def test_a_run_learns_and_writes_what_is_needed_to_use_it(finished):
    folder, result = finished
    _, losses = result.history.column("mlm")
    assert losses[0] == pytest.approx(math.log(result.tokenizer.vocab_size), rel=0.1)
    assert losses[-1] < losses[0]
    model = BertForPreTraining.from_pretrained(folder / "model")
    assert model.config.hidden_dropout_prob == 0.1
    assert Tokenizer.from_pretrained(folder / "model").vocabulary == result.tokenizer.vocabulary
    for name, weight in result.model.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name])


def test_the_record_says_what_was_done(finished, text):
    folder, result = finished
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    assert record == json.loads(json.dumps(result.record))
    assert record["steps"] == 8
    assert record["positions_seen"] == 8 * 8 * 24
    assert record["corpus"]["documents"] == 40
    assert record["config"]["source"] == "animals.txt"
    assert {"validation_mlm", "validation_mlm_accuracy", "validation_nsp_accuracy"} <= set(record["final"])
    assert str(folder.parent) not in json.dumps(record)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(finished, text, tmp_path):
    _, whole = finished
    stopped = pretrain(config(text, tmp_path / "run", settings(minutes=1e-6)), progress=False)
    assert not stopped.history.finished and not stopped.record
    resumed = pretrain(config(text, tmp_path / "run"), resume=True, progress=False)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name])
    assert resumed.history.column("mlm") == whole.history.column("mlm")


def test_a_run_on_other_data_does_not_go_on_from_the_checkpoint(finished, text, tmp_path):
    pretrain(config(text, tmp_path / "run", settings(minutes=1e-6)), progress=False)
    with pytest.raises(ValueError, match="masking_probability=0.3 was 0.15"):
        pretrain(config(text, tmp_path / "run", masking_probability=0.3), resume=True, progress=False)
    other = tmp_path / "other.txt"
    other.write_text(text.read_text(encoding="utf-8").replace("cat", "owl"), encoding="utf-8")
    with pytest.raises(ValueError, match="source_checksum"):
        pretrain(config(other, tmp_path / "run"), resume=True, progress=False)


def test_pre_training_goes_on_from_another_checkpoint(finished, text, tmp_path):
    folder, first = finished
    second = config(text, tmp_path / "longer", initial=folder / "model", max_tokens=32, training=settings(steps=1))
    result = pretrain(second, progress=False)
    assert result.tokenizer.vocabulary == first.tokenizer.vocabulary
    _, before = first.history.column("validation_mlm")
    _, after = result.history.column("mlm")
    assert after[0] == pytest.approx(before[-1], rel=0.15)
    assert result.record["config"]["initial"] == "whole/model"


def test_a_tokenizer_named_by_its_path_is_recorded_without_the_place_where_it_lay(finished, text, tmp_path):
    folder, first = finished
    named = config(text, tmp_path / "run", settings(steps=1), tokenizer=folder / "tokenizer")
    result = pretrain(named, progress=False)
    assert result.tokenizer.vocabulary == first.tokenizer.vocabulary
    assert json.loads((tmp_path / "run" / "record.json").read_text())["config"]["tokenizer"] == "whole/tokenizer"


def test_single_segments_train_without_next_sentences(text, tmp_path):
    result = pretrain(config(text, tmp_path / "run", settings(steps=2), next_sentence=False), progress=False)
    assert "nsp" not in result.history.records[0]


SHORT_FIRST = [Phase(3, batch_size=4, max_tokens=12, next_sentence=False), Phase(2, 4, 12, masking_probability=0.3)]


def test_earlier_phases_have_rows_of_their_own(finished, text, tmp_path):
    _, whole = finished
    training = settings(steps=6, accumulation=2)
    batches = training_batches(config(text, tmp_path, training, earlier=SHORT_FIRST), whole.tokenizer, progress=False)
    shapes = [tuple(batches[number]["input_ids"].shape) for number in range(12)]
    assert all(rows == 4 and tokens <= 12 for rows, tokens in shapes[:10])
    assert all(rows == 8 and tokens > 12 for rows, tokens in shapes[10:])
    assert [("next_sentence_label" in batches[number]) for number in (0, 5, 6, 10)] == [False, False, True, True]
    masked = [(batches[number]["labels"] != -100).float().sum(1).mean() for number in (5, 6)]
    assert masked[1] > 1.5 * masked[0]
    # A phase begins with its first batch, drawn as a run of that phase alone would draw it with the next seed.
    alone = config(text, tmp_path, replace(training, seed=1), batch_size=4, max_tokens=12, masking_probability=0.3)
    first = training_batches(alone, whole.tokenizer, progress=False)[0]
    assert torch.equal(batches[6]["input_ids"], first["input_ids"])
    assert torch.equal(batches[6]["labels"], first["labels"])


def test_a_run_of_phases_is_recorded_and_resumed_over_their_boundary(text, tmp_path):
    whole = pretrain(config(text, tmp_path / "whole", earlier=SHORT_FIRST), progress=False)
    assert ["nsp" in record for record in whole.history.records[:8]] == [False] * 3 + [True] * 5
    assert whole.record["positions_seen"] == 5 * 4 * 12 + 3 * 8 * 24
    for _ in range(4):  # two before the boundary, two after it
        pretrain(
            config(text, tmp_path / "run", settings(minutes=1e-6), earlier=SHORT_FIRST), resume=True, progress=False
        )
    with pytest.raises(ValueError, match="earlier"):
        pretrain(config(text, tmp_path / "run", earlier=SHORT_FIRST[:1]), resume=True, progress=False)
    resumed = pretrain(config(text, tmp_path / "run", earlier=SHORT_FIRST), resume=True, progress=False)
    assert resumed.history.column("mlm") == whole.history.column("mlm")
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps=0 is not allowed; it must be an integer above 0"),
        ({"max_tokens": -1}, "max_tokens=-1 is not allowed"),
        ({"masking_probability": 1.0}, "masking_probability=1.0 is not allowed"),
    ],
)
def test_wrong_phases_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Phase(**({"steps": 1} | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"earlier": [Phase(5), Phase(3)]}, "takes all of steps=8; at least one must be left"),
        ({"model": "giant"}, "model='giant' is unknown; choose one of tiny, mini"),
        ({"dropout": 1.0}, "dropout=1.0 is not allowed"),
        ({"masking_probability": 0.0}, "masking_probability=0.0 is not allowed"),
        ({"batch_size": 0}, "batch_size=0 is not allowed"),
    ],
)
def test_wrong_settings_are_named(text, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        config(text, tmp_path, **changes)


# --- the command line ---------------------------------------------------------------------------------------------


def run(*arguments, **options):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


def test_every_command_has_help_with_an_example():
    assert run("--help").exit_code == 0
    for command in ("info", "pretrain", "finetune", "predict"):
        result = run(command, "--help")
        assert result.exit_code == 0
        assert f"companion {command} " in result.output


def test_info_names_what_is_there():
    facts = json.loads(run("info", "--json").output)
    assert facts["torch"] == torch.__version__
    assert "mini" in facts["checkpoints"] and "reviews" in facts["datasets"]
    assert "reviews" in run("info").output


def test_pretrain_stops_resumes_and_predict_fills_masks(text, tmp_path):
    folder = tmp_path / "run"
    options = ["--output", folder, "--model", "tiny", "--vocab-size", 60, "--batch-size", 8, "--max-tokens", 24]
    command = ["pretrain", text, *options, "--steps", 3, "--no-progress", "--precision", "fp32"]
    stopped = run(*command, "--minutes", 1e-6)
    assert stopped.exit_code == 0, stopped.output
    assert "stopped at step 1; the same command with --resume goes on" in stopped.output
    done = run(*command, "--resume")
    assert "finished 3 steps" in done.output
    filled = run("predict", folder / "model", "The [MASK] sees the owl.", "--count", 2)
    (row,) = [json.loads(line) for line in filled.output.splitlines()]
    assert row["text"] == "The [MASK] sees the owl." and len(row["masks"][0]) == 2


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("4800:64x32:mlm", Phase(4800, 64, 32, next_sentence=False)),
        ("900:256x128", Phase(900, 256, 128)),
        ("900:256x128:0.25", Phase(900, 256, 128, 0.25)),
        ("9:2x128:.4:mlm", Phase(9, 2, 128, 0.4, next_sentence=False)),
    ],
)
def test_the_command_line_reads_phases(text, phase):
    assert _phase(text) == phase


@pytest.mark.parametrize("text", ["4800", "4800:64", "4800:64x32:1.5", "4800:64x32:nsp", ":64x32"])
def test_a_phase_that_cannot_be_read_is_named(text):
    with pytest.raises(ValueError, match="is not of the form STEPS:ROWSxTOKENS"):
        _phase(text)


def test_finetune_and_predict_on_a_folder_of_json_lines(text, tmp_path, finished):
    data = tmp_path / "data"
    data.mkdir()
    rows = [
        {"text": f"the {s} {v} the owl", "label": "cat" if s == "cat" else "other"} for s in SUBJECTS for v in VERBS
    ]
    for split in ("train", "test"):
        (data / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows * 2)), encoding="utf-8")
    tuned = tmp_path / "tuned"
    options = [
        "--model",
        finished[0] / "model",
        "--epochs",
        20,
        "--batch-size",
        10,
        "--learning-rate",
        2e-3,
        "--no-progress",
    ]
    result = run("finetune", data, "--output", tuned, *options, "--no-progress")
    assert result.exit_code == 0, result.output
    assert float(result.output.split("test accuracy ")[1].split()[0]) > 0.9
    lines = run("predict", tuned, input="the cat sees the owl\nthe fox sees the owl\n").output.splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["cat", "other"]
    assert sum(json.loads(lines[0])["probabilities"].values()) == pytest.approx(1.0, abs=1e-3)


def test_errors_are_one_line_with_status_2(tmp_path, text):
    result = run("predict", "no-such-model", "text")
    assert result.exit_code == 2
    assert "was not found" in result.output and "Traceback" not in result.output
    assert run("pretrain", tmp_path / "missing.txt", "--output", tmp_path / "run").exit_code == 2
    assert run("predict", tmp_path, input=os.linesep).exit_code == 2
    result = run("finetune", "reviews", "--output", tmp_path / "out", "--label", "verdict")
    assert result.exit_code == 2 and "column 'verdict' is not in " in result.output
