"""The comparison with Trainer: that both do the same work, one step of each in turn, and that the figures are right."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import threading
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from companion.cli import app
from companion.model.heads import BertForPreTraining
from companion.pretraining.objectives import PreTrainingObjective
from companion.studies import interleave, speed
from companion.studies.cases import (
    FIRST_ORDINARY,
    Contender,
    PretrainingCase,
    model_flops,
    random_batches,
    tokens_per_row,
)
from companion.studies.contenders import PretrainingSteps, training_loop
from companion.studies.interleave import WARM_UP, Stepper
from companion.studies.speed import benchmark_pretraining, comparisons, measure_matrix_peak, pretraining_table
from companion.studies.turns import in_turns
from companion.support.devices import seed_everything

pytestmark = pytest.mark.slow

FP32 = {"precisions": ("fp32",), "trainer_bf16": False}


def tiny(**changes) -> PretrainingCase:
    sizes = {"model": "tiny", "vocab_size": 60, "batch_size": 4, "max_tokens": 16, "steps": 3, "threads": 1}
    return PretrainingCase(**(sizes | {"device": "cpu"} | changes))


def writing_loop(steps: int, events: list):
    def loop(halt):
        for step in range(steps):
            events.append(step)
            halt()
        events.append("end")
        return float(steps)

    return loop


def test_a_loop_halts_after_every_step_and_then_runs_to_its_end():
    events: list = []
    stepper = Stepper(writing_loop(4, events))
    assert events == []
    stepper.step()
    stepper.step()
    assert events == [0, 1]
    assert stepper.finish() == 4.0
    assert events == [0, 1, 2, 3, "end"]
    stepper.close()


def test_what_a_loop_raises_is_raised_and_no_thread_stays_behind():
    before, cleaned = threading.active_count(), []

    def healthy(halt):
        try:
            while True:
                halt()
        finally:
            cleaned.append(True)

    def broken(halt):
        halt()
        raise ValueError("no more batches")

    left, ended = Stepper(healthy), Stepper(broken)
    left.step()
    ended.step()
    with pytest.raises(ValueError, match="no more batches"):
        ended.step()
    left.close()
    ended.close()
    assert cleaned == [True]
    assert threading.active_count() == before


def test_a_loop_that_is_asked_for_more_steps_than_it_has_says_so():
    stepper = Stepper(writing_loop(1, []))
    stepper.step()
    stepper.step()  # to its end
    with pytest.raises(RuntimeError, match="the loop has ended; it was made for fewer steps"):
        stepper.step()
    stepper.close()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Losses of all loops in turns, and of each alone, without dropout and with steps large enough to matter."""
    case = tiny(dropout=0.0, learning_rate=1e-2, precisions=("bf16", "fp32"), steps=6)
    folder, batches = tmp_path_factory.mktemp("weights"), random_batches(case)
    seed_everything(0)
    BertForPreTraining(case.config).save_pretrained(folder)
    loops = {v.name: training_loop(case, v, folder, batches) for v in case.contenders}
    makers = {v.name: partial(PretrainingSteps, case, v, folder) for v in case.contenders}
    timed = in_turns(makers, WARM_UP + case.steps, threads=1, device="cpu")
    seconds, together = ({name: getattr(one, what) for name, one in timed.items()} for what in ("seconds", "result"))
    with interleave.limited_threads(1):
        alone = {name: loop(lambda: None) for name, loop in loops.items()}
        first = {v.name: training_loop(case, v, folder, batches[:2])(lambda: None) for v in case.contenders}
    return seconds, together, alone, first


def test_trainer_takes_the_very_same_steps(both):
    _, losses, _, first = both
    assert list(losses) == ["companion bf16", "companion fp32", "Trainer fp32", "Trainer bf16"]
    assert losses["companion fp32"] == pytest.approx(losses["Trainer fp32"], rel=1e-5)
    assert losses["companion bf16"] == pytest.approx(losses["Trainer bf16"], rel=1e-2)
    assert abs(losses["companion fp32"] - first["companion fp32"]) > 0.05, "or nothing was learned that could differ"


def test_each_loop_keeps_its_own_precision(both):
    _, losses, _, first = both
    assert first["companion fp32"] == pytest.approx(first["Trainer fp32"], rel=1e-6)
    for library in ("companion", "Trainer"):
        assert losses[f"{library} bf16"] != losses[f"{library} fp32"]
        assert first[f"{library} bf16"] == pytest.approx(first[f"{library} fp32"], rel=1e-2)


def test_taking_turns_changes_no_loss(both):
    seconds, together, alone, _ = both
    assert together == alone
    assert {len(taken) for taken in seconds.values()} == {WARM_UP + 6}


def test_batches_are_pairs_with_special_tokens_padding_and_masks():
    batches = random_batches(tiny(batch_size=64, steps=10))
    assert len(batches) == WARM_UP + 10 + 2
    short = 0
    for batch in batches:
        ids, lengths = batch["input_ids"], tokens_per_row(batch)
        inside = torch.arange(16)[None, :] < lengths[:, None]
        chosen = batch["labels"] != -100
        assert (ids[:, 0] == 2).all()
        assert ((ids == 3).sum(1) == 2).all(), "[CLS] a [SEP] b [SEP]"
        assert (ids[torch.arange(64), lengths - 1] == 3).all()
        assert (ids[~inside] == 0).all() and (ids[inside] > 0).all()
        assert not (chosen & ~inside).any()
        assert (batch["labels"][chosen] >= FIRST_ORDINARY).all()
        ordinary = lengths - 3
        assert torch.equal(chosen.sum(1), (0.15 * ordinary).round().clamp(min=1).long())
        first_sep = (ids == 3).int().argmax(1)
        second = (torch.arange(16)[None, :] > first_sep[:, None]) & inside
        assert torch.equal(batch["token_type_ids"].bool(), second) and second.any(1).all()
        short += int((lengths < 16).sum())
    assert short / (64 * len(batches)) == pytest.approx(0.1, abs=0.05)


def test_batches_follow_from_the_seed_and_carry_a_mask_only_where_something_is_padded():
    one, same, other = (random_batches(tiny(seed=seed)) for seed in (0, 0, 1))
    assert all(torch.equal(a["labels"], b["labels"]) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one[0]["input_ids"], other[0]["input_ids"])
    for batch in one:
        assert ("attention_mask" in batch) == bool((batch["input_ids"] == 0).any())


def test_flops_are_those_that_a_counter_sees_in_a_training_step():
    case = tiny(batch_size=8)
    batch = next(b for b in random_batches(case) if "attention_mask" not in b)
    model = BertForPreTraining(case.config).train()
    with FlopCounterMode(display=False) as counter:
        sums = PreTrainingObjective().sums(model, batch)
        (sums["mlm"].loss + sums["nsp"].loss).backward()
    assert model_flops(case.config, batch) == counter.get_total_flops()


def test_flops_count_neither_padding_nor_tokens_that_are_not_masked():
    config = tiny().config.replace(hidden_size=2, num_hidden_layers=3, num_attention_heads=1, intermediate_size=5)
    labels = torch.full((2, 16), -100)
    labels[0, 1] = 7
    mask = torch.arange(16)[None, :] < torch.tensor([[10], [4]])
    batch = {"input_ids": torch.ones(2, 16), "labels": labels, "attention_mask": mask.long()}
    encoder = 14 * 3 * 2 * (4 * 2 * 2 + 2 * 2 * 5) - 11 * 2 * (2 * 2 * 5)  # of 14 tokens, 3 are read
    attention = 3 * 4 * 2 * (10 * 10 + 4 * 4)
    head = 1 * 2 * (2 * 2 + 2 * 60)
    sentence = 2 * 2 * (2 * 2 + 2 * 2)
    assert model_flops(config, batch) == 3 * (encoder + attention + head + sentence)


def test_the_matrix_peak_is_that_of_the_fastest_product():
    times = iter([0.0, 4.0, 10.0, 12.0, 20.0, 23.0])
    peak = measure_matrix_peak(torch.device("cpu"), "fp32", clock=lambda: next(times), repeats=3)
    assert peak == 2 * 2048**3 / 2.0


def test_ratios_are_medians_over_rounds_of_what_was_measured_in_the_same_round():
    ours, theirs = Contender("companion", "bf16"), Contender("Trainer", "fp32")
    seconds = {ours: [1.0, 2.0, 4.0], theirs: [3.0, 10.0, 16.0]}
    (row,) = comparisons(seconds, {ours: 30, theirs: 60})
    assert (row["ours"], row["theirs"]) == ("companion bf16", "Trainer fp32")
    assert row["speed"] == 4.0
    assert row["speed_quartiles"] == [3.5, 4.5]
    assert row["memory"] == 0.5


def test_a_precision_that_auto_stands_for_is_measured_once(monkeypatch: pytest.MonkeyPatch):
    for fast, names in ((True, ["bf16", "fp32"]), (False, ["fp32"])):
        monkeypatch.setattr("companion.support.devices.cpu_is_fast_in_bf16", lambda fast=fast: fast)
        assert [v.precision for v in tiny().contenders if v.library == "companion"] == names
    assert [v.name for v in tiny(trainer_bf16=False).contenders][-1] == "Trainer fp32"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The command, with memory, on the smallest case."""
    path = tmp_path_factory.mktemp("record") / "speed.json"
    options = "--model tiny --vocab-size 60 --batch-size 2 --max-tokens 16 --steps 2 --threads 1 --device cpu".split()
    options += "--precision fp32 --no-trainer-bf16 --no-progress --json --output".split()
    return path, CliRunner().invoke(app, ["bench", "pretrain", *options, str(path)])


def test_the_command_prints_and_writes_the_record(measured):
    path, result = measured
    assert result.exit_code == 0, result.output
    record = json.loads(path.read_text(encoding="utf-8"))
    assert json.loads(result.stdout) == record
    assert set(record) == {"kind", "name", "entries"}
    assert set(record["entries"][0]["provenance"]["versions"]) == {"python", "torch", "accelerate", "transformers"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", record["entries"][0]["provenance"]["date"])
    assert str(path.parent) not in path.read_text(encoding="utf-8")


def test_the_figures_of_the_record_follow_from_its_seconds(measured):
    path, _ = measured
    (case,) = json.loads(path.read_text(encoding="utf-8"))["entries"]
    assert case["config"]["threads"] == 1
    for row in case["variants"]:
        assert len(row["seconds"]) == 2
        assert row["milliseconds_per_step"] == pytest.approx(1000 * np.median(row["seconds"]), rel=0.01)
        rate = row["tokens_per_second"]
        assert rate == pytest.approx(case["tokens_per_step"] * np.mean(1 / np.array(row["seconds"])), rel=0.3)
        share = rate * case["flops_per_token"] / case["matrix_peak"]["fp32"]
        assert row["share_of_matrix_peak"] == pytest.approx(share, rel=0.3)
    ours, theirs = case["variants"]
    (pair,) = case["comparisons"]
    assert pair["speed"] == pytest.approx(np.median(np.divide(theirs["seconds"], ours["seconds"])), rel=0.01)
    assert pair["memory"] == ours["peak_memory_bytes"] / theirs["peak_memory_bytes"]
    assert 100e6 < ours["peak_memory_bytes"] < theirs["peak_memory_bytes"] < 2e9


def test_the_command_in_the_record_is_one_that_measures_the_same(measured, monkeypatch: pytest.MonkeyPatch):
    path, _ = measured
    record, seen = json.loads(path.read_text(encoding="utf-8")), []
    monkeypatch.setattr(speed, "benchmark_pretraining", lambda cases, **_: seen.extend(cases) or record)
    result = CliRunner().invoke(app, record["entries"][0]["provenance"]["command"].split()[1:])
    assert result.exit_code == 0, result.output
    assert json.loads(json.dumps(dataclasses.asdict(seen[0]))) == record["entries"][0]["config"]


def test_the_table_shows_what_the_record_says(measured):
    path, _ = measured
    record = json.loads(path.read_text(encoding="utf-8"))
    case = record["entries"][0]
    case["comparisons"][0] |= {"speed": 3.214, "memory": 0.526}
    table = pretraining_table(record)
    assert "tiny, vocabulary 60, rows of a batch 2 x 16, dropout 0.1; wall clock, 1 thread(s), medians of 2" in table
    assert re.search(r"companion fp32 : Trainer fp32 +3\.21x .* 0\.53$", table, re.MULTILINE)
    for row in case["variants"]:
        assert re.search(rf"{row['name']} +{row['tokens_per_second']:,.0f} ", table)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "huge"}, "model='huge' is not allowed; it must be one of tiny, mini"),
        ({"vocab_size": 5}, "vocab_size=5 is not allowed; it must be above the 5 special tokens"),
        ({"batch_size": 0}, "batch_size=0 is not allowed"),
        ({"max_tokens": 513}, "max_tokens=513 is not allowed; it must be an integer from 8 to BERT's 512 positions"),
        ({"steps": 0}, "steps=0 is not allowed"),
        ({"dropout": 1.0}, "dropout=1.0 is not allowed"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 is not allowed"),
        ({"precisions": ()}, "precisions=.* is not allowed; it must be one precision or more"),
        ({"threads": 0}, "threads=0 is not allowed"),
        ({"clock": "sun"}, "clock='sun' is not allowed; it must be one of 'wall', 'cpu'"),
        ({"clock": "cpu", "threads": 2}, "clock='cpu' adds up the time of all threads; pass threads=1"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_without_transformers_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["bench", "pretrain", "--threads", "1"])
    assert result.exit_code == 2
    assert result.stderr.startswith("companion: transformers, which is compared with, is not installed; run: pip")


def test_several_gpus_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speed, "best_device", lambda device: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(ValueError, match="Trainer would take all 4 GPUs; set CUDA_VISIBLE_DEVICES to the one"):
        benchmark_pretraining([tiny()])


@pytest.mark.gpu
def test_on_a_gpu_both_take_the_same_steps_and_the_figures_are_the_gpus():
    case = tiny(device="cuda", dropout=0.0, threads=None, learning_rate=1e-2)
    record = benchmark_pretraining([case], progress=False)
    assert record["entries"][0]["provenance"]["hardware"]["device"] == torch.cuda.get_device_name()
    rows = {row["name"]: row for row in record["entries"][0]["variants"]}
    assert rows["companion fp32"]["mean_loss"] == pytest.approx(rows["Trainer fp32"]["mean_loss"], rel=1e-4)
    assert all(0 < row["share_of_matrix_peak"] < 1 for row in rows.values())
    assert all(0 < row["peak_memory_bytes"] < 1e9 for row in rows.values()), "what was allocated on the device"


@pytest.mark.gpu
@pytest.mark.parametrize("max_tokens", [128, 512])
def test_base_is_not_slower_than_trainer_on_a_gpu(max_tokens: int):
    case = PretrainingCase("base", 30522, 16, max_tokens, steps=10, precisions=("auto",), device="cuda")
    record = benchmark_pretraining([case], progress=False)
    assert all(row["speed"] > 1 for row in record["entries"][0]["comparisons"])
