"""A process that holds a simulator, seen from both sides: start it, speak with it, notice its end, end it.

A simulator such as LIBERO holds a core and almost 2 GB, prints what it likes, hangs and crashes. So collecting and
evaluating keep each one in a process of its own. Not `multiprocessing.Process`: that would import the user's main
module again. What the process prints goes to a file without a name; its last line is told when the process dies.

Leaves out what is said: `sim/crew.py` asks for demonstrations, `eval/places` for episodes of a policy, and
`demo/fine_tune.py` for a share of a training.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, TypeVar

from pi05.errors import UserError

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Several processes with threads for each core only hinder each other."""
DRAWING = "LP_NUM_THREADS"
"""Threads of Mesa's software renderer. Pictures do not depend on it."""
MOST_DRAWING = 4
"""More would wait: half of a picture's time is the triangles' corners, which one thread computes."""
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class HasEnded:
    """Takes the place of an answer where the process is no more."""

    how: str
    """Such as: was killed (SIGKILL), by the system for lack of memory or by somebody."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A `UserError` on its way to another process."""

    kind: type[UserError]
    problem: str
    wanted: str | None
    found: str | None
    remedy: str

    @classmethod
    def of(cls, error: UserError) -> Refused:
        """Take an error apart."""
        return cls(kind=type(error), problem=error.problem, wanted=error.wanted, found=error.found, remedy=error.remedy)

    def error(self) -> UserError:
        """Put it together again."""
        return self.kind(self.problem, wanted=self.wanted, found=self.found, remedy=self.remedy)


def drawing_threads(processes: int) -> int:
    """Return the threads that each of so many processes on this machine draws with, so that no core idles."""
    return max(1, min(MOST_DRAWING, len(os.sched_getaffinity(0)) // processes))


class KeptProcess:
    """One process, in which `serve` is called with the other end of the connection.

    `serve` is a function of a module's own; the module is imported there, where this process finds modules.
    """

    def __init__(self, serve: Callable[[Connection], None], *, beside: int | None = None) -> None:
        """`beside`: how many such processes, this one counted, draw at once; None where it does not draw."""
        # What a simulator leaves there when it is killed goes with it.
        self._scratch = tempfile.TemporaryDirectory(prefix="pi05-simulator-", ignore_cleanup_errors=True)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `end`)
        self.connection, theirs = Pipe()
        counts = dict.fromkeys(ONE_THREAD, 1) | {DRAWING: drawing_threads(beside) if beside else 1}
        threads = {name: os.environ.get(name, str(count)) for name, count in counts.items()}
        # Not `-m`: what that defines has another name when it is pickled.
        program = (
            "import sys; sys.path[:] = sys.argv[3:]; "
            f"from pi05.sim.kept_process import begin; from {serve.__module__} import {serve.__name__} as serve; "
            "begin(serve)"
        )
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program, str(theirs.fileno()), str(os.getpid()), *sys.path],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **threads, "TMPDIR": self._scratch.name},
                start_new_session=True,  # Ctrl-C is for the process that keeps this one, and ends it
            )
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def send(self, message: object) -> None:
        """Send something that can be pickled; a process that has died is noticed when it shall answer."""
        with suppress(OSError):
            self.connection.send(message)

    def receive(self) -> Any:
        """Return what it has sent, waiting for it; `HasEnded` where nothing comes any more."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return HasEnded(self._how_it_ended())

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if code == -signal.SIGKILL:
            how = "was killed (SIGKILL), by the system for lack of memory or by somebody"
        else:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        last = self.last_words()
        return f"{how}{f': {last}' if last else ''}"

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


Kept = TypeVar("Kept", bound=KeptProcess)


def wait_for(processes: Sequence[Kept], seconds: float | None = None) -> list[Kept]:
    """Return the processes that have answered or died, after at most so many seconds; None: once there is one."""
    answered = wait([process.connection for process in processes], None if seconds is None else max(0.0, seconds))
    return [process for process in processes if process.connection in answered]


# --- in the process itself -------------------------------------------------------------------------------------------


def begin(serve: Callable[[Connection], None]) -> None:
    """Serve until the other end is closed, or its process has died."""
    end_with(int(sys.argv[2]))
    with suppress(EOFError, BrokenPipeError):
        serve(Connection(int(sys.argv[1])))


def end_with(parent: int) -> None:
    """Let the system end this process when its starter dies, also while a simulator hangs in it (Linux only)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it has died before
        sys.exit(1)
