"""`pi05 demo`: collect, fine-tune, evaluate and report, on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pi05.commands.command import Command, read_settings
from pi05.errors import doing
from pi05.settings.schema import Checked

GOALS_MISSED = 1
"""Exit code of a demonstration that ran and missed a goal."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig(Checked):
    """Settings of `pi05 demo`."""

    output_dir: str = "outputs/demo"
    """Folder for data set, run and reports."""
    seed: int = 0
    """Seed of layouts, noise and data order, 0 or more."""
    threads: int | None = None
    """CPU threads, 1 or more; all cores when not given."""

    def _limits(self) -> None:
        self._at_least(0, "seed")
        self._at_least(1, "threads")


def demo(arguments: Sequence[str]) -> int:
    """Run `pi05 demo`."""
    config = read_settings(DemoConfig, arguments)
    from pi05.demo import run_demo

    with doing("make the demonstration in", config.output_dir):
        result = run_demo(output_dir=Path(config.output_dir), seed=config.seed, threads=config.threads)
    return 0 if result.met else GOALS_MISSED


COMMAND = Command(
    summary="Collect, fine-tune, evaluate, report: in a simulator, on a CPU.",
    usage="pi05 demo [flags]",
    run=demo,
    settings=DemoConfig,
)
