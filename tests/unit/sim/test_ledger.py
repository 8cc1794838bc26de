"""Which attempts are made depends on tasks, seeds and outcomes, never on the number of processes or on their speed."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from pi05.sim.ledger import MOST_EXCEPTIONS, MOST_FAILURES, Ledger, Outcome, Ticket, yields


def outcome_of(ticket: Ticket, share: float) -> Outcome:
    return "success" if random.Random(str(ticket)).random() < share else "failure"


def collect(tasks: int, per_task: int, workers: int, order: random.Random, share: float, stop_after: int) -> Ledger:
    """Let that many processes finish in any order; after `stop_after` attempts all that run is lost, and begun anew."""
    ledger = Ledger(tasks, per_task)
    running: list[Ticket] = []
    while not ledger.complete:
        if len(ledger.outcomes) == stop_after:
            ledger, running, stop_after = Ledger(tasks, per_task, dict(ledger.outcomes)), [], -1
        while len(running) < workers:
            ticket = ledger.begin(order.choice([None, order.randrange(tasks)]))
            if ticket is None:
                break
            running.append(ticket)
        ticket = running.pop(order.randrange(len(running)))
        ledger.end(ticket, outcome_of(ticket, share))
    return ledger


@given(
    tasks=st.integers(1, 4),
    per_task=st.integers(1, 5),
    workers=st.integers(1, 6),
    seed=st.integers(0, 2**32),
    share=st.floats(0.4, 1.0),
    stop_after=st.integers(-1, 12),
)
def test_the_same_attempts_whoever_makes_them(
    tasks: int, per_task: int, workers: int, seed: int, share: float, stop_after: int
) -> None:
    alone = collect(tasks, per_task, 1, random.Random(0), share, -1)
    many = collect(tasks, per_task, workers, random.Random(seed), share, stop_after)
    assert many.outcomes == alone.outcomes
    assert many.chosen() == alone.chosen()
    for task in range(tasks):
        last = Ticket(task, alone.attempts(task) - 1)
        assert (alone.successes(task), alone.outcomes[last]) == (per_task, "success")  # not one attempt more


def test_tasks_take_turns_in_the_data_set() -> None:
    ledger = Ledger(2, 2)
    for ticket, outcome in ((Ticket(0, 0), "failure"), (Ticket(0, 1), "success"), (Ticket(0, 2), "success")):
        ledger.outcomes[ticket] = outcome  # type: ignore[assignment]
    ledger.outcomes |= {Ticket(1, 0): "success", Ticket(1, 1): "success"}
    assert ledger.chosen() == [Ticket(0, 1), Ticket(1, 0), Ticket(0, 2), Ticket(1, 1)]
    assert list(yields(ledger, ["a", "b"])) == [("a", 2, 3), ("b", 2, 2)]
    assert ledger.all_successes == 4


def test_a_process_keeps_its_task_while_that_needs_attempts() -> None:
    ledger = Ledger(3, 1)
    assert ledger.begin(2) == Ticket(2, 0)
    assert ledger.begin(2) == Ticket(0, 0)
    assert ledger.begin(2) == Ticket(1, 0)
    assert ledger.begin(2) is None
    ledger.end(Ticket(1, 0), "failure")
    assert ledger.begin(2) == Ticket(1, 1)


def test_a_task_that_keeps_failing_is_hopeless() -> None:
    ledger = Ledger(2, 1)
    for turn in range(MOST_FAILURES):
        assert ledger.hopeless() is None
        ledger.outcomes[Ticket(1, turn)] = "failure"
    assert ledger.hopeless() == (1, MOST_FAILURES)
    assert Ledger(1, 1, {Ticket(0, turn): "exception" for turn in range(MOST_EXCEPTIONS)}).hopeless() == (0, 5)
