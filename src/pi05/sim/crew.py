"""Processes that let experts act, one simulator each, and what becomes of them.

A simulator such as LIBERO holds a core and almost 2 GB, prints what it likes and may crash. So each lives in a process
of its own, started afresh (spawn), and hands back only what came of an attempt; the attempt itself goes to disk there.
A process that dies is replaced and its attempt made once more; an attempt in which it dies again ends the collection.

Leaves out which attempts are made (`ledger.py`) and where they lie (`staged.py`).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pi05.errors import EvaluationError, UserError
from pi05.sim.environments import ExpertMaker, close_environment
from pi05.sim.episodes import attempt
from pi05.sim.ledger import Outcome, Ticket
from pi05.sim.protocol import Environment
from pi05.sim.staged import StagedAttempts

DEATHS = 2
"""Processes that an attempt may cost before it ends the collection."""
SECONDS_TO_END = 5.0
THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class News:
    """What came of an attempt."""

    ticket: Ticket
    outcome: Outcome
    remark: str
    """Of an exception, its text."""


@dataclass
class _Member:
    process: BaseProcess
    pipe: Connection
    ticket: Ticket | None = None
    task: str | None = None
    last_task: int | None = None


@dataclass
class Crew:
    """The processes."""

    make: ExpertMaker
    folder: Path
    first_seed: int
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
        with suppress(OSError):  # it died while idle: `news` notices, and gives the attempt to another one
            member.pipe.send((ticket, task, self.first_seed + ticket.turn))

    def news(self) -> list[News]:
        """Wait until a process has something to say. Raises EvaluationError where they die, UserError of theirs."""
        ready = wait([member.pipe for member in self._members])
        return [news for member in list(self._members) if member.pipe in ready for news in self._hear(member)]

    def _hear(self, member: _Member) -> Iterator[News]:
        try:
            kind, content = member.pipe.recv()
        except (EOFError, OSError):
            self._replace(member)
            return
        if kind == "refused":
            raise UserError(**content)
        if kind == "facts":
            self.facts = self.facts or content
            return
        ticket, member.ticket = member.ticket, None
        assert ticket is not None  # a process speaks of the attempt that it was given
        outcome, remark = content
        yield News(ticket, outcome, remark)

    def _replace(self, member: _Member) -> None:
        self._members.remove(member)
        member.process.join()
        ticket = member.ticket
        code = member.process.exitcode
        if ticket is None and self.facts is None:
            raise _died("while the simulator was built", code)
        if ticket is not None:
            self._deaths[ticket] = self._deaths.get(ticket, 0) + 1
            if self._deaths[ticket] == DEATHS:
                raise _died(f"{DEATHS} times at task {ticket.task}, seed {self.first_seed + ticket.turn}", code)
        self.start()
        if ticket is not None:
            self.give(self._members[-1], ticket, member.task)

    def start(self) -> None:
        """Start one more process."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(self.make, self.folder, theirs), daemon=True)
        process.start()
        theirs.close()
        self._members.append(_Member(process, ours))

    def end(self) -> None:
        """End all processes; what they have not finished is lost."""
        for member in self._members:
            member.process.terminate()
            member.pipe.close()
        for member in self._members:
            member.process.join(SECONDS_TO_END)
            if member.process.is_alive():
                member.process.kill()
                member.process.join()


def _died(when: str, code: int | None) -> EvaluationError:
    killed = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
    return EvaluationError(
        "a simulator's process died",
        wanted="one that ends when it is told to",
        found=f"it ended {killed}, {when}",
        remedy="if it ran out of memory, use fewer --workers; the same command goes on with what is finished",
    )


@contextmanager
def crew(make: ExpertMaker, folder: Path, workers: int, first_seed: int) -> Iterator[Crew]:
    """Yield a crew of that many processes, whose attempts go to `folder`; `make` must be one that can be pickled."""
    members = Crew(make, folder, first_seed)
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"  # of each process: they are as many as there are cores
    try:
        for _ in range(workers):
            members.start()
        yield members
    finally:
        members.end()
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before


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


def _work(make: ExpertMaker, folder: Path, pipe: Connection) -> None:
    """Make the attempts that are asked for, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the first process ends this one
    _hush()
    with suppress(EOFError, BrokenPipeError):  # the first process has gone
        try:
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
            fields = {"problem": error.problem, "wanted": error.wanted, "found": error.found, "remedy": error.remedy}
            pipe.send(("refused", fields))


def _hush() -> None:
    """Let nothing that a simulator prints get between the lines of the command."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for number in (1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
