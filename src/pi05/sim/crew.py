"""Processes that let experts act, one simulator each, and what becomes of them.

A process hands back only what came of an attempt; the attempt itself goes to disk there. A process that dies is
replaced and its attempt made once more; an attempt in which it dies again ends the collection.

Leaves out the process itself (`kept_process.py`), which attempts are made (`ledger.py`), where they lie (`staged.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pi05.errors import EvaluationError, UserError
from pi05.sim.environments import ExpertMaker, close_environment
from pi05.sim.episodes import attempt
from pi05.sim.kept_process import HasEnded, KeptProcess, Refused, wait_for
from pi05.sim.ledger import Outcome, Ticket
from pi05.sim.protocol import Environment
from pi05.sim.staged import StagedAttempts

DEATHS = 2
"""Processes that an attempt may cost before it ends the collection."""
Told = tuple[str, Any]
"""What a process says: of which kind it is, and the content."""


@dataclass(frozen=True)
class News:
    """What came of an attempt."""

    ticket: Ticket
    outcome: Outcome
    remark: str
    """Of an exception, its text."""


class _Member(KeptProcess):
    """One process, and the attempt that it makes now."""

    def __init__(self, make: ExpertMaker, folder: Path, beside: int) -> None:
        self.ticket: Ticket | None = None
        self.task: str | None = None
        self.last_task: int | None = None
        super().__init__(serve, beside=beside)
        self.send((make, folder))


@dataclass
class Crew:
    """The processes."""

    make: ExpertMaker
    folder: Path
    first_seed: int
    workers: int
    facts: dict[str, Any] | None = None
    """What the first process told of its simulator (`simulator_facts`)."""
    _members: list[_Member] = field(default_factory=list)
    _deaths: dict[Ticket, int] = field(default_factory=dict)

    def idle(self) -> list[_Member]:
        """Return the processes that have nothing to do."""
        return [member for member in self._members if member.ticket is None]

    def give(self, member: _Member, ticket: Ticket, task: str | None) -> None:
        """Let a process make an attempt."""
        member.ticket, member.task, member.last_task = ticket, task, ticket.task
        member.send((ticket, task, self.first_seed + ticket.turn))  # had it died: `news` gives it to another one

    def news(self) -> list[News]:
        """Wait until a process has something to say. Raises EvaluationError where they die, UserError of theirs."""
        return [news for member in wait_for(self._members) for news in self._hear(member)]

    def _hear(self, member: _Member) -> Iterator[News]:
        told: Told | Refused | HasEnded = member.receive()
        if isinstance(told, HasEnded):
            self._replace(member, told)
            return
        if isinstance(told, Refused):
            raise told.error()
        kind, content = told
        if kind == "facts":
            self.facts = self.facts or content
            return
        ticket, member.ticket = member.ticket, None
        assert ticket is not None  # a process speaks of the attempt that it was given
        outcome, remark = content
        yield News(ticket, outcome, remark)

    def _replace(self, member: _Member, end: HasEnded) -> None:
        self._members.remove(member)
        member.end()
        ticket = member.ticket
        if ticket is None and self.facts is None:
            raise _died("while the simulator was built", end)
        if ticket is not None:
            self._deaths[ticket] = self._deaths.get(ticket, 0) + 1
            if self._deaths[ticket] == DEATHS:
                raise _died(f"{DEATHS} times at task {ticket.task}, seed {self.first_seed + ticket.turn}", end)
        self.start()
        if ticket is not None:
            self.give(self._members[-1], ticket, member.task)

    def start(self) -> None:
        """Start one more process."""
        self._members.append(_Member(self.make, self.folder, self.workers))

    def end(self) -> None:
        """End all processes; what they have not finished is lost."""
        for member in self._members:
            member.end()
        self._members = []


def _died(when: str, end: HasEnded) -> EvaluationError:
    return EvaluationError(
        "a simulator's process died",
        wanted="one that ends when it is told to",
        found=f"it {end.how}, {when}",
        remedy="if it ran out of memory, use fewer --workers; the same command goes on with what is finished",
    )


@contextmanager
def crew(make: ExpertMaker, folder: Path, workers: int, first_seed: int) -> Iterator[Crew]:
    """Yield a crew of that many processes, whose attempts go to `folder`; `make` must be one that can be pickled."""
    members = Crew(make, folder, first_seed, workers)
    try:
        for _ in range(workers):
            members.start()
        yield members
    finally:
        members.end()


def simulator_facts(environment: Environment) -> dict[str, Any]:
    """Return what a data set and a plan need to know of a simulator, as plain data."""
    return {
        "fps": environment.fps,
        "robot_type": environment.robot_type,
        "cameras": {name: list(size) for name, size in environment.cameras.items()},
        "state_names": list(environment.state_names),
        "action_names": list(environment.action_names),
        "tasks": list(environment.tasks),
    }


# --- in the other process --------------------------------------------------------------------------------------------


def serve(pipe: Connection) -> None:
    """Make the attempts that are asked for. Raises EOFError or BrokenPipeError when nobody asks any more."""
    try:
        make, folder = pipe.recv()
        environment, expert = make()
        pipe.send(("facts", simulator_facts(environment)))
        staged = StagedAttempts(folder)
        while True:
            ticket, task, seed = pipe.recv()
            try:
                shown = attempt(environment, expert, seed, task)
            except UserError:
                raise
            except Exception as error:
                of = "" if task is None else f"{task}, "
                pipe.send(("attempt", ("exception", f"{type(error).__name__}: {error} ({of}seed {seed})")))
                close_environment(environment)
                environment, expert = make()  # a simulator that failed is not used again
            else:
                staged.save(ticket, shown, list(environment.cameras))
                pipe.send(("attempt", ("success" if shown.success else "failure", "")))
    except UserError as error:
        pipe.send(Refused.of(error))
