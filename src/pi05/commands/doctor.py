"""`pi05 doctor`: is this machine able to train, evaluate, serve? Works when torch, or any other package, does not."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pi05.commands.command import Command, read_settings
from pi05.errors import tell
from pi05.settings.schema import Checked


@dataclass(frozen=True, kw_only=True)
class DoctorConfig(Checked):
    """Settings of `pi05 doctor`."""

    FLAG_PREFIX: ClassVar[str] = ""

    output_dir: str = "runs"
    """Folder that runs will be written to; its disk is measured."""
    offline: bool = False
    """Open no connection; HF_HUB_OFFLINE=1 says the same."""
    short: bool = False
    """Only what takes no time, and only what is to be mended: the end of `make setup`."""
    json: bool = False
    """Print JSON."""


def doctor(arguments: Sequence[str]) -> int:
    """Run `pi05 doctor`."""
    config = read_settings(DoctorConfig, arguments)
    from pi05.doctor.examine import Examination, compared, judge, measure
    from pi05.doctor.workers import launched, meet
    from pi05.finding import exit_code
    from pi05.finding_report import for_terminal, render, to_json

    wanted = Examination(output=Path(config.output_dir), offline=config.offline, short=config.short)
    if launched():
        findings, versions = meet(wanted)
        if findings is None:  # rank 0 tells
            return 0
    else:
        facts = measure(wanted, _show)
        findings, versions = judge(facts), compared(facts)
        _show("")
    if config.json:
        tell(to_json(findings, to_mend=bool(exit_code(findings)), versions=versions))
    else:
        width = max(60, min(120, shutil.get_terminal_size().columns))
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        more = "pi05 doctor looks at network, kernels and simulators as well" if config.short else ""
        print(render(for_terminal(findings), "doctor", width=width, colour=colour, short=config.short, more=more))
    return exit_code(findings)


def _show(text: str) -> None:
    """Say what is waited for, on a terminal only; nothing wipes it away."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{text}{' …' if text else ''}", end="", file=sys.stderr, flush=True)


COMMAND = Command(
    summary="Is this machine able to train? What is wrong, and what mends it.",
    usage="pi05 doctor [--short] [--offline] [--json] [--output_dir=FOLDER]",
    run=doctor,
    settings=DoctorConfig,
)
