"""LeRobot's side of `libero_contract.py`: its own LIBERO environment under given actions. Runs in LeRobot's Python."""

from __future__ import annotations

import json
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np


def main(order: dict[str, Any]) -> None:
    """Carry out every case and write what was seen."""
    folder = Path(order["folder"])
    for suite, number, episodes in order["cases"]:
        environment, look = make(suite, number, order["px"])
        for episode in range(episodes):
            looks = [look(environment.reset(seed=[order["seed"] + episode])[0])]
            moves = np.random.default_rng(episode).uniform(-1, 1, (order["steps"], 7)).astype(np.float32)
            for step, action in enumerate(moves, start=1):
                seen, *_ = environment.step(action[None])
                if step % order["every"] == 0:
                    looks.append(look(seen))
            inner = environment.envs[0]
            np.savez(
                folder / f"{suite}-{number}-{episode}.npz",
                image0=np.stack([frames[0] for frames, _ in looks]),
                image1=np.stack([frames[1] for frames, _ in looks]),
                state=np.stack([state for _, state in looks]),
                joints=inner._env.get_sim_state(),
                fixtures=np.asarray(inner._env.sim.model.body_pos),
                task=inner.task_description,
            )
        environment.close()
    versions = {name: metadata.version(name) for name in ("lerobot", *order["packages"])}
    (folder / "about.json").write_text(json.dumps({"versions": versions}))


def make(suite: str, number: int, px: int) -> Any:
    """Return LeRobot's vector environment of one task, and the function that turns what it sees into a policy's input.

    LeRobot gives pictures as float [3, height, width] in 0 … 1, out of 8 bits.
    """
    import gymnasium as gym
    from lerobot.envs.libero import create_libero_envs
    from lerobot.envs.utils import preprocess_observation
    from lerobot.processor.env_processor import LiberoProcessorStep

    settings = {
        "task_ids": [number],
        "obs_type": "pixels_agent_pos",
        "observation_width": px,
        "observation_height": px,
    }
    environment = create_libero_envs(suite, 1, settings, env_cls=gym.vector.SyncVectorEnv)[suite][number]

    def look(seen: Any) -> tuple[list[np.ndarray], np.ndarray]:
        given = LiberoProcessorStep().observation(preprocess_observation(seen))
        pictures = [given[f"observation.images.{name}"][0].numpy() for name in ("image", "image2")]
        frames = [np.round(picture * 255).astype(np.uint8).transpose(1, 2, 0) for picture in pictures]
        return frames, given["observation.state"][0].numpy()

    return environment, look


def prepare(assets: str) -> None:
    """Tell LIBERO where its files are, before it asks on the terminal; LeRobot leaves that to the user."""
    import os
    from importlib.util import find_spec

    package = find_spec("libero")
    assert package is not None
    root = next(Path(place) / "libero" for place in package.submodule_search_locations or ())
    folder = tempfile.mkdtemp(prefix="libero-")
    places = {"benchmark_root": str(root), "bddl_files": str(root / "bddl_files"), "datasets": folder}
    places |= {"init_states": str(root / "init_files"), "assets": assets}
    (Path(folder) / "config.yaml").write_text(json.dumps(places))
    os.environ["LIBERO_CONFIG_PATH"] = folder
    import libero.libero

    libero.libero._assets_path_cache = assets


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    prepare(given["assets"])
    main(given)
