"""A process with one environment, started by `process.py` with the number of its connection and of its starter.

It gets how to make the environment, then plans and actions, and answers each; it ends when its starter does. Nothing
here imports torch: a simulator with its assets is large enough.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from pi05.errors import UserError
from pi05.eval.episode import EpisodePlan
from pi05.eval.places.place import EnvironmentFacts, Place, Turn, facts_of

PR_SET_PDEATHSIG = 1


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


@dataclass(frozen=True)
class NotMade:
    """The environment could not be made: the simulator raised this."""

    text: str


Answer = Turn | EnvironmentFacts | Refused | NotMade


def main() -> None:
    """Serve until the other end is closed."""
    end_with(int(sys.argv[2]))
    connection = Connection(int(sys.argv[1]))
    try:
        serve(connection)
    except (EOFError, BrokenPipeError):
        return


def serve(connection: Connection) -> None:
    """Make the environment, then answer. Raises EOFError when the other end is closed."""
    try:
        place = Place(connection.recv()())
    except UserError as error:
        connection.send(Refused.of(error))
        return
    except EOFError:
        raise
    except Exception as error:
        connection.send(NotMade(f"{type(error).__name__}: {error}"))
        return
    try:
        connection.send(facts_of(place.environment))
        while True:
            connection.send(answer(place, connection.recv()))
    finally:
        place.close()


def answer(place: Place, message: object) -> Answer:
    """Begin the episode of a plan, or carry out an array of actions."""
    try:
        turn = place.begin(message) if isinstance(message, EpisodePlan) else place.execute(message)  # type: ignore[arg-type]
    except UserError as error:
        return Refused.of(error)
    turn.memory_bytes = peak_memory()
    return turn


def peak_memory() -> int | None:
    """Return the most memory that this process has held, in bytes; None where the system does not tell.

    Not getrusage: what it tells begins at the size of the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return None if found is None else int(found[1]) * 1024


def end_with(parent: int) -> None:
    """Let the system end this process when its starter dies, also while a simulator hangs in it (Linux only)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it has died before
        sys.exit(1)
