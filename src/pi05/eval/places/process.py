"""A process that holds one environment, seen from the process of the policy: start, ask, and notice its end.

Not `multiprocessing.Process`: that would import the user's main module again. What the process prints goes to a file
without a name; its last line is told when the process dies.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Pipe
from typing import cast

from pi05.eval.episode import EpisodePlan
from pi05.eval.places.worker import Answer
from pi05.sim.protocol import Environment

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "LP_NUM_THREADS")
"""LP: Mesa's software renderer. Several processes with threads for each core only hinder each other."""


PROGRAM = "import sys; sys.path[:] = sys.argv[3:]; from pi05.eval.places.worker import main; main()"
"""Modules are found where this process finds them. Not `-m`: what that defines has another name when it is pickled."""


class PlaceProcess:
    """One process; `plan` is the episode that it carries out now."""

    def __init__(self, make: Callable[[], Environment]) -> None:
        self.plan: EpisodePlan | None = None
        self.last_task: str | None = None
        self.ready = False
        self.asked_at = time.monotonic()
        # What a simulator leaves there when it is killed goes with it.
        self._scratch = tempfile.TemporaryDirectory(prefix="pi05-place-", ignore_cleanup_errors=True)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `end`)
        self.connection, theirs = Pipe()
        threads = {name: os.environ.get(name, "1") for name in ONE_THREAD}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(theirs.fileno()), str(os.getpid()), *sys.path],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **threads, "TMPDIR": self._scratch.name},
                start_new_session=True,  # Ctrl-C is for the process of the policy, which ends this one
            )
        finally:
            theirs.close()
        with suppress(OSError):  # a process that died at once is noticed when it shall answer
            self.connection.send(make)

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def ask(self, message: object) -> None:
        """Send a plan or actions."""
        self.asked_at = time.monotonic()
        with suppress(OSError):  # it has died: noticed by whoever waits for its answer
            self.connection.send(message)

    def answer(self) -> Answer | str:
        """Return its answer, which is there; text: the process has ended, and how."""
        try:
            return cast(Answer, self.connection.recv())
        except (EOFError, OSError):
            return self._how_it_ended()

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "the environment's process closed its connection"
        if code == -signal.SIGKILL:
            how = "was killed (SIGKILL), by the system for lack of memory or by somebody"
        else:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        last = self.last_words()
        return f"the environment's process {how}{f': {last}' if last else ''}"

    def last_words(self) -> str:
        """Return the last line that the process has printed."""
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - 4096))
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else ""

    def end(self, patience_s: float = 0.0) -> None:
        """End the process; with patience it may close its simulator before."""
        self.connection.close()
        try:
            self._process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()
        self._scratch.cleanup()


def wait_for(processes: list[PlaceProcess], seconds: float) -> list[PlaceProcess]:
    """Return the processes that have answered or died, after at most so many seconds."""
    from multiprocessing.connection import wait

    answered = wait([process.connection for process in processes], max(0.0, seconds))
    return [process for process in processes if process.connection in answered]
