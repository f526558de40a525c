"""Run records: nothing measured twice, nothing mixed, and every entry keeps where it comes from."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest
import torch

from companion.support.record import RunRecord, hardware_of, provenance

CONFIG = {"seeds": 2, "variants": {"base": {"rate": 0.1}}}
DATA = {"checksum": "ab"}


def opened(path: Path, config: dict = CONFIG, data: dict = DATA) -> RunRecord:
    return RunRecord.open(path, "ablations", config, data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A record with one entry, measured on another day and another machine."""
    path = tmp_path / "study.json"
    opened(path).add({"variant": "base", "seed": 0, "loss": 1.5}, {"date": "2020-01-01", "hardware": {"device": "old"}})
    return path


def test_a_record_that_grows_keeps_the_provenance_of_each_entry(path: Path):
    opened(path).add({"variant": "base", "seed": 1, "loss": 1.25}, provenance("companion bench x", hardware_of("cpu")))
    old, new = json.loads(path.read_text(encoding="utf-8"))["entries"]
    assert old["provenance"] == {"date": "2020-01-01", "hardware": {"device": "old"}}
    assert new["provenance"]["versions"] == {"python": platform.python_version(), "torch": torch.__version__}
    assert new["provenance"]["command"] == "companion bench x"
    assert set(new["provenance"]["hardware"]) == {"device", "precision", "threads"}


def test_what_is_measured_is_found(path: Path):
    record = opened(path)
    assert record.find(variant="base", seed=0)["loss"] == 1.5
    assert record.find(variant="base", seed=1) is None


def test_the_file_holds_what_the_record_says(path: Path):
    assert json.loads(path.read_text(encoding="utf-8")) == opened(path).to_dict()
    assert opened(path).to_dict()["name"] == "study"


@pytest.mark.parametrize(
    ("config", "data", "message"),
    [
        (CONFIG | {"seeds": 3}, DATA, "seeds=3 was 2"),
        ({"variants": {"base": {"rate": 0.2}}}, DATA, "variants.base.rate=0.2 was 0.1"),
        (CONFIG, {"checksum": "cd"}, "checksum='cd' was 'ab'"),
    ],
)
def test_another_measurement_is_refused_by_what_differs(path: Path, config: dict, data: dict, message: str):
    with pytest.raises(ValueError, match=f"is of another measurement, which differs in: {message}. Set them back"):
        opened(path, config, data)


def test_what_is_new_or_left_out_is_no_difference(path: Path):
    record = opened(path, {"newer": 1, "variants": {"base": {"rate": 0.1, "newer": 2}, "other": {"rate": 9}}}, {})
    assert record.config["seeds"] == 2 and record.config["newer"] == 1
    assert record.config["variants"] == {"base": {"rate": 0.1, "newer": 2}, "other": {"rate": 9}}
    assert record.data == DATA and len(record.entries) == 1


def test_tuples_are_compared_as_the_lists_of_a_file(tmp_path: Path):
    opened(tmp_path / "a.json", {"sizes": (1, 2)}).add({}, {})
    assert opened(tmp_path / "a.json", {"sizes": (1, 2)}).config == {"sizes": [1, 2]}
