"""The table-top simulator as an environment and as a robot of LeRobot, for `lerobot-eval` and `lerobot-rollout`.

The simulator itself stays in pi05's process, which LeRobot's environment cannot import: requests go through a socket,
whose address is in the environment variable TABLETOP. The noise that LeRobot draws for each chunk goes there too, so
that the other side can compute the same chunk.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Client, Connection
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from interop_sizes import ACTION_DIM, CAMERAS, STATE_DIM
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.policies.pi05 import modeling_pi05
from lerobot.robots import Robot, RobotConfig

FPS = 10
NAMES = {key.rsplit(".", 1)[1]: key for key in CAMERAS}


@cache
def simulator() -> Connection:
    """Return the connection to pi05's process."""
    return Client(os.environ["TABLETOP"], "AF_UNIX")


def ask(request: str, value: Any = None) -> Any:
    """Send one request, wait for its answer."""
    simulator().send((request, value))
    return simulator().recv()


def report_noise() -> None:
    """Let LeRobot draw its noise as ever, and tell the simulator's process what it was."""
    draw = modeling_pi05.PI05Pytorch.sample_noise

    def sample_noise(self: Any, shape: tuple[int, ...], device: Any) -> torch.Tensor:
        noise = draw(self, shape, device)
        ask("noise", noise.cpu().numpy())
        return noise

    modeling_pi05.PI05Pytorch.sample_noise = sample_noise


class TabletopEnv(gym.Env):
    """A Gymnasium environment with the observation keys that LeRobot expects."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}  # noqa: RUF012  Gymnasium's interface

    def __init__(self) -> None:
        self.render_mode = "rgb_array"
        pictures = {name: gym.spaces.Box(0, 255, (*CAMERAS[key], 3), np.uint8) for name, key in NAMES.items()}
        state = gym.spaces.Box(-np.inf, np.inf, (STATE_DIM,), np.float32)
        self.observation_space = gym.spaces.Dict({"pixels": gym.spaces.Dict(pictures), "agent_pos": state})
        self.action_space = gym.spaces.Box(-np.inf, np.inf, (ACTION_DIM,), np.float32)
        self.task = self.task_description = ""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Lay the table anew."""
        super().reset(seed=seed)
        self._observe(ask("reset", seed))
        return self.observation, {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Apply one command."""
        observation, done, success = ask("step", np.asarray(action))
        self._observe(observation)
        return self.observation, float(success), done, False, {"is_success": success}

    def render(self) -> np.ndarray:
        """Return the scene camera's picture."""
        return self.observation["pixels"]["scene"]

    def _observe(self, observation: dict[str, Any]) -> None:
        self.task = self.task_description = observation["task"]
        pictures = {name: observation[key] for name, key in NAMES.items()}
        self.observation = {"pixels": pictures, "agent_pos": observation["observation.state"]}


@EnvConfig.register_subclass("tabletop")
@dataclass
class TabletopEnvConfig(EnvConfig):
    """`--env.type=tabletop`."""

    task: str | None = "Tabletop-v0"
    fps: int = FPS
    episode_length: int = 25
    features: dict[str, PolicyFeature] = field(
        default_factory=lambda: {
            "action": PolicyFeature(type=FeatureType.ACTION, shape=(ACTION_DIM,)),
            "agent_pos": PolicyFeature(type=FeatureType.STATE, shape=(STATE_DIM,)),
            **{
                f"pixels/{name}": PolicyFeature(type=FeatureType.VISUAL, shape=(*CAMERAS[key], 3))
                for name, key in NAMES.items()
            },
        }
    )
    features_map: dict[str, str] = field(
        default_factory=lambda: {
            "action": "action",
            "agent_pos": "observation.state",
            **{f"pixels/{name}": key for name, key in NAMES.items()},
        }
    )

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Return what Gymnasium makes the environment with: its own limit of steps."""
        return {"max_episode_steps": self.episode_length}


@RobotConfig.register_subclass("tabletop")
@dataclass
class TabletopRobotConfig(RobotConfig):
    """`--robot.type=tabletop`."""

    seed: int = 1000


class TabletopRobot(Robot):
    """The simulated arm as a robot: positions in, pictures and positions out."""

    config_class = TabletopRobotConfig
    name = "tabletop"
    joints = tuple(f"joint_{i}.pos" for i in range(STATE_DIM))

    def __init__(self, config: TabletopRobotConfig) -> None:
        super().__init__(config)
        self.config = config
        self.cameras: dict[str, Any] = {}
        self._observation: dict[str, Any] | None = None

    @property
    def observation_features(self) -> dict[str, Any]:
        """Return positions and picture shapes."""
        return dict.fromkeys(self.joints, float) | {name: (*CAMERAS[key], 3) for name, key in NAMES.items()}

    @property
    def action_features(self) -> dict[str, Any]:
        """Return positions."""
        return dict.fromkeys(self.joints, float)

    @property
    def is_connected(self) -> bool:
        """Return whether the table is laid."""
        return self._observation is not None

    @property
    def is_calibrated(self) -> bool:
        """Return True: a simulator needs no calibration."""
        return True

    def connect(self, calibrate: bool = True) -> None:
        """Lay the table."""
        self._observation = ask("reset", self.config.seed)

    def calibrate(self) -> None:
        """Do nothing: a simulator needs no calibration."""

    def configure(self) -> None:
        """Do nothing: a simulator has no settings."""

    def get_observation(self) -> dict[str, Any]:
        """Return what the arm and the cameras show now."""
        assert self._observation is not None
        state = dict(zip(self.joints, self._observation["observation.state"].tolist(), strict=True))
        return state | {name: self._observation[key] for name, key in NAMES.items()}

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        """Apply one command."""
        self._observation, _, _ = ask("step", np.array([action[joint] for joint in self.joints], np.float32))
        return action

    def disconnect(self) -> None:
        """Leave the simulator."""
        self._observation = None


gym.register(id="gym_tabletop/Tabletop-v0", entry_point=TabletopEnv)
report_noise()
