"""`pi05 demo`: collect, fine-tune, evaluate and report, on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pi05.commands.command import Command, read_settings
from pi05.errors import doing
from pi05.settings.schema import Checked

GOALS_MISSED = 1
"""Exit code of a demonstration that ran and missed a goal."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig(Checked):
    """Settings of `pi05 demo`."""

    env: Literal["tabletop", "libero"] = "tabletop"
    """The simulator: tabletop, which is embedded, or libero: three tasks of the benchmark in one policy. That takes 73
    minutes on two fast cores, twice as long on slow ones, and 4 GB of memory; docs/libero.md says what it succeeded
    in."""
    output_dir: str | None = None
    """Folder for data set, run and reports; outputs/demo when not given, outputs/libero-demo in LIBERO."""
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
    folder = config.output_dir or ("outputs/demo" if config.env == "tabletop" else "outputs/libero-demo")
    with doing("make the demonstration in", folder):
        if config.env == "libero":
            from pi05.demo import libero

            result = libero.run_libero_demo(Path(folder), seed=config.seed, threads=config.threads)
        else:
            from pi05.demo import tabletop

            result = tabletop.run_demo(output_dir=Path(folder), seed=config.seed, threads=config.threads)
    return 0 if result.met else GOALS_MISSED


COMMAND = Command(
    summary="Collect, fine-tune, evaluate, report: in a simulator, on a CPU.",
    usage="pi05 demo [--env=libero] [flags]",
    run=demo,
    settings=DemoConfig,
)
