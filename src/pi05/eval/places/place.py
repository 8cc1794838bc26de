"""One environment and the episode that it carries out now, chunk of actions by chunk of actions.

It runs in the process that holds the environment, which may be another one than the policy's, so nothing here imports
torch. Leaves out the policy, and who lends places to episodes (`here.py`, `processes.py`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8

from pi05.errors import EvaluationError, UserError
from pi05.eval.episode import EpisodePlan, EpisodeResult, Outcome, Spent
from pi05.eval.instructions import other_instructions
from pi05.sim.environments import close_environment
from pi05.sim.protocol import Environment, Movable, Moving, Observation

SWAP_ATTEMPTS = 20
SWAP_SEED_STRIDE = 10**12
"""Distance from a layout that allows no swap to the one taken instead; far from every other evaluation's seeds."""
FRAMES_PER_FILM = 60
"""Frames kept of one episode at most, besides the last one."""
FRAME_SIZE_PX = 96
"""Side of a frame that is drawn for a film; pages enlarge it."""
LOOK_SIZE_PX = 128
"""Side where a simulator has that picture already, having drawn it for the policy."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentFacts:
    """What is known of an environment before its first episode."""

    fps: float
    max_steps: int
    cameras: Mapping[str, tuple[int, int]]
    action_names: tuple[str, ...]
    tasks: tuple[str, ...]
    motions: tuple[bool, ...] = ()
    """Action dimensions that move as long as they are not 0; none told: all are positions."""
    notes: tuple[str, ...] = ()
    """What a report has to say of the simulator, such as another version than the usual one."""


def facts_of(environment: Environment) -> EnvironmentFacts:
    """Return the facts of an environment."""
    return EnvironmentFacts(
        fps=environment.fps,
        max_steps=environment.max_steps,
        cameras=dict(environment.cameras),
        action_names=tuple(environment.action_names),
        tasks=tuple(environment.tasks),
        motions=tuple(environment.motions) if isinstance(environment, Moving) else (),
        notes=tuple(environment.notes),
    )


@dataclass(kw_only=True)
class Turn:
    """What an environment answers: it waits for actions, or the episode has ended."""

    observation: Observation | None = None
    """With `task` as the policy is asked; None when the episode has ended."""
    result: EpisodeResult | None = None
    frames: Sequence[UInt8[np.ndarray, "height width 3"]] = ()
    """The film, at the end."""
    stride: int = 1
    """Steps of the simulator between two frames."""
    spent: Spent = field(default_factory=Spent)
    """Where the whole episode's time went, at the end."""
    memory_bytes: int | None = None
    """Most memory that the process of the environment has held; None in this process."""


class Place:
    """An environment that carries out one episode at a time. An exception of the simulator ends it as an error."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.plan = EpisodePlan(index=-1, seed=0)

    def close(self) -> None:
        """Close the environment."""
        close_environment(self.environment)

    def begin(self, plan: EpisodePlan) -> Turn:
        """Begin an episode. Raises EvaluationError where the instruction shall be swapped and cannot be."""
        self.plan, self.seed, self.steps = plan, plan.seed, 0
        self.instruction = self.asked = ""
        self.start: str | None = None
        self.frames: list[UInt8[np.ndarray, "height width 3"]] = []
        self.stride = -(-self.environment.max_steps // FRAMES_PER_FILM)
        self.spent = Spent()
        try:
            observation = self._reset()
            if plan.swap is not None:
                observation = self._swap(observation, plan.swap)
            self.start = fingerprint(observation)
            return self._asks(observation)
        except UserError:
            raise
        except Exception as error:
            return self._fail("reset", error)

    def execute(self, actions: Float[np.ndarray, "A n"]) -> Turn:
        """Carry out the actions, open loop, until the episode ends: goal reached (own or asked for) or out of steps.

        A swapped episode ends at whichever goal is reached first, as an episode does whose instruction is not swapped.
        """
        if self.plan.film == "looks":
            self.stride = max(self.stride, len(actions)) if self.steps else len(actions)
        try:
            for action in actions:
                if self.plan.film == "steps" and self.steps % self.stride == 0:
                    self._draw(FRAME_SIZE_PX)
                with self._time("physics_s"):
                    done, success = self.environment.step(action)
                    self.steps += 1
                    swapped = self.asked != self.instruction and self.environment.check(self.asked)
                if success or swapped or done or self.steps >= (self.plan.max_steps or self.environment.max_steps):
                    return self._end(success, swapped)
            return self._asks(self._look())
        except Exception as error:
            return self._fail(f"step {self.steps}", error)

    def _reset(self) -> Observation:
        with self._time("reset_s"):
            self.environment.reset(self.seed, self.plan.task)
        observation = self._look()
        self.instruction = self.asked = observation["task"]
        return observation

    def _look(self) -> Observation:
        with self._time("look_s"):
            observation = self.environment.observe()
        self.spent.looks += 1
        return observation

    def _swap(self, observation: Observation, choice: int) -> Observation:
        """Ask for something else; a layout in which nothing else can be asked for is passed over for another one."""
        for _ in range(SWAP_ATTEMPTS):
            others = other_instructions(self.environment, self.instruction)
            if others:
                self.asked = others[choice % len(others)]
                return observation
            self.seed += SWAP_SEED_STRIDE
            observation = self._reset()
        raise EvaluationError(
            "the instruction cannot be swapped: the layouts allow no other goal",
            found=f"{SWAP_ATTEMPTS} layouts, the last one with {self.instruction!r} only",
            remedy="evaluate without --swap_instruction, or in a family with several goals per layout",
        )

    def _asks(self, observation: Observation) -> Turn:
        if self.plan.film == "looks":
            self._draw(LOOK_SIZE_PX)
        return Turn(observation={**observation, "task": self.asked})

    def _draw(self, size_px: int) -> None:
        with self._time("film_s"):
            self.frames.append(self.environment.render(size_px))

    def _end(self, success: bool, swapped: bool) -> Turn:
        if self.plan.film is not None:
            self._draw(FRAME_SIZE_PX if self.plan.film == "steps" else LOOK_SIZE_PX)
        return self._ended("success" if success else "failure", swapped_success=swapped)

    def _fail(self, where: str, error: Exception) -> Turn:
        return self._ended("error", error=f"{where}: {type(error).__name__}: {error}")

    def _ended(self, outcome: Outcome, *, swapped_success: bool = False, error: str | None = None) -> Turn:
        swapped = self.asked != self.instruction and error is None
        self.spent.steps = self.steps
        result = EpisodeResult(
            index=self.plan.index,
            seed=self.seed,
            instruction=self.instruction,
            asked=self.asked,
            outcome=outcome,
            steps=self.steps,
            swapped_success=swapped_success if swapped else None,
            error=error,
            task=self.plan.task,
            start=self.start,
            moved=self._moved() if error is None else None,
        )
        return Turn(result=result, frames=self.frames, stride=self.stride, spent=self.spent)

    def _moved(self) -> tuple[str, ...] | None:
        return tuple(self.environment.moved) if isinstance(self.environment, Movable) else None

    @contextmanager
    def _time(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        setattr(self.spent, name, getattr(self.spent, name) + time.perf_counter() - started)


def fingerprint(observation: Observation) -> str:
    """Return a hash of all arrays and texts of an observation."""
    digest = hashlib.sha256()
    for name, value in sorted(observation.items()):
        if isinstance(value, np.ndarray | str):
            digest.update(name.encode() + (value.encode() if isinstance(value, str) else value.tobytes()))
    return digest.hexdigest()[:16]
