"""The frames at which a policy looks, as on the robot: the first one, then whenever its actions are used up.

Each look gives a raw observation, as a robot sends it, and the chunk that the demonstrator carried out from there on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from pi05.data.lerobot.reader import Dataset
from pi05.types import STATE, TASK


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Frames with what the demonstrator did from each on."""

    frames: tuple[int, ...]
    """Global numbers in the data set."""
    episodes: Int64[np.ndarray, " L"]
    """The episode of each."""
    steps: Int64[np.ndarray, " L"]
    """Frames since the episode's first one."""
    stride: int
    """Actions of each chunk that are carried out before the next look."""
    actions: Float32[np.ndarray, "L A n"]
    """Recorded, in robot units."""
    valid: Bool[np.ndarray, "L A"]
    """Which steps of the chunk lie inside the episode."""

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def executed(self) -> Bool[np.ndarray, "L A"]:
        """Which steps of each chunk are carried out: those before the next look."""
        first = np.arange(self.valid.shape[1]) < self.stride
        return self.valid & first

    def of(self, episode: int) -> Int64[np.ndarray, " l"]:
        """Return the places of an episode's looks, in order."""
        return np.flatnonzero(self.episodes == episode)


def choose_looks(dataset: Dataset, episodes: Sequence[int], stride: int, horizon: int) -> Looks:
    """Return the looks of whole episodes, `stride` frames apart, with chunks of `horizon` actions."""
    rows = [
        (dataset.episodes[number].start + step, number, step)
        for number in episodes
        for step in range(0, dataset.episodes[number].length, stride)
    ]
    frames, of_episode, steps = zip(*rows, strict=True)
    chunks = [dataset.action_chunk(frame, horizon) for frame in frames]
    return Looks(
        frames=frames,
        episodes=np.array(of_episode, np.int64),
        steps=np.array(steps, np.int64),
        stride=stride,
        actions=np.stack([actions for actions, _ in chunks]),
        valid=~np.stack([padded for _, padded in chunks]),
    )


def observe(dataset: Dataset, cameras: Sequence[str], frame: int) -> dict[str, Any]:
    """Return a frame as a robot sends it: these cameras' pictures in full size, the state, the instruction."""
    pictures = {camera: dataset.image(camera, frame) for camera in cameras}
    return {**pictures, STATE: dataset.states()[frame], TASK: dataset.task(frame)}
