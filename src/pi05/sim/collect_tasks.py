"""Demonstrations of a benchmark's tasks: experts in several processes, failures dropped and counted, resumable.

The same tasks, first seed and number give the same data set, whatever the number of processes and however often the
collection was killed: finished attempts wait in `OUTPUT.collecting`, and when there are enough of them the data set
appears whole. `collect.py` is the shorter way for a simulator that costs nothing and whose expert never fails.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pi05.data.lerobot.format_v3 import REPLAY_FILE
from pi05.data.lerobot.writer import DatasetWriter
from pi05.errors import EvaluationError
from pi05.files import remove_tree
from pi05.sim.collect import ACTION, STATE, check_output, features_of, whole_hz
from pi05.sim.crew import Crew, crew
from pi05.sim.environments import ExpertMaker
from pi05.sim.ledger import Ledger, yields
from pi05.sim.replay_file import ReplayFile, ReplayRow
from pi05.sim.staged import StagedAttempts, staging


@runtime_checkable
class Counts(Protocol):
    """What shows the progress."""

    def advance(self, remark: str = "") -> None:
        """Count one more episode."""
        ...


@dataclass(frozen=True, kw_only=True)
class TaskDemonstrations:
    """What was collected."""

    folder: Path
    yields: list[tuple[str, int, int]]
    """Task, successes, attempts."""
    exceptions: tuple[str, ...] = field(default=())
    """Of the simulator, in this process's time; each is an attempt that failed."""


def collect_tasks(
    make: ExpertMaker,
    per_task: int,
    output: Path,
    first_seed: int,
    workers: int,
    settings: dict[str, Any],
    counter: Callable[[int], AbstractContextManager[Counts]],
) -> TaskDemonstrations:
    """Write `per_task` demonstrations of each task of the environment to the new folder `output`.

    `settings` make the simulator again; a collection that was killed goes on only with the same. `counter` makes
    what shows the progress, for so many episodes. Raises DataError where `output` exists, EvaluationError where an
    expert keeps failing.
    """
    check_output(per_task, output, "--episodes-per-task")
    exceptions: list[str] = []
    with staging(output, settings | {"episodes_per_task": per_task, "first_seed": first_seed}) as staged:
        facts = staged.facts()
        ledger = None if facts is None else _ledger(staged, facts, per_task)
        if facts is None or ledger is None or not ledger.complete:
            with crew(make, staged.folder, workers, first_seed) as members:
                facts = _facts(members)
                staged.note_facts(facts)
                ledger = _ledger(staged, facts, per_task)
                with counter(ledger.tasks * per_task) as counts:
                    exceptions = _gather(members, ledger, facts["tasks"], counts)
        _write(staged, ledger, facts, output, settings)
        names = facts["tasks"] or [""]
        told = list(yields(ledger, names))
        remove_tree(staged.folder)
    return TaskDemonstrations(folder=output, yields=told, exceptions=tuple(exceptions))


def _ledger(staged: StagedAttempts, facts: dict[str, Any], per_task: int) -> Ledger:
    return Ledger(max(1, len(facts["tasks"])), per_task, staged.outcomes())


def _facts(members: Crew) -> dict[str, Any]:
    """Wait until a simulator is there."""
    while members.facts is None:
        members.news()
    return members.facts


def _gather(members: Crew, ledger: Ledger, tasks: list[str], counts: Counts) -> list[str]:
    """Let the crew make attempts until the ledger is complete; return the simulator's exceptions."""
    exceptions: list[str] = []
    for _ in range(ledger.all_successes):  # of an earlier process
        counts.advance()
    while not ledger.complete:
        for member in members.idle():
            ticket = ledger.begin(member.last_task)
            if ticket is None:
                break
            members.give(member, ticket, tasks[ticket.task] if tasks else None)
        for news in members.news():
            ledger.end(news.ticket, news.outcome)
            if news.outcome == "success":
                counts.advance(f"{ledger.all_successes} of {len(ledger.outcomes)} attempts")
            elif news.outcome == "exception":
                exceptions.append(news.remark)
        _stop_where_hopeless(ledger, tasks, exceptions)
    return exceptions


def _stop_where_hopeless(ledger: Ledger, tasks: list[str], exceptions: list[str]) -> None:
    found = ledger.hopeless()
    if found is None:
        return
    task, times = found
    raise EvaluationError(
        f"no demonstration in {times} attempts, one after another",
        wanted="a success now and then",
        found=f"none at {tasks[task] if tasks else 'this environment'}"
        + (f"; the last exception: {exceptions[-1]}" if exceptions else ""),
        remedy="leave the task out with --tasks, or report this; what was finished is kept and will be used",
    )


def _write(
    staged: StagedAttempts, ledger: Ledger, facts: dict[str, Any], output: Path, settings: dict[str, Any]
) -> None:
    """Turn the chosen attempts into the data set."""
    features = features_of(facts["cameras"], facts["state_names"], facts["action_names"])
    with DatasetWriter(output, whole_hz(facts["fps"]), features, facts["robot_type"]) as writer:
        replay = ReplayFile(settings)
        for ticket in ledger.chosen():
            recording = staged.load(ticket)
            for step, (state, action) in enumerate(zip(recording.states, recording.actions, strict=True)):
                images = {camera: pictures[step] for camera, pictures in recording.pictures.items()}
                writer.add_frame(images, {STATE: state, ACTION: action})
            writer.end_episode(recording.instruction)
            task = facts["tasks"][ticket.task] if facts["tasks"] else None
            replay.add(ReplayRow(task, recording.seed, recording.start, recording.executed))
        with writer.extra_file(REPLAY_FILE) as path:
            replay.write(path)
