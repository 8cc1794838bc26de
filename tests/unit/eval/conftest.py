"""Actors and environments with which rollouts can be predicted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from pi05.eval.config import EvalConfig
from pi05.eval.film import Gallery
from pi05.eval.result import EvalResult
from pi05.eval.rollout import run_episodes
from pi05.machine import machine_info
from pi05.sim.experts import TabletopExpert
from pi05.sim.tabletop import Tabletop


class OpenTabletop(Tabletop):
    """A table that shows itself in its observations, so that a scripted actor can act on it."""

    def observe(self) -> dict[str, object]:
        return {**super().observe(), "environment": self}


class BrokenTabletop(OpenTabletop):
    """A table whose simulator fails at the third step of layouts with an odd seed."""

    def step(self, action: np.ndarray) -> tuple[bool, bool]:
        if self.seed % 2 and self.steps == 2:
            raise FloatingPointError("the solver diverged")
        return super().step(action)

    def reset(self, seed: int, task: str | None = None) -> None:
        self.seed = seed
        super().reset(seed, task)


class ExpertActor:
    """Acts as the expert does for the task in the observation; with `deaf`, for the environment's own."""

    n_action_steps = 1
    noise_shape = (2, 32)

    def __init__(self, deaf: bool = False, clumsy: float = -np.inf) -> None:
        self.deaf, self.clumsy = deaf, clumsy
        self.batch_sizes: list[int] = []
        self.noise: list[np.ndarray] = []

    def infer_batch(
        self, observations: Sequence[dict[str, Any]], noise: Any = None, num_steps: int = 10
    ) -> list[np.ndarray]:
        self.batch_sizes.append(len(observations))
        self.noise.append(noise.numpy())
        return [self._chunk(observation, n.numpy()) for observation, n in zip(observations, noise, strict=True)]

    def _chunk(self, observation: dict[str, Any], noise: np.ndarray) -> np.ndarray:
        environment = observation["environment"]
        own = environment.goal
        if not self.deaf:
            environment.goal = environment._find_goal(observation["task"])
        action = TabletopExpert(environment).act()
        environment.goal = own
        if noise[0, 0] < self.clumsy:  # lets go, so that the outcome depends on the noise
            action = np.array([0.2, 0.2, 1.0], np.float32)
        return np.stack([action, np.full_like(action, np.nan)])[: self.n_action_steps]


class LazyActor(ExpertActor):
    """Stays where it is."""

    def _chunk(self, observation: dict[str, Any], noise: np.ndarray) -> np.ndarray:
        return observation["observation.state"][None]


def measure(actor: Any, make: Any, **settings: Any) -> EvalResult:
    gallery = Gallery(limit=2)
    config = EvalConfig(**{"episodes": 6, **settings})
    return EvalResult(
        config=config.to_dict(),
        policy={"path": "runs/mine", "step": 1200},
        environment={"name": "tabletop", "family": "demo", "fps": 10.0, "max_steps": 60},
        episodes=run_episodes(actor, make, config, gallery=gallery),
        machine=machine_info(),
        date="2025-11-22T12:00:00+00:00",
        wall_s=61.0,
        flagged=["state dimension 0 is <9>"],
        gallery=gallery,
    )


@pytest.fixture
def measured() -> Callable[..., EvalResult]:
    return measure


@pytest.fixture
def open_tabletop() -> type[OpenTabletop]:
    return OpenTabletop


@pytest.fixture
def broken_tabletop() -> type[BrokenTabletop]:
    return BrokenTabletop


@pytest.fixture
def expert() -> type[ExpertActor]:
    return ExpertActor


@pytest.fixture
def lazy() -> type[LazyActor]:
    return LazyActor
