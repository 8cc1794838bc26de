"""Our side of `interop_lerobot.py`: observations and noise for both sides, our answers, and the differences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interop_cases import LIMIT
from interop_sizes import ACTION_DIM, SIZES, STATE_DIM

from pi05 import Policy
from pi05.data.collate import collate
from pi05.data.lerobot.reader import Dataset
from pi05.model.pi05 import Pi05
from pi05.types import Batch

SHAPES = (None, (224, 224), (240, 320), (96, 128), (131, 97), (480, 640))
"""Pictures: the frame's own, of the network's size, larger, smaller, wide, tall: every case of resizing and padding."""


def observations(
    root: Path, cameras: tuple[str, ...], count: int, shapes: tuple[tuple[int, int] | None, ...] = SHAPES
) -> list[dict[str, Any]]:
    """Return frames of a data set with pictures of these sizes in turn, some states out of range, some odd tasks."""
    data = Dataset(root)
    rng = np.random.default_rng(5)
    result = []
    for i in range(count):
        frame = data.frame(int(rng.integers(data.num_frames)))
        shape = shapes[i % len(shapes)]
        observation = {key: frame[key] if shape is None else picture(rng, *shape) for key in cameras}
        state = np.asarray(frame["observation.state"], np.float32)
        if i % 3 == 2:
            state = (state * rng.uniform(0.5, 1.6, STATE_DIM)).astype(np.float32)
        task = frame["task"] if i % 4 else f" {frame['task']}_twice\n"
        result.append(observation | {"observation.state": state, "task": task})
    return result


def picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a picture with smooth areas, hard edges and noise."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width)[None]
    image[..., 1] = np.linspace(255, 0, height)[:, None]
    top, left = rng.integers(height // 2), rng.integers(width // 2)
    image[top : top + height // 3, left : left + width // 3] = rng.integers(0, 256, 3)
    image[height // 2 :, : width // 4] = rng.integers(0, 256, (height - height // 2, width // 4, 3))
    return image


def draw_noise(count: int) -> np.ndarray:
    """Return the same noise for both sides, float32[count, horizon, network's action dimensions]."""
    shape = (count, SIZES["horizon"], SIZES["action_dim"])
    return np.random.default_rng(6).standard_normal(shape).astype(np.float32)


def write_observations(path: Path, given: list[dict[str, Any]], noise: np.ndarray) -> None:
    """Write what LeRobot's side reads."""
    arrays = {f"{i}/{key}": value for i, one in enumerate(given) for key, value in one.items() if key != "task"}
    arrays |= {f"{i}/noise": noise[i] for i in range(len(given))}
    np.savez(path, tasks=json.dumps([one["task"] for one in given]), **arrays)


def answers(policy: Policy, given: list[dict[str, Any]], noise: np.ndarray) -> dict[str, np.ndarray]:
    """Return tokens, normalised state, normalised actions and actions of our policy, under LeRobot's side's names."""
    result: dict[str, np.ndarray] = {}
    for i, observation in enumerate(given):
        encoded = policy.processor.encode(observation)
        drawn, batch = torch.from_numpy(noise[i : i + 1]), collate([encoded])
        with torch.inference_mode():
            chunk = policy.model.sample_actions(batch, noise=drawn)
            exact = sample_at_exact_times(policy.model, batch, drawn)
        result[f"{i}/tokens"] = encoded.tokens
        result[f"{i}/state"] = policy.processor.state_normalizer.normalize(observation["observation.state"])
        result[f"{i}/normalised"] = chunk[0, :, :ACTION_DIM].numpy()
        result[f"{i}/exact times"] = exact[0, :, :ACTION_DIM].numpy()
        result[f"{i}/actions"] = policy.infer_batch([observation], noise=drawn)[0]
    return result


def sample_at_exact_times(model: Pi05, batch: Batch, noise: torch.Tensor, steps: int = 10) -> torch.Tensor:
    """Sample as `Pi05.sample_actions`, but at LeRobot's flow times.

    Ours subtracts 0.1 in float32 again and again, as openpi does, and so arrives at 0.79999995 where LeRobot has 0.8;
    the fastest time feature, 1,570 rad per unit, makes 1e-4 rad of that. Nearly all that the two differ by is this.
    """
    tokens, valid = model.embed_prefix(batch)
    cache = model.prefill(tokens, valid)
    x_t = noise
    for step in range(steps):
        time = torch.full((len(x_t),), 1.0 - step / steps)
        x_t = x_t - model.velocity(x_t, time, cache, valid) / steps
    return x_t


def compare(ours: dict[str, np.ndarray], theirs: Any, limit: float = LIMIT) -> dict[str, Any]:
    """Return the largest differences, and whether they are within the limit."""
    count = sum(key.endswith("/actions") for key in ours)

    def largest(name: str, of_theirs: str | None = None) -> float:
        pairs = ((ours[f"{i}/{name}"], theirs[f"{i}/{of_theirs or name}"]) for i in range(count))
        return max(float(np.abs(own - other).max()) for own, other in pairs)

    tokens = all(np.array_equal(ours[f"{i}/tokens"], theirs[f"{i}/tokens"]) for i in range(count))
    found = {name: largest(name) for name in ("state", "normalised", "actions")}
    scale = max(float(np.abs(ours[f"{i}/normalised"]).max()) for i in range(count))
    keys = bool(theirs["all_keys"])
    passed = tokens and keys and max(found["normalised"], found["actions"]) <= limit and found["state"] <= LIMIT
    told = {f"max difference of {name}": value for name, value in found.items()}
    told["max difference of normalised, at LeRobot's flow times"] = largest("exact times", "normalised")
    return (
        {"pass": passed, "limit": limit, "all keys loaded": keys, "tokens equal": tokens, "observations": count}
        | told
        | {"largest normalised action": round(scale, 3)}
    )
