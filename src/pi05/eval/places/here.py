"""Environments in this process, in lockstep: each answers at once, and all that wait are answered by one inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from pi05.eval.episode import EpisodePlan
from pi05.eval.places.place import EnvironmentFacts, Place, Turn, facts_of
from pi05.sim.protocol import Environment


@runtime_checkable
class Places(Protocol):
    """What a rollout asks of environments, wherever they are."""

    @property
    def facts(self) -> EnvironmentFacts:
        """What all of these environments have in common."""
        ...

    def free(self) -> list[str | None]:
        """Return, for each environment that nobody uses, the task that it had last: another one may cost time."""
        ...

    def begin(self, plan: EpisodePlan, last_task: str | None) -> None:
        """Begin an episode in a free environment whose last task that was."""
        ...

    def execute(self, episode: int, actions: Float[np.ndarray, "A n"]) -> None:
        """Let the environment of the episode carry out the actions."""
        ...

    def turns(self, *, wait: bool) -> Mapping[int, Turn]:
        """Return what has been answered since, by episode; with `wait` only when there is news, which may be none."""
        ...


class PlacesHere:
    """Up to `count` environments of this process; one that failed is closed and not lent again."""

    def __init__(self, make: Callable[[], Environment], count: int) -> None:
        self._make, self._count = make, count
        self._free: list[Place] = []
        self._used: dict[int, Place] = {}
        self._answers: dict[int, Turn] = {}

    def __enter__(self) -> PlacesHere:
        self._free.append(Place(self._make()))
        self.facts = facts_of(self._free[0].environment)
        return self

    def __exit__(self, *_: object) -> None:
        for place in [*self._free, *self._used.values()]:
            place.close()

    def free(self) -> list[str | None]:
        """Return one entry per free environment; those that are not made yet are free too."""
        return [None] * (self._count - len(self._used))

    def begin(self, plan: EpisodePlan, last_task: str | None) -> None:
        """Begin an episode."""
        del last_task  # places are alike here
        place = self._free.pop() if self._free else Place(self._make())
        self._used[plan.index] = place
        self._answer(plan.index, place.begin(plan))

    def execute(self, episode: int, actions: Float[np.ndarray, "A n"]) -> None:
        """Carry out the actions."""
        self._answer(episode, self._used[episode].execute(actions))

    def turns(self, *, wait: bool) -> Mapping[int, Turn]:
        """Return all answers; nobody ever waits."""
        del wait
        answers, self._answers = self._answers, {}
        return answers

    def _answer(self, episode: int, turn: Turn) -> None:
        self._answers[episode] = turn
        if turn.result is None:
            return
        place = self._used.pop(episode)
        if turn.result.outcome == "error":
            place.close()
        else:
            self._free.append(place)
