"""Recordings of robots in memory: sound ones drawn from a seed, real ones, both to be altered before a check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pi05.check.subject import Subject
from pi05.data.lerobot.reader import Dataset, Episode

SHARED = [place / "shared" / "datasets" for place in Path(__file__).resolve().parents]
"""Where real data sets lie, where this machine has them."""
GHOST = "observation.images.egoview"
"""A camera that GR1's info.json names and that has no files."""
ARM = [*range(22, 35)]
"""Right arm and hand of GR1: the dimensions that move much."""


@dataclass(kw_only=True, repr=False, eq=False)
class Recording(Dataset):
    """States and actions of some episodes, with all that the checks of numbers and tasks ask of a data set."""

    state: np.ndarray
    action: np.ndarray
    lengths: Sequence[int]
    fps: float = 20.0
    state_names: list[str] = field(default_factory=list)
    action_names: list[str] = field(default_factory=list)
    texts: Sequence[str] = ("pick up the red cube",)
    """Task of each episode; the last one is that of all further ones."""

    def __post_init__(self) -> None:
        self.lengths = [int(length) for length in self.lengths]
        self.num_episodes, self.num_frames = len(self.lengths), int(sum(self.lengths))
        starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).tolist()
        tasks = [self.texts[min(i, len(self.texts) - 1)] for i in range(self.num_episodes)]
        self.tasks = list(dict.fromkeys([*tasks, *self.texts]))
        self.episodes = [
            Episode(i, start, length, (text,))
            for i, (start, length, text) in enumerate(zip(starts, self.lengths, tasks, strict=True))
        ]
        self.state_dim, self.action_dim = self.state.shape[1], self.action.shape[1]
        self.state_names = self.state_names or [f"joint_{i}" for i in range(self.state_dim)]
        self.action_names = self.action_names or [f"joint_{i}" for i in range(self.action_dim)]

    def states(self) -> np.ndarray:
        return self.state

    def actions(self) -> np.ndarray:
        return self.action

    def task_numbers(self) -> np.ndarray:
        return np.repeat([self.tasks.index(episode.tasks[0]) for episode in self.episodes], self.lengths)

    def task(self, frame: int) -> str:
        return self.tasks[int(self.task_numbers()[frame])]

    def frames(self, episode: int) -> slice:
        """Return the frames of an episode."""
        own = self.episodes[episode]
        return slice(own.start, own.start + own.length)

    def changed(self, **values: Any) -> Recording:
        """Return a copy with other values; arrays are copied, so that they can be written to."""
        arrays = {"state": self.state.copy(), "action": self.action.copy()}
        return replace(self, **{**arrays, **values})

    def subject(self, episodes: Sequence[int] | None = None) -> Subject:
        """Return what the checks look at."""
        used = range(self.num_episodes) if episodes is None else episodes
        return Subject(dataset=self, episodes=list(used))


def sound_robot(
    seed: int = 0, *, episodes: int = 8, dims: int = 6, fps: float = 20.0, seconds: float = 8.0
) -> Recording:
    """Return an arm that moves between way-points drawn from a seed, follows its commands late, and has a gripper.

    Encoders are noisy, episodes differ in length; the gripper closes and opens once.
    """
    rng = np.random.default_rng(seed)
    home, reach = rng.uniform(-1, 1, dims), rng.uniform(0.3, 1.5, dims)
    states, actions, lengths = [], [], []
    for _ in range(episodes):
        length = int(fps * seconds * rng.uniform(0.7, 1.3))
        points = np.vstack([home + rng.normal(0, 0.05, dims), home + reach * rng.uniform(-1, 1, (4, dims))])
        times = np.linspace(0, len(points) - 1, length)
        left = np.minimum(times.astype(int), len(points) - 2)
        share = times - left
        smooth = (10 * share**3 - 15 * share**4 + 6 * share**5)[:, None]
        command = points[left] * (1 - smooth) + points[left + 1] * smooth
        state = _follow(command, lag=0.15 * fps)
        closed = ((times > 1) & (times < 3)).astype(float)[:, None]
        opening = _follow(1 - closed, lag=0.1 * fps)
        noise = rng.normal(0, 1e-4, state.shape)
        states.append(np.hstack([state + noise, 0.08 * opening]))
        actions.append(np.hstack([command, closed]))
        lengths.append(length)
    names = [*(f"joint_{i}" for i in range(dims)), "gripper"]
    return Recording(
        state=np.vstack(states).astype(np.float32),
        action=np.vstack(actions).astype(np.float32),
        lengths=lengths,
        fps=fps,
        state_names=list(names),
        action_names=list(names),
        texts=("pick up the red cube", "put the cube into the bowl"),
    )


def _follow(command: np.ndarray, lag: float) -> np.ndarray:
    """Return what follows a command with a lag of so many frames."""
    state = np.empty_like(command)
    state[0] = command[0]
    for t in range(1, len(command)):
        state[t] = state[t - 1] + (command[t - 1] - state[t - 1]) / max(lag, 1.0)
    return state


def real_set(name: str, **settings: Any) -> Dataset:
    """Open a real data set; skip the test where this machine has none."""
    return Dataset(real_folder(name), **settings)


def real_folder(name: str) -> Path:
    """Return the folder of a real data set; skip the test where this machine has none."""
    found = next((place / name for place in SHARED if (place / name).is_dir()), None)
    if found is None:
        pytest.skip(f"{name} is not on this machine")
    return found


def humanoid() -> Recording:
    """Return GR1's right arm and hand."""
    dataset = real_set("gr1_sim_v20_5ep", drop_cameras=[GHOST])
    return Recording(
        state=dataset.states()[:, ARM].copy(),
        action=dataset.actions()[:, ARM].copy(),
        lengths=[episode.length for episode in dataset.episodes],
        fps=dataset.fps,
    )
