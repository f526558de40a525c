"""Run records: what was measured, and for every entry when, by which command, on what hardware, with which versions."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from companion.support.devices import best_device, device_name, precision_for
from companion.support.files import write_json


def provenance(command: str, hardware: Mapping[str, Any], packages: Sequence[str] = ("torch",)) -> dict[str, Any]:
    """Return where the figures of an entry come from.

    Parameters
    ----------
    command : str
        What measures them again.
    hardware : mapping
        On what they are measured, such as `hardware_of` returns.
    packages : sequence of str
        Distributions whose versions matter.

    Returns
    -------
    dict
        `command`, `date` (UTC), `hardware` and `versions`.
    """
    return {
        "command": command,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "hardware": dict(hardware),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }


def hardware_of(device: str | None = None, precision: str | None = None) -> dict[str, Any]:
    """Return the `device` by its maker's name, the `precision` and the `threads` of what is about to be computed."""
    import torch

    used = best_device(device)
    found = {"device": device_name(used), "precision": precision_for(used, precision)}
    return found | {"threads": torch.get_num_threads()}


@dataclass
class RunRecord:
    """A JSON file of measured entries that a stopped measurement goes on with.

    Parameters
    ----------
    path : Path
        The file; it is written again after each entry.
    kind : str
        What is measured: "ablations", "tasks", "speed".
    config : dict
        What decides the figures.
    data : dict
        Checksums of what was read.
    entries : list of dict
        The figures, each entry with the `provenance` of its own.
    """

    path: Path
    kind: str
    config: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def open(cls, path: str | Path, kind: str, config: Mapping[str, Any], data: Mapping[str, Any]) -> RunRecord:
        """Return the record in the file, if it is of the same measurement, or a new one if there is no file.

        What only one of the two has is no difference: a setting that is newer than the record, or a part of the
        measurement that this call leaves out.

        Raises
        ------
        ValueError
            If the file is of another measurement; the message names what differs.
        """
        path, identity = Path(path), {"kind": kind, "config": _as_json(config), "data": _as_json(data)}
        if not path.is_file():
            return cls(path, **identity)
        old = json.loads(path.read_text(encoding="utf-8"))
        if changed := list(_differences(old, identity)):
            raise ValueError(
                f"{path} is of another measurement, which differs in: {'; '.join(changed)}. Set them back, or name "
                "another file"
            )
        merged = _merged(identity, {name: old.get(name, {}) for name in identity})
        return cls(path, **merged, entries=old["entries"])

    def find(self, **keys: Any) -> dict[str, Any] | None:
        """Return the first entry that has these values, or None."""
        return next((entry for entry in self.entries if keys.items() <= entry.items()), None)

    def add(self, entry: Mapping[str, Any], source: Mapping[str, Any]) -> None:
        """Append an entry with its provenance, and write the file."""
        self.entries.append({**entry, "provenance": dict(source)})
        write_json(self.path, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return what the file holds."""
        names = ("kind", "config", "data", "entries")
        return {"name": self.path.stem} | {name: getattr(self, name) for name in names}


def _as_json(value: Any) -> Any:
    """Return `value` as it comes back from a JSON file, with lists for tuples."""
    return json.loads(json.dumps(value))


def _differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() & new.keys():
            yield from _differences(old[key], new[key], f"{name}.{key}".lstrip("."))
    elif old != new:
        yield f"{name.removeprefix('config.').removeprefix('data.')}={new!r} was {old!r}"


def _merged(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    both = {name: _merged(new[name], old[name]) for name in new.keys() & old.keys() if isinstance(new[name], dict)}
    return {**new, **old, **both}
