"""LeRobot's side of `libero_eval.py`: its own vector environment of LIBERO, in its own environment; never imports pi05.

Arguments: workers, episodes of each, steps. Drives the environments as `lerobot_eval.rollout` does, without its policy:
reset, then one step of all after the other, each with pictures of both cameras. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from importlib.metadata import version
from typing import Any

import gymnasium as gym
import numpy as np
from lerobot.envs.libero import create_libero_envs
from process_tree import cpu_seconds

SEED = 1000


def main() -> None:
    """Measure."""
    workers, episodes, steps = (int(word) for word in sys.argv[1:4])
    kind: Any = gym.vector.SyncVectorEnv
    if workers > 1:  # what LeRobot does with eval.use_async_envs
        kind = partial(gym.vector.AsyncVectorEnv, shared_memory=True, context="forkserver")
    kwargs = {"obs_type": "pixels_agent_pos", "task_ids": [0], "observation_height": 256, "observation_width": 256}
    sys.stdout.flush()
    spoken = os.dup(1)
    os.dup2(2, 1)  # LIBERO and robosuite print there
    made = create_libero_envs("libero_object", workers, kwargs, env_cls=kind, episode_length=steps)
    environment = made["libero_object"][0]
    carry_out(environment, 1, 3, workers)  # everything is built, compiled and drawn once
    started, cpu = time.perf_counter(), cpu_seconds()
    looks = carry_out(environment, episodes, steps, workers)
    wall, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    environment.close()
    names = ("lerobot", "hf-libero", "robosuite", "mujoco", "torch", "numpy")
    answer: dict[str, Any] = {"wall_s": wall, "cpu_s": cpu, "episodes": episodes * workers, "looks": looks}
    answer["versions"] = {name: version(name) for name in names}
    os.write(spoken, (json.dumps(answer) + "\n").encode())


def carry_out(environment: Any, episodes: int, steps: int, workers: int) -> int:
    """Carry out episodes one after another in all environments; return how often pictures were delivered."""
    looks = 0
    for episode in range(episodes):
        generator = np.random.default_rng(episode)
        observation, _ = environment.reset(seed=[SEED + episode * workers + i for i in range(workers)])
        for _ in range(steps):
            action = (0.3 * generator.standard_normal((workers, 7))).clip(-1, 1).astype(np.float32)
            observation, _, terminated, _, _ = environment.step(action)
            looks += workers
            assert not terminated.any(), "random actions do not put things into baskets"
        assert observation["pixels"]["image"].shape == (workers, 256, 256, 3)
    return looks


if __name__ == "__main__":
    main()
