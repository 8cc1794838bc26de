"""A made-up robot with tasks, numbered initial states and failures, as unlike the table-top simulator as can be."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi05.sim.episodes import shift_half
from pi05.sim.protocol import Environment, Expert, Goal


@dataclass(frozen=True)
class TurnGoal:
    """A way to turn the first joint, in one of two wordings."""

    instruction: str
    direction: int

    def implies(self, other: Goal) -> bool:
        return isinstance(other, TurnGoal) and other.direction == self.direction


class FakeRobot:
    """Seven joints, an eighth number in the state, two cameras of other sizes, 20 Hz, two tasks."""

    fps = 20.0
    max_steps = 12
    robot_type = "fake_robot"
    cameras = {"observation.images.front": (24, 32), "observation.images.wrist": (16, 16)}  # noqa: RUF012
    state_names = (*(f"joint_{i}" for i in range(7)), "load")
    action_names = tuple(f"joint_{i}" for i in range(7))
    tasks = ("left_1", "right_1")
    notes = ()
    goals: tuple[TurnGoal, ...] = ()

    def __init__(self, broken_seeds: Collection[int] = ()) -> None:
        self.broken_seeds = broken_seeds
        self.begun: list[tuple[str | None, int]] = []
        self.looks = self.closings = 0

    def reset(self, seed: int, task: str | None = None) -> None:
        assert task in self.tasks
        self.begun.append((task, seed))
        self.seed, self.steps = seed, 0
        self.goals = (TurnGoal("turn left", -1), TurnGoal("go left", -1), TurnGoal("turn right", 1))
        self.goal = self.goals[0] if task == "left_1" else self.goals[2]
        self.joints = np.full(7, 0.01 * (seed % 10))

    def observe(self) -> dict[str, Any]:
        self.looks += 1
        brightness = int(100 + 50 * self.joints[0])
        pictures = {name: np.full((*size, 3), brightness, np.uint8) for name, size in self.cameras.items()}
        state = np.array([*self.joints, self.steps], np.float32)
        return {**pictures, "observation.state": state, "task": self.goal.instruction}

    def step(self, action: np.ndarray) -> tuple[bool, bool]:
        if self.seed in self.broken_seeds and self.steps == 2:
            raise FloatingPointError("the solver diverged")
        self.joints = (self.joints + action) / 2
        self.steps += 1
        success = self.check(self.goal.instruction)
        return success or self.steps == self.max_steps, success

    def check(self, instruction: str) -> bool:
        direction = next(goal.direction for goal in self.goals if goal.instruction == instruction)
        return bool(self.joints[0] * direction > 0.9)

    def render(self, size: int) -> np.ndarray:
        return np.zeros((size, size, 3), np.uint8)

    def close(self) -> None:
        self.closings += 1


class FakeExpert:
    """Turns the first joint to where it shall be."""

    disturbance = (0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.2)

    def __init__(self, robot: FakeRobot) -> None:
        self.robot = robot
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def act(self) -> np.ndarray:
        return np.array([self.robot.goal.direction, *[0.0] * 6], np.float32)

    def disturb(self, action: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return shift_half(action, self.disturbance, generator)


class Workshop:
    """Makes robots and their experts, and remembers them."""

    def __init__(self, broken_seeds: Collection[int] = ()) -> None:
        self.broken_seeds = broken_seeds
        self.robots: list[FakeRobot] = []

    def robot(self) -> Environment:
        self.robots.append(FakeRobot(self.broken_seeds))
        return self.robots[-1]

    def robot_and_expert(self) -> tuple[Environment, Expert]:
        robot = FakeRobot(self.broken_seeds)
        self.robots.append(robot)
        return robot, FakeExpert(robot)
