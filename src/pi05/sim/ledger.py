"""Which attempts of an expert are still needed: enough successes of every task, and not one attempt more.

An attempt is begun only when it is needed whatever the running ones turn out to be. So the attempts that are made, and
with them the data set, follow from tasks, seed and number alone: not from how many processes there are, which of them
is faster, or whether the collection was killed and went on.

Leaves out how attempts are carried out (`crew.py`) and kept (`staged.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["success", "failure", "exception"]
MOST_FAILURES, MOST_EXCEPTIONS = 25, 5
"""Attempts of a task without success, and of them all with an exception of the simulator, one after another, at which
collecting gives up."""


@dataclass(frozen=True, order=True)
class Ticket:
    """One attempt: the number of its task in the list of tasks, and how far its seed lies behind the first one."""

    task: int
    turn: int


@dataclass
class Ledger:
    """What has been attempted, of `tasks` tasks that need `per_task` successes each."""

    tasks: int
    per_task: int
    outcomes: dict[Ticket, Outcome] = field(default_factory=dict)
    running: set[Ticket] = field(default_factory=set)

    def begin(self, preferred: int | None = None) -> Ticket | None:
        """Return an attempt that is needed, from now on running; None where none is at present.

        `preferred` is a task that comes first if it needs one, since another task's scene takes seconds to build.
        """
        order = sorted(range(self.tasks), key=lambda task: (task != preferred, self._under_way(task), task))
        for task in order:
            if self.successes(task) + self._under_way(task) < self.per_task:
                ticket = self._first_free(task)
                self.running.add(ticket)
                return ticket
        return None

    def end(self, ticket: Ticket, outcome: Outcome) -> None:
        """Note what came of an attempt."""
        self.running.remove(ticket)
        self.outcomes[ticket] = outcome

    def successes(self, task: int) -> int:
        """Return how many attempts of a task have succeeded."""
        return sum(outcome == "success" for outcome in self._of(task).values())

    @property
    def all_successes(self) -> int:
        """How many attempts have succeeded, of all tasks."""
        return sum(outcome == "success" for outcome in self.outcomes.values())

    def attempts(self, task: int) -> int:
        """Return how many attempts of a task have ended."""
        return len(self._of(task))

    @property
    def complete(self) -> bool:
        """Whether every task has its successes."""
        return all(self.successes(task) >= self.per_task for task in range(self.tasks))

    def chosen(self) -> list[Ticket]:
        """Return the attempts that become the data set: the first successes of every task, tasks taking turns."""
        rows = [[t for t, o in sorted(self._of(task).items()) if o == "success"] for task in range(self.tasks)]
        return [row[turn] for turn in range(self.per_task) for row in rows]

    def hopeless(self) -> tuple[int, int] | None:
        """Return a task that keeps failing, if there is one, and how many times in a row it has."""
        for task in range(self.tasks):
            last = [outcome for _, outcome in sorted(self._of(task).items())]
            if len(last) >= MOST_FAILURES and "success" not in last[-MOST_FAILURES:]:
                return task, MOST_FAILURES
            if len(last) >= MOST_EXCEPTIONS and set(last[-MOST_EXCEPTIONS:]) == {"exception"}:
                return task, MOST_EXCEPTIONS
        return None

    def _of(self, task: int) -> dict[Ticket, Outcome]:
        return {ticket: outcome for ticket, outcome in self.outcomes.items() if ticket.task == task}

    def _under_way(self, task: int) -> int:
        return sum(ticket.task == task for ticket in self.running)

    def _first_free(self, task: int) -> Ticket:
        turn = 0
        while (ticket := Ticket(task, turn)) in self.outcomes or ticket in self.running:
            turn += 1
        return ticket


def yields(ledger: Ledger, names: Sequence[str]) -> Iterable[tuple[str, int, int]]:
    """Yield name, successes and attempts of every task."""
    for task, name in enumerate(names):
        yield name, ledger.successes(task), ledger.attempts(task)
