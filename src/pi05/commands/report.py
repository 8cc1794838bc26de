"""`pi05 report`: one HTML file about a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pi05.commands.command import Command, read_one_path
from pi05.errors import doing, tell
from pi05.settings.schema import Checked


@dataclass(frozen=True, kw_only=True)
class ReportConfig(Checked):
    """Settings of `pi05 report`: none."""

    FLAG_PREFIX: ClassVar[str] = ""


def report(arguments: Sequence[str]) -> int:
    """Run `pi05 report`."""
    _, run = read_one_path(
        ReportConfig,
        arguments,
        what="pi05 report takes one run",
        wanted="pi05 report RUN",
        remedy="name the run's folder",
    )
    from pi05.pages.run import write_run_report

    with doing("write the report of", run):
        page = write_run_report(Path(run))
    tell(str(page))
    return 0


COMMAND = Command(
    summary="One HTML file about a run: curves, held-out error, what was seen.",
    usage="pi05 report RUN",
    run=report,
    settings=ReportConfig,
)
