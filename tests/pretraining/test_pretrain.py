"""A whole pre-training run, small: what it writes, that it resumes exactly, and the command line on top of it."""

import json
import math
import os
import re
from dataclasses import fields, replace

import pytest
import torch
from typer.testing import CliRunner

from companion.cli import app
from companion.model.embeddings import continued_positions
from companion.model.heads import BertForPreTraining
from companion.pretraining.batches import phase_seeds, training_batches
from companion.pretraining.config import Phase, PretrainingConfig
from companion.pretraining.run import initial_model, pretrain
from companion.studies.record import load_chain
from companion.text.tokenizer import Tokenizer
from companion.training.settings import TrainingSettings
from tests.toys import SUBJECTS, VERBS, animal_documents, write_documents


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Forty documents of six sentences in a language of ten words."""
    return write_documents(tmp_path_factory.mktemp("text") / "animals.txt", animal_documents(40))


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
    with pytest.raises(ValueError, match=r"the text has changed \(source_checksum\)"):
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


def test_rows_longer_than_those_of_the_checkpoint_start_with_continued_positions(finished, text, tmp_path):
    folder, first = finished
    second = config(text, tmp_path / "long", initial=folder / "model", trained_positions=100)
    table = BertForPreTraining.from_pretrained(folder / "model").bert.embeddings.positions.weight
    start = initial_model(second, first.tokenizer).bert.embeddings.positions.weight
    assert torch.equal(start, continued_positions(table, 100)) and not torch.equal(start, table)
    with pytest.raises(ValueError, match="trained_positions=100 is not allowed; .* initial"):
        config(text, tmp_path / "long", trained_positions=100)


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
    # A phase begins with its first batch, drawn as a run of that phase alone would draw it with the phase's seed.
    seeds = phase_seeds(config(text, tmp_path, training, earlier=SHORT_FIRST))
    short = {"batch_size": 4, "max_tokens": 12, "masking_probability": 0.3}
    for number, seed, rows in ((6, seeds[1], short), (10, training.seed, {})):
        alone = config(text, tmp_path, replace(training, seed=seed), **rows)
        first = training_batches(alone, whole.tokenizer, progress=False)[0]
        assert torch.equal(batches[number]["input_ids"], first["input_ids"])
        assert torch.equal(batches[number]["labels"], first["labels"])


def test_no_two_phases_of_any_runs_share_a_seed(text, tmp_path):
    seeds = [
        seed
        for run_seed in range(20)
        for seed in phase_seeds(config(text, tmp_path, settings(seed=run_seed), earlier=SHORT_FIRST))
    ]
    assert len(set(seeds)) == len(seeds) == 60
    assert seeds[2::3] == list(range(20)), "the main phase has the run's own"
    assert phase_seeds(config(text, tmp_path, settings(seed=5))) == [5]


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
        ({"model": "giant"}, "model='giant' is not allowed; it must be one of tiny, mini"),
        ({"vocab_size": 2.5}, "vocab_size=2.5 is not allowed; it must be an integer above 0"),
        ({"limit_alphabet": 0}, "limit_alphabet=0 is not allowed"),
        ({"lowercase": "no"}, "lowercase='no' is not allowed; it must be True or False"),
        ({"limit": 0}, "limit=0 is not allowed; it must be an integer above 0"),
        ({"dropout": 1.0}, "dropout=1.0 is not allowed"),
        ({"masking_probability": 0.0}, "masking_probability=0.0 is not allowed"),
        ({"batch_size": 0}, "batch_size=0 is not allowed"),
    ],
)
def test_wrong_settings_are_named(text, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        config(text, tmp_path, **changes)


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
    assert "finished 3 steps\ntraining (last step): mlm " in done.output
    filled = run("predict", folder / "model", "The [MASK] sees the owl.", "--count", 2)
    (row,) = [json.loads(line) for line in filled.output.splitlines()]
    assert row["text"] == "The [MASK] sees the owl." and len(row["masks"][0]) == 2


TOML = """
source = "{text}"
model = "tiny"
vocab_size = 60
batch_size = 8
max_tokens = 24
masking_probability = 0.2

[training]
steps = 5
precision = "fp32"
log_every = 1

[[earlier]]
steps = 2
batch_size = 4
max_tokens = 12
next_sentence = false
"""


def test_a_file_of_settings_is_read_and_options_override_it(text, tmp_path):
    (tmp_path / "run.toml").write_text(TOML.format(text=text))
    folder = tmp_path / "run"
    done = run("pretrain", tmp_path / "run.toml", "--output", folder, "--masking", 0.3, "--seed", 3, "--no-progress")
    assert done.exit_code == 0, done.output
    found = json.loads((folder / "record.json").read_text())
    assert found["steps"] == 5 and found["config"]["masking_probability"] == 0.3
    assert found["config"]["earlier"] == [
        {"steps": 2, "batch_size": 4, "max_tokens": 12, "masking_probability": 0.15, "next_sentence": False}
    ]
    chosen = {"seed": 3, "precision": "fp32", "learning_rate": 8e-4, "betas": [0.9, 0.98], "log_every": 1}
    assert chosen.items() <= found["config"]["training"].items(), "what neither gives has the command's default"
    by_hand = config(
        text,
        tmp_path / "by-hand",
        settings(steps=5, seed=3, learning_rate=8e-4, warmup_share=0.05, betas=(0.9, 0.98)),
        earlier=[Phase(2, 4, 12, next_sentence=False)],
        masking_probability=0.3,
    )
    by_hand = pretrain(replace(by_hand, validation=None), progress=False)
    assert by_hand.history.column("mlm")[1] == [row["mlm"] for row in found["curve"] if "mlm" in row]


def test_a_record_is_read_back_as_the_settings_that_it_is_of(text, tmp_path, finished):
    folder, first = finished
    again = run("pretrain", folder / "record.json", text, "--output", tmp_path / "run", "--validation", text)
    assert again.exit_code == 0, again.output
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert [row.get("mlm") for row in record["curve"]] == [row.get("mlm") for row in first.record["curve"]]
    assert record["config"] == json.loads(json.dumps(first.record["config"])) | {"folder": "run"}
    rest = re.findall(r"^(validation|training \(last step\)): mlm ([\d.]+)", again.output, re.MULTILINE)
    expected = (record["final"]["validation_mlm"], record["curve"][-2]["mlm"])
    assert [float(value) for _, value in rest] == [round(value, 3) for value in expected]


@pytest.mark.parametrize("number", range(4))
def test_records_of_the_book_can_be_read_back(number):
    record = load_chain("mini")[number]
    entries = {name: value for name, value in record["config"].items() if value is not None}
    found = PretrainingConfig.from_dict(entries)
    assert found.training.steps == record["steps"] and found.limit_alphabet == 200
    assert [phase.max_tokens for phase in found.phases][-1] == record["config"]["max_tokens"]


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("steps = 3", "steps is unknown; the entries are source, folder, training"),
        ("[training]\nstep = 3", "training.step is unknown; the entries are steps, learning_rate"),
        ("[[earlier]]\nbatch_size = 3", "earlier.steps is missing; it has no default"),
        ("vocab_size = -1", "--vocab-size -1 is not allowed; it must be an integer above 0"),
        ("vocab_size = ", "run.toml holds no settings of a pre-training run .Invalid value .at end of document"),
    ],
)
def test_what_is_wrong_in_a_file_of_settings_is_said(tmp_path, toml, message):
    (tmp_path / "run.toml").write_text(f'source = "text.txt"\n{toml}')
    result = run("pretrain", tmp_path / "run.toml", "--output", tmp_path / "run")
    assert result.exit_code == 2 and re.search(message, result.output), result.output
    assert not (tmp_path / "run").exists()


def test_a_file_of_settings_without_text_or_folder_is_said(tmp_path, text):
    (tmp_path / "run.toml").write_text('model = "tiny"')
    assert "run.toml names no source; add one to it" in run("pretrain", tmp_path / "run.toml", "--output", "x").output
    assert "--output is missing; name the folder of the run" in run("pretrain", text).output
    (tmp_path / "other.json").write_text("{}")
    assert "other.json holds no settings" in run("pretrain", tmp_path / "other.json", "--output", "x").output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--masking", 15], "companion: --masking-probability 15.0 is not allowed"),
        (["--max-tokens", 1024], "companion: --max-tokens 1024 is above the 512 positions of the model; lower it"),
        (["--device", "gpu"], "companion: --device 'gpu' is unknown"),
        (["--stream", 1, "--workers", 2], "companion: --workers 2 would each read the whole text with --stream 1.0"),
        (["--tracker", "paper"], "companion: --tracker 'paper' is not allowed"),
        (["--learning-rate", "inf"], "companion: --learning-rate inf is not allowed; it must be a number above 0"),
    ],
)
def test_messages_name_the_options_of_the_command(text, tmp_path, options, message):
    result = run("pretrain", text, "--output", tmp_path / "run", *options)
    assert result.exit_code == 2 and message in result.output, result.output
    assert not (tmp_path / "run").exists(), "nothing was prepared"


def test_every_setting_has_an_option_or_is_set_by_file_alone():
    by_file = {"earlier", "training", "source", "folder", "betas", "eps"}
    names = {field.name for cls in (PretrainingConfig, TrainingSettings) for field in fields(cls)}
    output = " ".join(run("pretrain", "--help").output.split())
    assert {name for name in names if f"--{name.replace('_', '-')}" not in output} == by_file
    for line in ("[default: 8192]", "[default: 0.0008]", "[default: 10000]", "[default: auto]"):
        assert line in output


@pytest.mark.parametrize("group", [[], ["bench"]], ids=["companion", "companion bench"])
def test_the_summaries_in_the_list_of_commands_are_whole(group):
    output = run(*group, "--help").output
    assert "..." not in output.split("Commands:")[1]
    assert "  pretrain" in output


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
