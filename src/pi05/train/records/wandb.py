"""Weights & Biases as a sink that can fail in any way without the run noticing.

The only module that imports `wandb`. Online without a network or a login turns into offline within a bounded time, with
a printed notice; the run's id is kept in `RUN/wandb.json`, so that a resumed run continues the same WandB run. All that
is sent is in `metrics.jsonl` too. Charts are drawn over the record's own `step`.
"""

from __future__ import annotations

import importlib
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from pi05.errors import CheckpointError, ConfigError
from pi05.files import read_json, write_json
from pi05.settings.fields import find_fault
from pi05.terminal import say
from pi05.train.records.config import WandbConfig
from pi05.train.records.fields import WandbRun
from pi05.train.records.sinks import Record, RunInfo, finite
from pi05.train.records.tracker import first_line, numbers_of, within

INIT_TIMEOUT_S = 20
FINISH_TIMEOUT_S = 60


class WandbSink:
    """Sends records to WandB for as long as that works."""

    def __init__(
        self,
        config: WandbConfig,
        console: Console,
        *,
        init_timeout_s: float = INIT_TIMEOUT_S,
        finish_timeout_s: float = FINISH_TIMEOUT_S,
    ) -> None:
        self._config = config
        self._console = console
        self._init_timeout_s = init_timeout_s
        self._finish_timeout_s = finish_timeout_s
        self._run: Any = None
        self.mode = config.mode
        """Mode in effect: online may have become offline."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its telemetry delays the exit without a network
        try:
            self._wandb = importlib.import_module("wandb") if config.mode != "disabled" else None
        except ImportError as error:
            raise ConfigError(
                "--wandb.enable needs the package wandb",
                found=str(error),
                remedy="pip install 'pi05[wandb]', or leave --wandb.enable out",
            ) from error

    def start(self, run: RunInfo) -> None:
        """Open the WandB run: a new one, the given one, or on resume the one that the run folder knows."""
        if self._wandb is None:
            return
        run_id = run_id_of(run.run_dir, self._config)
        self._run = self._attempt(run, run_id, self.mode)
        if self._run is None and self.mode == "online":
            self.mode = "offline"
            within(self._wandb.teardown, self._finish_timeout_s)  # its service still holds the run's id
            self._notice("WandB is kept offline for this run; send it later with `wandb sync`")
            self._run = self._attempt(run, run_id, self.mode)
        if self._run is not None:
            known = {
                "run_id": run_id,
                "mode": self.mode,
                "project": self._config.project,
                "entity": self._config.entity,
            }
            write_json(run.run_dir / "wandb.json", known)

    def _attempt(self, run: RunInfo, run_id: str, mode: str) -> Any:
        wandb = self._wandb
        if wandb is None:
            return None
        try:
            settings = wandb.Settings(init_timeout=self._init_timeout_s, console="off", silent=True)
            with nobody_to_ask():
                opened = wandb.init(
                    project=self._config.project,
                    entity=self._config.entity,
                    name=run.name,
                    notes=self._config.notes,
                    config=finite(dict(run.config)),
                    dir=str(run.run_dir),
                    id=run_id,
                    resume="allow" if mode == "online" else None,
                    mode=mode,
                    settings=settings,
                )
            opened.define_metric("step")
            opened.define_metric("*", step_metric="step")
        except Exception as error:
            self._notice(f"WandB did not start in mode {mode}: {first_line(error)}")
            return None
        return opened

    def tick(self, step: int) -> None:
        """Do nothing."""

    def log(self, record: Record) -> None:
        """Send the numbers of a record, as `type/name`; after a failure send nothing more."""
        if self._run is None:
            return
        try:
            self._run.log({**numbers_of(record), "step": record["step"]})
        except Exception as error:
            self._notice(f"WandB stopped, training goes on: {first_line(error)}")
            self._run = None

    def finish(self, status: str) -> None:
        """Close the WandB run; give up waiting for the network after a while."""
        if self._run is None:
            return
        run, code = self._run, 0 if status == "finished" else 1
        if not within(lambda: run.finish(exit_code=code), self._finish_timeout_s):
            self._notice("WandB did not take everything in time; send the rest with `wandb sync`")

    def _notice(self, text: str) -> None:
        say(self._console, f"notice: {text}")


@contextmanager
def nobody_to_ask() -> Iterator[None]:
    """Hide the terminal's input: without a login `wandb` would stop and wait for a key to be typed."""
    with open(os.devnull) as nothing:
        terminal, sys.stdin = sys.stdin, nothing
        try:
            yield
        finally:
            sys.stdin = terminal


def run_id_of(run_dir: Path, config: WandbConfig) -> str:
    """Return the WandB id of a run: as given, as stored in the run folder, or a new one. Raises CheckpointError."""
    if config.run_id is not None:
        return config.run_id
    stored = run_dir / "wandb.json"
    if not stored.exists():
        return secrets.token_hex(4)
    values = read_json(stored)
    if (fault := find_fault(WandbRun, values)) is not None:
        raise CheckpointError(
            f"{stored} holds something that cannot be",
            wanted=f"{fault.field or 'the file'}: {fault.wanted}",
            found=fault.found,
            remedy="remove it, and name the run to continue with --wandb.run_id; or restore it",
        )
    return str(values["run_id"])
