"""Let a scripted expert act in a simulator and write what it did as a LeRobot v3.0 data set.

Between expert and arm, half of the commands are disturbed by a random shift; recorded is what the expert wanted. So the
demonstrations leave the ideal path and show how to return to it (Laskey et al., DART, 2017). Without this, a policy
that drifts has never seen where it then is.

An episode that the expert fails is an error, never data. An episode in which the simulator raises an exception is told
and left out. Knows no simulator: all it asks stands in `protocol.py`. A benchmark whose experts may fail, and whose
simulator is slow, is collected by `collect_tasks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pi05.data.lerobot.format_v3 import REPLAY_FILE
from pi05.data.lerobot.writer import DatasetWriter
from pi05.errors import ConfigError, DataError, EvaluationError, UserError
from pi05.sim.environments import ExpertMaker, close_environment
from pi05.sim.episodes import demonstrate, nth_episode
from pi05.sim.replay_file import ReplayFile, ReplayRow

STATE, ACTION = "observation.state", "action"
MOST_EXCEPTIONS = 10
"""Simulator exceptions one after another at which collecting gives up."""


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """What was collected."""

    folder: Path
    episodes: int
    exceptions: tuple[str, ...]
    """Of the simulator, one for each episode that was left out."""


def collect_demonstrations(
    make: ExpertMaker,
    episodes: int,
    output: str | Path,
    first_seed: int = 0,
    progress: Callable[[], None] | None = None,
    settings: dict[str, Any] | None = None,
) -> Demonstrations:
    """Write `episodes` demonstrations to the new folder `output`.

    `make` makes an environment with its expert (`environments.py`); it is called again after an exception. Episodes
    have the seeds from `first_seed` on, or each task of the environment has them (`DemonstrationChoice.first_seed`).
    Raises ConfigError for an impossible number, DataError where `output` exists, EvaluationError where the expert
    fails or the simulator raises exceptions only. `progress` is called after each demonstration. `settings` are those
    that make the simulator again; with them the set can be replayed (`replay_file.py`).
    """
    output = Path(output)
    check_output(episodes, output, "--episodes")
    with _Collector(make) as collector:
        environment = collector.environment
        features = features_of(environment.cameras, environment.state_names, environment.action_names)
        with DatasetWriter(output, whole_hz(environment.fps), features, environment.robot_type) as writer:
            replay = ReplayFile(settings or {})
            turn = 0
            while writer.num_episodes < episodes:
                row = collector.record(writer, first_seed, turn)
                if row is not None:
                    replay.add(row)
                    if progress is not None:
                        progress()
                turn += 1
            if settings is not None:
                with writer.extra_file(REPLAY_FILE) as path:
                    replay.write(path)
        return Demonstrations(folder=output, episodes=episodes, exceptions=tuple(collector.exceptions))


def check_output(episodes: int, output: Path, flag: str) -> None:
    """Raise ConfigError for a number of episodes that cannot be, DataError where `output` exists."""
    if episodes < 1:
        raise ConfigError(
            "a data set needs episodes",
            wanted=f"{flag} of at least 1",
            found=str(episodes),
            remedy="give a positive number",
        )
    if output.exists():
        raise DataError(
            "the output folder exists already",
            wanted="a folder that does not exist yet",
            found=str(output),
            remedy="choose another --output, or remove the folder if you no longer need it",
        )


def whole_hz(fps: float) -> int:
    """Return a control rate as LeRobot v3.0 knows it. Raises ValueError for one that is not whole."""
    if fps != round(fps):
        raise ValueError(f"LeRobot v3.0 knows whole control rates only, not {fps:g} Hz")
    return round(fps)


def features_of(
    cameras: Mapping[str, Sequence[int]], state_names: Sequence[str], action_names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the columns of the data set as meta/info.json describes them; cameras have heights and widths (px)."""
    features: dict[str, dict[str, Any]] = {
        camera: {"dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"]}
        for camera, (height, width) in cameras.items()
    }
    for column, names in ((STATE, state_names), (ACTION, action_names)):
        features[column] = {"dtype": "float32", "shape": [len(names)], "names": list(names)}
    return features


class _Collector:
    """An environment and its expert, made anew after each exception of the simulator."""

    def __init__(self, make: ExpertMaker) -> None:
        self._make = make
        self.environment, self._expert = make()
        self.exceptions: list[str] = []
        self._in_a_row = 0

    def __enter__(self) -> _Collector:
        return self

    def __exit__(self, *_: object) -> None:
        close_environment(self.environment)

    def record(self, writer: DatasetWriter, first_seed: int, attempt: int) -> ReplayRow | None:
        """Write one episode; None where a simulator's exception left nothing behind."""
        task, turn = nth_episode(self.environment.tasks, attempt)
        try:
            steps = list(demonstrate(self.environment, self._expert, first_seed + turn, task))
        except UserError:
            raise
        except Exception as error:
            self._replace(
                f"{type(error).__name__}: {error} ({'' if task is None else f'{task}, '}seed {first_seed + turn})"
            )
            return None
        cameras = list(self.environment.cameras)
        for observation, action, _ in steps:
            images = {camera: observation[camera] for camera in cameras}
            writer.add_frame(images, {STATE: observation[STATE], ACTION: action})
        writer.end_episode(steps[0].observation["task"])
        self._in_a_row = 0
        return ReplayRow(task, first_seed + turn, None, np.stack([step.executed for step in steps]))

    def _replace(self, exception: str) -> None:
        self.exceptions.append(exception)
        self._in_a_row += 1
        if self._in_a_row == MOST_EXCEPTIONS:
            raise EvaluationError(
                f"the simulator raised {MOST_EXCEPTIONS} exceptions, one after another",
                found=exception,
                remedy="repair the simulator; nothing of this data set was kept",
            )
        close_environment(self.environment)
        self.environment, self._expert = self._make()
