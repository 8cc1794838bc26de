"""Subjects for the checks of recipe, base and pictures: small data sets with their recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pi05.check.subject import Base, Recipe, Subject
from pi05.data.cameras import CameraSlots, assign_slots
from pi05.data.lerobot.reader import Dataset
from pi05.data.lerobot.writer import DatasetWriter
from pi05.data.processor import Processor
from pi05.data.statistics import compute_statistics
from pi05.data.tokenizer import Tokenizer
from pi05.finding import Finding
from pi05.train.config import TINY_BASE

TASKS = ("put the red block on the plate", "open the left drawer")
JOINTS = ("shoulder", "elbow", "wrist_roll", "gripper")
SIZE = 32

Picture = Callable[[str, int, int], np.ndarray]
"""Camera, episode, frame → picture."""
Change = Callable[[int, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Episode, states, actions → states, actions."""


def motion(rng: np.random.Generator, length: int, dims: int = len(JOINTS)) -> np.ndarray:
    """Return a smooth random motion [length + 1, dims] about a middle of each joint's own."""
    time = np.arange(length + 1)[:, None]
    rate, phase = rng.uniform(0.03, 0.08, dims), rng.uniform(0, 6, dims)
    return (np.sin(rate * time + phase) * np.linspace(0.5, 1.2, dims) + np.linspace(-1, 1, dims)).astype(np.float32)


def write_set(
    root: Path,
    *,
    episodes: int = 6,
    length: int = 60,
    fps: int = 10,
    cameras: Sequence[str] = (),
    picture: Picture | None = None,
    tasks: Sequence[str] = TASKS,
    seed: int = 0,
    change: Change | None = None,
) -> Dataset:
    """Write a set whose actions are where the joints are two frames later; `change` gives an episode others."""
    rng = np.random.default_rng(seed)
    vector = {"dtype": "float32", "shape": [len(JOINTS)], "names": list(JOINTS)}
    keys = {camera: f"observation.images.{camera}" for camera in cameras}
    features: dict[str, Any] = {key: {"dtype": "video", "shape": [SIZE, SIZE, 3]} for key in keys.values()}
    features |= {"observation.state": vector, "action": vector}
    draw = picture or scene
    with DatasetWriter(root, fps, features, "made-up") as writer:
        for episode in range(episodes):
            path = motion(rng, length + 1)
            states, actions = path[:length], path[2:]
            if change is not None:
                states, actions = change(episode, states, actions)
            for frame in range(len(states)):
                images = {key: draw(camera, episode, frame) for camera, key in keys.items()}
                writer.add_frame(images, {"observation.state": states[frame], "action": actions[frame]})
            writer.end_episode(tasks[episode % len(tasks)])
    return Dataset(root)


def scene(camera: str, episode: int, frame: int) -> np.ndarray:
    """Return a still background of the camera's own with a bright square that moves; on a wrist all of it moves."""
    rng = np.random.default_rng(sum(map(ord, camera)))
    picture = rng.integers(40, 170, (4, 4, 3), dtype=np.uint8).repeat(SIZE // 4, 0).repeat(SIZE // 4, 1)
    picture = (picture * (1.0, 0.8, 0.55)).astype(np.uint8)
    if "wrist" in camera:
        picture = np.roll(picture, 4 * frame + episode, axis=1)
    x, y = (7 * episode + frame) % (SIZE - 8), (5 * episode + frame // 2) % (SIZE - 8)
    picture[y : y + 8, x : x + 8] = (230, 200, 60)
    return picture


def make_subject(
    dataset: Dataset,
    *,
    relative: Sequence[bool] | None = None,
    held_out: Sequence[int] = (5,),
    n_action_steps: int = 5,
    horizon: int = 10,
    base: Base | None = None,
    **settings: Any,
) -> Subject:
    """Return a data set with its recipe, and with a base; `settings` are those of the processor."""
    train = [number for number in range(dataset.num_episodes) if number not in held_out]
    mask = None if relative is None else np.array(relative, bool)
    statistics = compute_statistics(dataset, train, horizon, mask)
    slots = assign_slots(dataset.camera_keys) if dataset.camera_keys else CameraSlots(scene="observation.images.front")
    of_base = settings.pop("statistics_of_base", False)
    values: dict[str, Any] = {
        "slots": slots,
        "state_stats": statistics.state,
        "action_stats": statistics.action,
        "tokenizer": Tokenizer.load(TINY_BASE),
        "image_size": 48,
        "action_dim": 32,
        "horizon": horizon,
        "max_prompt_tokens": 64,
        "fps": dataset.fps,
        "action_names": tuple(dataset.action_names),
        "state_names": tuple(dataset.state_names),
        "relative_mask": None if relative is None else tuple(relative),
    }
    recipe = Recipe(
        processor=Processor(**{**values, **settings}),
        statistics=statistics,
        train_episodes=train,
        held_out=list(held_out),
        n_action_steps=n_action_steps,
        statistics_of_base=of_base,
    )
    return Subject(dataset=dataset, episodes=list(range(dataset.num_episodes)), recipe=recipe, base=base)


def found(findings: Iterable[Finding], *statuses: str) -> dict[str, Finding]:
    """Return findings by name, those of these severities alone where some are given."""
    return {finding.name: finding for finding in findings if not statuses or finding.status in statuses}
