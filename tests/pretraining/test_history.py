"""One record for the whole history of a network: every process that took steps, and every run on the way."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from companion.config import BertConfig
from companion.pretraining.card import model_card
from companion.pretraining.config import Phase, PretrainingConfig
from companion.pretraining.record import earlier_runs, positions_between, record_of
from companion.pretraining.run import PretrainingResult, pretrain
from companion.training.settings import TrainingSettings
from tests.toys import animal_documents, write_documents

SHAPE = BertConfig(200, 16, 1, 2, 32, max_position_embeddings=32)
STEPS = 6
FIRST = Phase(2, batch_size=3, max_tokens=8, next_sentence=False)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_documents(tmp_path_factory.mktemp("text") / "animals.txt", animal_documents(20))


def config(text: Path, folder: Path, *, training: dict | None = None, **changes: object) -> PretrainingConfig:
    settings = {"steps": STEPS, "precision": "fp32", "device": "cpu", "log_every": 1} | (training or {})
    options = {"model": SHAPE, "vocab_size": 60, "batch_size": 4, "max_tokens": 24} | changes
    return PretrainingConfig(source=text, folder=folder, training=TrainingSettings(**settings), **options)


def run(*arguments: object, resume: bool = False, **options: object) -> PretrainingResult:
    return pretrain(config(*arguments, **options), resume=resume, progress=False)


def stretches(record: dict) -> list[tuple[int, int]]:
    return [(entry["first_step"], entry["last_step"]) for entry in record["entries"]]


@pytest.fixture(scope="module")
def whole(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PretrainingResult]:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, run(text, folder)


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("companion.training.run.Run.must_stop", lambda run, *_: run.history.step == step)


def elsewhere(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr("companion.support.record.device_name", lambda *_: device)


def test_a_run_in_one_go_has_one_entry_that_says_all(whole: tuple[Path, PretrainingResult]):
    folder, result = whole
    (entry,) = result.record["entries"]
    assert stretches(result.record) == [(1, STEPS)]
    assert entry["positions"] == result.record["positions_seen"] == STEPS * 4 * 24
    assert entry["seconds"] == pytest.approx(result.history.seconds, abs=1e-3)
    assert entry["peak_memory_bytes"] > 1e6
    source = entry["provenance"]
    assert set(source) == {"command", "date", "hardware", "versions"}
    assert source["command"] == "companion pretrain record.json animals.txt --output whole"
    assert source["hardware"]["processes"] == 1 and source["hardware"]["precision"] == "fp32"
    assert source["versions"]["torch"] == torch.__version__
    assert result.record["earlier"] == []
    assert record_of(folder / "model") == json.loads(json.dumps(result.record))


def test_every_process_has_an_entry_and_their_steps_join(whole, text: Path, tmp_path: Path, monkeypatch):
    for number, (last, device) in enumerate([(2, "first machine"), (5, "second machine"), (None, "third machine")]):
        with monkeypatch.context() as patch:
            elsewhere(patch, device)
            if last is not None:
                stop_at(last, patch)
            result = run(text, tmp_path / "run", resume=number > 0)
    record = result.record
    assert stretches(record) == [(1, 2), (3, 5), (6, 6)]
    devices = [entry["provenance"]["hardware"]["device"] for entry in record["entries"]]
    assert devices == ["first machine", "second machine", "third machine"]
    assert [entry["positions"] for entry in record["entries"]] == [2 * 96, 3 * 96, 96]
    assert sum(entry["seconds"] for entry in record["entries"]) == pytest.approx(result.history.seconds, abs=0.01)
    assert record["positions_seen"] == whole[1].record["positions_seen"]
    for name, weight in whole[1].model.state_dict().items():
        assert torch.equal(weight, result.model.state_dict()[name])


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from companion.training.run import Run
from tests.pretraining.test_history import config, pretrain
must_stop = Run.must_stop
def killed(run, *arguments):
    if run.history.step == 5:  # the last checkpoint is that of step 4
        os.kill(os.getpid(), signal.SIGKILL)
    return must_stop(run, *arguments)
Run.must_stop = killed
pretrain(config(Path(sys.argv[2]), Path(sys.argv[3]), training={"save_every": 2}), progress=False)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill a process so")
def test_the_entries_survive_a_kill(whole, text: Path, tmp_path: Path):
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", KILLED, str(root), str(text), str(tmp_path / "run")]
    killed = subprocess.run(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    result = run(text, tmp_path / "run", resume=True, training={"save_every": 2})
    assert stretches(result.record) == [(1, 4), (5, 6)], "steps after the last checkpoint are taken again"
    for name, weight in whole[1].model.state_dict().items():
        assert torch.equal(weight, result.model.state_dict()[name])


def test_a_checkpoint_of_an_earlier_version_is_resumed_and_what_it_did_not_note_is_left_open(
    whole, text: Path, tmp_path: Path, monkeypatch
):
    with monkeypatch.context() as patch:
        stop_at(4, patch)
        run(text, tmp_path / "run")
    file = tmp_path / "run" / "checkpoint" / "progress.json"
    progress = json.loads(file.read_text())
    seconds = progress["seconds"]
    del progress["entries"]
    file.write_text(json.dumps(progress))
    result = run(text, tmp_path / "run", resume=True)
    old, new = result.record["entries"]
    assert stretches(result.record) == [(1, 4), (5, 6)]
    assert old["provenance"] == {} and new["provenance"]["hardware"]["processes"] == 1
    assert old["seconds"] == round(seconds, 3) < result.history.seconds
    for name, weight in whole[1].model.state_dict().items():
        assert torch.equal(weight, result.model.state_dict()[name])
    assert "| `run` | 1 to 4 | not noted | not noted |" in model_card(result.record, 1)


def test_a_run_resumed_after_its_end_has_no_further_entry(text: Path, tmp_path: Path, whole):
    shutil.copytree(whole[0], tmp_path / "run")
    assert stretches(run(text, tmp_path / "run", resume=True).record) == [(1, STEPS)]


def test_positions_follow_the_phases_of_a_run(text: Path, tmp_path: Path):
    settings = config(text, tmp_path, earlier=(FIRST,), training={"accumulation": 2})
    assert positions_between(settings, 1, STEPS) == 2 * (2 * 3 * 8 + 4 * 4 * 24)
    assert positions_between(settings, 2, 3) == 2 * (3 * 8 + 4 * 24)
    assert positions_between(settings, 4, 3) == 0
    parts = [positions_between(settings, step, step) for step in range(1, STEPS + 1)]
    assert sum(parts) == positions_between(settings, 1, STEPS)


def test_a_record_tells_every_run_that_led_to_it(whole, text: Path, tmp_path: Path):
    folder, first = whole
    second = run(text, tmp_path / "second", initial=folder / "model", max_tokens=32, training={"steps": 2})
    third = run(text, tmp_path / "third", initial=tmp_path / "second" / "model", training={"steps": 1})
    alone = {name: value for name, value in first.record.items() if name != "earlier"}
    assert second.record["earlier"] == json.loads(json.dumps([alone]))
    assert [one["name"] for one in third.record["earlier"]] == ["whole", "second"]
    assert all("earlier" not in one for one in third.record["earlier"][1:])
    assert third.record["earlier"][1]["entries"][0]["positions"] == 2 * 4 * 32
    card = (tmp_path / "third" / "model" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| ([\d,]+) \| 4 \| (\d+) \| 15% \| pairs \|", card, re.MULTILINE) == [
        ("whole", "6", "24"),
        ("second", "2", "32"),
        ("third", "1", "24"),
    ]
    assert len(re.findall(r"^\| `\w+` \| 1 to \d \| \d{4}-\d\d-\d\d \|.*\| fp32 \|", card, re.MULTILINE)) == 3
    assert f"{sum(weight.numel() for weight in third.model.parameters()):,} parameters" in card
    assert f"At step 1, on training text: mlm {third.record['final']['mlm']:.3f}" in card


def test_two_runs_of_one_name_are_told_apart(whole, text: Path, tmp_path: Path):
    again = run(text, tmp_path / "whole", initial=whole[0] / "model", training={"steps": 1})
    third = run(text, tmp_path / "more" / "whole", initial=tmp_path / "whole" / "model", training={"steps": 1})
    assert [one["name"] for one in again.record["earlier"]] == ["whole (1)"]
    assert [one["name"] for one in third.record["earlier"]] == ["whole (1)", "whole (2)"]


def test_a_model_folder_that_was_moved_takes_its_record_along(whole, tmp_path: Path):
    shutil.copytree(whole[0] / "model", tmp_path / "moved")
    assert record_of(tmp_path / "moved") is None and earlier_runs(tmp_path / "moved", "new") == []
    shutil.copy(whole[0] / "record.json", tmp_path / "moved")
    assert [one["name"] for one in earlier_runs(tmp_path / "moved", "new")] == ["whole"]


@pytest.mark.parametrize("content", ["{", "[]", '{"kind": "tasks"}', '{"kind": "pretraining", "hardware": {}}'])
def test_what_is_no_record_of_a_run_is_left_out_with_a_warning(whole, tmp_path: Path, caplog, content: str):
    shutil.copytree(whole[0] / "model", tmp_path / "model")
    (tmp_path / "record.json").write_text(content)
    assert earlier_runs(tmp_path / "model", "new") == []
    assert "is no record of a pre-training run of this version; it is not carried on" in caplog.text


def test_a_card_shows_the_phases_of_a_run_one_by_one(text: Path, tmp_path: Path):
    result = run(text, tmp_path / "run", earlier=(FIRST,), validation=text, validation_batches=1)
    rows = [line for line in model_card(result.record, 1).splitlines() if line.startswith("| `run` | ")]
    loss = result.record["final"]["validation_mlm"]
    assert rows[0].startswith("| `run` | 2 | 3 | 8 | 15% | single | ") and rows[0].endswith("| no | 0.1 | 0 |  |  |")
    assert rows[1].startswith("| `run` | 4 | 4 | 24 | 15% | pairs | ") and rows[1].endswith(f"| {round(loss, 3)} |")
    assert len(rows) == 3, "one process took all the steps"
    assert "In all of them: `optimizer` adamw, `betas` [0.9, 0.999]" in model_card(
        json.loads(json.dumps(result.record)), 1
    )


def test_a_run_may_be_replaced_in_its_settings(text: Path, tmp_path: Path):
    """A run whose plateau is lengthened keeps the entries of what it did before."""
    plateau = {"schedule": "constant", "warmup_share": 0.0}
    short = config(text, tmp_path / "run", training=plateau | {"steps": 3})
    pretrain(short, progress=False)
    longer = pretrain(replace(short, training=replace(short.training, steps=5)), resume=True, progress=False)
    assert stretches(longer.record) == [(1, 3), (4, 5)]
    assert longer.record["positions_seen"] == 5 * 4 * 24
