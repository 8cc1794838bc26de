"""A table-top environment that dies, hangs or raises in episodes that are named beforehand; once, or each time."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pi05.errors import ConfigError
from pi05.sim.tabletop import Tabletop

Fate = Literal["dies", "hangs", "raises", "exits"]


class CrashingTabletop(Tabletop):
    """A short episode on the table; at its third step what was planned for its seed happens."""

    def __init__(self, maker: CrashMaker) -> None:
        super().__init__("demo", max_steps=maker.max_steps)
        self.scratch = Path(tempfile.mkdtemp())  # which `close` removes, unless the process is killed before
        self.maker = maker

    def reset(self, seed: int, task: str | None = None) -> None:
        super().reset(seed, task)
        self.seed = seed

    def close(self) -> None:
        self.scratch.rmdir()

    def step(self, action: np.ndarray) -> tuple[bool, bool]:
        if self.steps == 2:
            self.maker.meet(self.seed)
        return super().step(action)


@dataclass(frozen=True)
class CrashMaker:
    """Makes the environments, in whatever process; `folder` remembers over processes what has happened already."""

    folder: Path
    fates: dict[int, Fate]
    """By seed."""
    always: bool = False
    max_steps: int = 6
    slow_seeds: tuple[int, ...] = ()

    def __call__(self) -> CrashingTabletop:
        return CrashingTabletop(self)

    def meet(self, seed: int) -> None:
        """Let the fate of this seed happen."""
        if seed in self.slow_seeds:
            time.sleep(0.5)
        mark = self.folder / f"happened-{seed}"
        if seed not in self.fates or (mark.exists() and not self.always):
            return
        mark.touch()
        match self.fates[seed]:
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hangs":
                time.sleep(1000)
            case "exits":
                print("the solver says goodbye", flush=True)
                os._exit(7)
            case "raises":
                raise FloatingPointError("the solver diverged")


class Unwilling(Tabletop):
    """Cannot be made, and says what to do."""

    def __init__(self) -> None:
        raise ConfigError("no picture can be drawn here", wanted="EGL", remedy="install libegl1")


class Unable(Tabletop):
    """Cannot be made."""

    def __init__(self) -> None:
        raise OSError("no display")
