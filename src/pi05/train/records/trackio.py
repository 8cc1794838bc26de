"""Trackio as a sink that can fail in any way without the run noticing.

The only module that imports `trackio`. It keeps a run on this machine, where `trackio show` finds it; nothing is sent
anywhere unless `--trackio.space_id` names a space, whatever Trackio's own environment variables say. A space that
cannot be opened within a bounded time, or at all, is told, and the run is kept on this machine. Its name is in
`RUN/trackio.json`, so that a resumed run continues the same Trackio run. All of it is in `metrics.jsonl` too. What goes
wrong inside Trackio later it tells itself, as warnings; it raises nothing from `log` and writes in a thread of its own.
"""

from __future__ import annotations

import importlib
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from rich.console import Console

from pi05.errors import ConfigError
from pi05.files import read_json, write_json
from pi05.terminal import say
from pi05.train.records.config import TrackioConfig
from pi05.train.records.sinks import Record, RunInfo, finite
from pi05.train.records.tracker import first_line, numbers_of, within

START_TIMEOUT_S = 60
FINISH_TIMEOUT_S = 60
SENDING = tuple(f"TRACKIO_{name}" for name in ("SPACE_ID", "SERVER_URL", "BUCKET_ID", "DATASET_ID", "WEBHOOK_URL"))
"""Environment variables by which Trackio would send metrics away."""


class TrackioSink:
    """Gives records to Trackio for as long as that works."""

    def __init__(
        self,
        config: TrackioConfig,
        console: Console,
        *,
        start_timeout_s: float = START_TIMEOUT_S,
        finish_timeout_s: float = FINISH_TIMEOUT_S,
    ) -> None:
        self._config = config
        self._console = console
        self._start_timeout_s = start_timeout_s
        self._finish_timeout_s = finish_timeout_s
        self._run: Any = None
        self.space_id = config.space_id
        """Space in effect: one that could not be opened has become None."""
        try:
            self._trackio = importlib.import_module("trackio")
        except ImportError as error:
            raise ConfigError(
                "--trackio.enable needs the package trackio",
                found=str(error),
                remedy="pip install 'pi05[trackio]', or leave --trackio.enable out",
            ) from error

    def start(self, run: RunInfo) -> None:
        """Open the Trackio run: a new one, the given one, or on resume the one that the run folder knows."""
        name, project = run_name_of(run, self._config), self._config.project
        self._run = self._attempt(run, name)
        if self._run is None and self.space_id is not None:
            space, self.space_id = self.space_id, None
            self._run = self._attempt(run, name)
            later = f"trackio sync --project {project} --space-id {space}"
            self._notice(f"Trackio keeps this run on this machine; send it later with `{later}`")
        if self._run is None:
            return
        write_json(run.run_dir / "trackio.json", {"run": name, "project": project, "space_id": self.space_id})
        if self.space_id is None:
            say(self._console, f"Trackio: run {name}; live: trackio show --project {project}")

    def _attempt(self, run: RunInfo, name: str) -> Any:
        """Open a run in a thread: a space that does not answer holds nothing up, and Trackio's notion of a current run,
        which it would finish once more when the process ends, stays in the thread."""
        opened: list[Any] = []
        failures: list[BaseException] = []
        passed_over = sorted(set(SENDING) & set(os.environ)) if self.space_id is None else []
        if passed_over:
            self._notice(
                f"{', '.join(passed_over)} is passed over; --trackio.space_id names a space to send metrics to"
            )

        def init() -> None:
            try:
                opened.append(
                    self._trackio.init(
                        project=self._config.project,
                        name=name,
                        space_id=self.space_id,
                        private=self._config.private,
                        config=finite({**run.config, "notes": self._config.notes}),
                        resume="allow",
                        embed=False,
                        auto_log_gpu=False,
                        auto_log_cpu=False,
                    )
                )
            except Exception as error:
                failures.append(error)

        with sends_nothing_unasked(), redirect_stdout(io.StringIO()):
            within(init, self._start_timeout_s)
        if opened:
            return opened[0]
        where = "" if self.space_id is None else f" in the space {self.space_id}"
        why = first_line(failures[0]) if failures else f"no answer in {self._start_timeout_s:g} s"
        self._notice(f"Trackio did not start{where}: {why}")
        return None

    def tick(self, step: int) -> None:
        """Do nothing."""

    def log(self, record: Record) -> None:
        """Give the numbers of a record to Trackio, as `type/name`; after a failure give nothing more."""
        if self._run is None:
            return
        try:
            self._run.log(numbers_of(record), step=record["step"])
        except Exception as error:
            self._notice(f"Trackio stopped, training goes on: {first_line(error)}")
            self._run = None

    def finish(self, status: str) -> None:
        """Close the Trackio run; give up waiting for a space after a while."""
        if self._run is None:
            return
        with redirect_stdout(io.StringIO()):
            done = within(self._run.finish, self._finish_timeout_s)
        if not done:
            self._notice("Trackio did not take everything in time; metrics.jsonl holds it all")

    def _notice(self, text: str) -> None:
        say(self._console, f"notice: {text}")


@contextmanager
def sends_nothing_unasked() -> Iterator[None]:
    """Hide the variables by which Trackio would send metrics without a space having been named to us."""
    hidden = {name: os.environ.pop(name) for name in SENDING if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def run_name_of(run: RunInfo, config: TrackioConfig) -> str:
    """Return the name of the Trackio run: as given, as stored in the run folder, or a new one."""
    if config.run_id is not None:
        return config.run_id
    stored = run.run_dir / "trackio.json"
    return str(read_json(stored)["run"]) if stored.exists() else f"{run.name}-{secrets.token_hex(4)}"
