"""The command line: `companion info | pretrain | finetune | predict | bench`, one module per command."""

from __future__ import annotations

from companion.cli import bench, finetune, info, predict, pretrain  # noqa: F401  (each registers its command)
from companion.cli.shared import app


def main() -> None:
    """Run the command line."""
    app()
