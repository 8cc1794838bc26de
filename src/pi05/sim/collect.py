"""Let a scripted expert act in a simulator and write what it did as a LeRobot v3.0 data set.

Between expert and arm, half of the commands are disturbed by a random shift; recorded is what the expert wanted. So the
demonstrations leave the ideal path and show how to return to it (Laskey et al., DART, 2017). Without this, a policy
that drifts has never seen where it then is. An episode that the expert fails is an error, never data.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pi05.data.lerobot.writer import DatasetWriter
from pi05.errors import ConfigError, DataError, EvaluationError
from pi05.sim.experts import TabletopExpert
from pi05.sim.tabletop import ACTION_NAMES, STATE_NAMES, Tabletop

DISTURBED_SHARE = 0.5
DISTURBANCE = 0.02  # standard deviation, m
ROBOT_TYPE = "pi05_tabletop"


def collect(
    env_name: str = "tabletop",
    family: str = "demo",
    episodes: int = 100,
    output: str | Path = "local_dataset",
    seed: int = 0,
    image_size: int = 48,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `episodes` demonstrations to the new folder `output` and return it.

    Episode i lays its table with seed `seed + i`; the evaluation's seeds start far above. Raises ConfigError for an
    unknown environment or an impossible number, DataError where `output` exists.
    """
    output = Path(output)
    _check(env_name, episodes, output)
    env = Tabletop(family, image_size=image_size)
    features = _features(env)
    with DatasetWriter(output, fps=round(env.fps), features=features, robot_type=ROBOT_TYPE) as writer:
        for episode in range(episodes):
            _demonstrate(env, writer, seed + episode)
            if progress is not None:
                progress(episode + 1, episodes)
    return output


def _check(env_name: str, episodes: int, output: Path) -> None:
    if env_name != "tabletop":
        raise ConfigError(
            "there are scripted demonstrations only for one simulator",
            wanted="--env tabletop",
            found=f"--env {env_name}",
            remedy="use --env tabletop; demonstrations on a real robot are recorded with LeRobot",
        )
    if episodes < 1:
        raise ConfigError(
            "a data set needs episodes",
            wanted="--episodes of at least 1",
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


def _features(env: Tabletop) -> dict[str, dict[str, object]]:
    image = {
        "dtype": "video",
        "shape": [env.image_size, env.image_size, 3],
        "names": ["height", "width", "channels"],
    }
    features: dict[str, dict[str, object]] = {f"observation.images.{name}": dict(image) for name in env.camera_names}
    features["observation.state"] = {"dtype": "float32", "shape": [len(STATE_NAMES)], "names": list(STATE_NAMES)}
    features["action"] = {"dtype": "float32", "shape": [len(ACTION_NAMES)], "names": list(ACTION_NAMES)}
    return features


def _demonstrate(env: Tabletop, writer: DatasetWriter, seed: int) -> None:
    observation = env.reset(seed)
    expert = TabletopExpert(env)
    disturbance = np.random.default_rng((seed, 1))
    done = success = False
    while not done:
        action = expert.act()
        images = {name: value for name, value in observation.items() if name.startswith("observation.images.")}
        writer.add_frame(images, {"observation.state": observation["observation.state"], "action": action})
        executed = action.copy()
        if disturbance.random() < DISTURBED_SHARE:
            executed[:2] += disturbance.normal(0, DISTURBANCE, 2)
        observation, done, success = env.step(executed)
    if not success:
        raise EvaluationError(
            "the scripted expert failed its own task",
            wanted=f"success within {env.max_steps} steps",
            found=f"none: {env.instruction!r}, seed {seed}",
            remedy="report this: the simulator and its expert disagree",
        )
    writer.end_episode(env.instruction)
