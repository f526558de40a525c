"""`companion info`."""

from __future__ import annotations

import json
import platform
from typing import Annotated, Any

import typer

from companion.cli.shared import app, own_version


@app.command(short_help="Show versions, the device and what is bundled.", epilog="Example:  companion info --json")
def info(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show versions, the device and its precision, and what is bundled."""
    facts = _facts()
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        print(f"{name:<12} {', '.join(value) if isinstance(value, list) else value}")


def _facts() -> dict[str, Any]:
    import torch

    from companion.data.labelled import bundled_names as sets
    from companion.support.devices import best_device, precision_for
    from companion.support.locate import bundled_names as checkpoints

    device = best_device()
    return {
        "companion": own_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": str(device),
        "precision": precision_for(device, "auto"),
        "threads": torch.get_num_threads(),
        "checkpoints": checkpoints(),
        "datasets": sets(),
    }
