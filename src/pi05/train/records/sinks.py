"""Where a run's records go: `metrics.jsonl` always, the console for people, trackers as further sinks.

A record is a dictionary with `type` (train, eval, watch, save, resume, end) and `step`. The file is the record of
truth: a resumed run drops from it what lies after the checkpoint that it continues from, so that it reads as one run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pi05.errors import TrainingError
from pi05.files import parse_json, write_atomic
from pi05.terminal import say
from pi05.train.records.metrics import render_line

Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a sink is told at the start."""

    name: str
    run_dir: Path
    config: Mapping[str, Any]
    first_step: int
    total_steps: int

    @property
    def resumed(self) -> bool:
        """Whether the run continues from a checkpoint."""
        return self.first_step > 0


@runtime_checkable
class Sink(Protocol):
    """Takes a run's records. A sink outside this project's control must not raise, block or end the run."""

    def start(self, run: RunInfo) -> None:
        """Open; called once before the first record."""

    def tick(self, step: int) -> None:
        """Note that a step is done; called after every step, so it must cost nothing."""

    def log(self, record: Record) -> None:
        """Take one record."""

    def finish(self, status: str) -> None:
        """Close; `status` is finished, interrupted or failed."""


class JsonlSink:
    """Appends each record to a file as one line of JSON, at once. NaN and infinity are written as null."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def start(self, run: RunInfo) -> None:
        """Keep the records up to the step that the run continues from; drop later and half-written ones."""
        steps = ((line, line_step(line)) for line in self._lines())
        kept = [line for line, step in steps if step is not None and step <= run.first_step]
        write_atomic(self._path, "".join(line + "\n" for line in kept).encode())
        if run.resumed and not any(is_save_of(line, run.first_step) for line in kept):
            self.log({"type": "save", "step": run.first_step, "text": "saved before the process was killed"})
        if run.resumed:
            self.log({"type": "resume", "step": run.first_step})

    def tick(self, step: int) -> None:
        """Do nothing."""

    def log(self, record: Record) -> None:
        """Append one line. Raises TrainingError when the disk is full."""
        line = json.dumps(finite(dict(record)), ensure_ascii=False, allow_nan=False)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise TrainingError(
                f"{self._path} could not be written",
                found=str(error),
                remedy="free disk space, then continue with --resume; earlier checkpoints are intact",
            ) from error

    def finish(self, status: str) -> None:
        """Do nothing; every line is written already."""

    def _lines(self) -> list[str]:
        return self._path.read_text(encoding="utf-8", errors="replace").split("\n") if self._path.exists() else []


def line_step(line: str) -> int | None:
    """Return the step of a line of JSON; None for a line that is not a complete record."""
    try:
        record = parse_json(line)
    except ValueError:
        return None
    step = record.get("step") if isinstance(record, dict) else None
    return step if type(step) is int else None


def is_save_of(line: str, step: int) -> bool:
    """Tell whether a line, which is a complete record, is that of the checkpoint of `step`."""
    record = json.loads(line)
    return record.get("type") == "save" and record["step"] == step


def finite(value: Any) -> Any:
    """Return plain data with NaN and infinity, which JSON has not, replaced by None."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return value


class ConsoleSink:
    """One line per train record, whatever else is worth a line, and on a terminal a progress bar."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._total = 0

    def start(self, run: RunInfo) -> None:
        """Show the bar, on a terminal only."""
        self._total = run.total_steps
        if not self._console.is_terminal or self._console.quiet:
            return
        columns = (BarColumn(), TextColumn("{task.completed}/{task.total} steps"), TimeRemainingColumn())
        # over ten minutes: a step of a minute is not rare
        self._progress = Progress(*columns, console=self._console, transient=True, speed_estimate_period=600)
        self._progress.add_task("train", total=run.total_steps, completed=run.first_step)
        self._progress.start()

    def tick(self, step: int) -> None:
        """Move the bar."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=step)

    def log(self, record: Record) -> None:
        """Print the record as text."""
        if record["type"] == "train":
            say(self._console, render_line(record, self._total))
        elif "text" in record:
            say(self._console, str(record["text"]))

    def finish(self, status: str) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()


class Sinks:
    """Several sinks as one."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = list(sinks)

    def start(self, run: RunInfo) -> None:
        """Open all."""
        for sink in self._sinks:
            sink.start(run)

    def tick(self, step: int) -> None:
        """Tell all that a step is done."""
        for sink in self._sinks:
            sink.tick(step)

    def log(self, record: Record) -> None:
        """Give the record to all."""
        for sink in self._sinks:
            sink.log(record)

    def finish(self, step: int, status: str) -> None:
        """Tell all how the run ended, and close them. A full disk does not hide the error that ended the run."""
        with suppress(TrainingError):
            self.log({"type": "end", "step": step, "status": status})
        for sink in self._sinks:
            sink.finish(status)
