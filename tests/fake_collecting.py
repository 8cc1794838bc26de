"""An expert that fails, raises or dies at seeds that are named beforehand, made in whatever process asks for it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fake_robot import FakeExpert, FakeRobot

from pi05.errors import ConfigError
from pi05.sim.protocol import Environment, Expert


class MoodyExpert(FakeExpert):
    """Does what its maker says of the present seed."""

    def __init__(self, robot: FakeRobot, maker: MoodyMaker) -> None:
        super().__init__(robot)
        self.maker = maker

    def act(self) -> np.ndarray:
        seed, task = self.robot.seed, self.robot.begun[-1][0]
        if seed in self.maker.raises:
            raise FloatingPointError("the solver diverged")
        if seed in self.maker.dies and self.maker.dies_now(seed):
            os.kill(os.getpid(), signal.SIGKILL)
        if (task, seed) in self.maker.fails:
            return np.zeros(7, np.float32)
        return super().act()


@dataclass(frozen=True)
class MoodyMaker:
    """Makes robot and expert; `folder` remembers over processes which deaths have been died."""

    folder: Path
    fails: frozenset[tuple[str, int]] = frozenset()
    raises: frozenset[int] = frozenset()
    dies: frozenset[int] = frozenset()
    again: bool = False
    refuses: bool = False

    def __call__(self) -> tuple[Environment, Expert]:
        if self.refuses:
            raise ConfigError("no such task", wanted="left_1", found="up_1", remedy="correct --tasks")
        (self.folder / f"made-{os.getpid()}").write_text(os.environ["OMP_NUM_THREADS"])
        robot = FakeRobot()
        return robot, MoodyExpert(robot, self)

    def dies_now(self, seed: int) -> bool:
        mark = self.folder / f"died-{seed}"
        if mark.exists() and not self.again:
            return False
        mark.touch()
        return True
