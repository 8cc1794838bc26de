"""What may be asked for in a scene of LIBERO: the episode's own goal, and those of the suite's tasks that fit it.

A goal is a set of relations, such as In(milk, basket). Another task of the suite fits the scene where everything that
its relations name is there, and where its goal is another one: the tasks of libero_spatial all put the same bowl on
the same plate, and their instructions only say where it lies, so that nothing else can be asked for there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from pi05.sim.libero.tasks import LiberoTask, tasks_of
from pi05.sim.protocol import Goal

Relation = tuple[str, ...]


@dataclass(frozen=True)
class LiberoGoal:
    """An instruction, and the relations that hold where it is fulfilled."""

    instruction: str
    relations: tuple[Relation, ...]

    def implies(self, other: Goal) -> bool:
        """Tell whether all of the other goal's relations are among these."""
        return isinstance(other, LiberoGoal) and set(other.relations) <= set(self.relations)


@dataclass(frozen=True)
class Problem:
    """What a task's file says of its scene and its goal."""

    arena: str
    things: frozenset[tuple[str, str]]
    """Kind and name of every object and fixture."""
    places: frozenset[str]
    """Names of regions that relations may name."""
    goal: LiberoGoal


@cache
def read_problem(task: LiberoTask) -> Problem:
    """Read a task's file with LIBERO's own parser, which must have been started."""
    from libero.libero.envs.bddl_utils import robosuite_parse_problem

    parsed = robosuite_parse_problem(str(task.problem_file))
    things = {
        (kind, name) for group in ("objects", "fixtures") for kind, names in parsed[group].items() for name in names
    }
    relations = tuple(tuple(str(word) for word in relation) for relation in parsed["goal_state"])
    return Problem(
        parsed["problem_name"], frozenset(things), frozenset(parsed["regions"]), LiberoGoal(task.instruction, relations)
    )


def goals_in(task: LiberoTask) -> Sequence[LiberoGoal]:
    """Return every goal that makes sense in a task's scene, the task's own first."""
    here = read_problem(task)
    goals = [here.goal]
    for other in tasks_of(task.suite):
        if other is task or other.scene != task.scene:
            continue
        there = read_problem(other)
        known = {goal.instruction for goal in goals} | {frozenset(goal.relations) for goal in goals}
        if there.goal.instruction in known or frozenset(there.goal.relations) in known:
            continue
        if there.arena == here.arena and _named(there) <= here.things | {("region", place) for place in here.places}:
            goals.append(there.goal)
    return tuple(goals)


def _named(problem: Problem) -> set[tuple[str, str]]:
    """Return kind and name of everything that a goal's relations name."""
    kinds = {name: kind for kind, name in problem.things}
    words = {word for relation in problem.goal.relations for word in relation[1:]}
    return {(kinds.get(word, "region"), word) for word in words}
