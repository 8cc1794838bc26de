"""What happens in a process with one environment: it gets how to make it, then plans and actions, and answers each.

Nothing here imports torch: a simulator with its assets is large enough.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from pi05.errors import UserError
from pi05.eval.episode import EpisodePlan
from pi05.eval.places.place import EnvironmentFacts, Place, Turn, facts_of
from pi05.sim.kept_process import HasEnded, Refused


@dataclass(frozen=True)
class NotMade:
    """The environment could not be made: the simulator raised this."""

    text: str


Answer = Turn | EnvironmentFacts | Refused | NotMade | HasEnded


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
