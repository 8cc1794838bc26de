"""Measure in a process of its own what may crash, print, or never answer; `python -m MODULE` ends with a line of JSON.

The child writes lines `stage: NAME` to standard output before each thing that may hang, so that one that was stopped
says where.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RESULT, STAGE = "result: ", "stage: "


@dataclass(frozen=True)
class ChildAnswer:
    """What a child left: its result, or why there is none."""

    result: dict[str, Any] | None
    fault: str | None = None
    """The last line of its error output, or the signal that killed it."""
    hangs_at: str | None = None
    """The stage at which time was up."""
    stages: tuple[str, ...] = field(default=())


def ask_child(
    module: str, *arguments: str, seconds: float, environment: Mapping[str, str] | None = None
) -> ChildAnswer:
    """Run `python -m module` for at most some seconds."""
    command = [sys.executable, "-P", "-m", module, *arguments]  # -P: no module from the working directory
    # what torchrun tells its workers is not for a process of its own
    inherited = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        env={**inherited, **(environment or {})},
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
            late = False
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            late = True
    return read_answer(out, err, process.returncode, late)


def read_answer(out: str, err: str, code: int, late: bool) -> ChildAnswer:
    """Turn a child's output into its answer."""
    stages = tuple(line.removeprefix(STAGE) for line in out.splitlines() if line.startswith(STAGE))
    if late:
        return ChildAnswer(None, hangs_at=stages[-1] if stages else "start", stages=stages)
    results = [line.removeprefix(RESULT) for line in out.splitlines() if line.startswith(RESULT)]
    if code == 0 and results:
        return ChildAnswer(json.loads(results[-1]), stages=stages)
    if code < 0:
        where = f" at stage '{stages[-1]}'" if stages else ""
        return ChildAnswer(None, fault=f"killed by {signal.Signals(-code).name}{where}", stages=stages)
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    return ChildAnswer(None, fault=lines[-1] if lines else f"exit code {code}", stages=stages)


def begin(stage: str) -> None:
    """Say in the child which stage begins."""
    print(f"{STAGE}{stage}", flush=True)


def give(result: dict[str, Any]) -> None:
    """End the child's output with its result."""
    print(f"\n{RESULT}{json.dumps(result)}", flush=True)
