"""What needs no learning: four ways to choose a chunk that a policy has to beat.

- `mean action`: that of the training data, always.
- `holding the state`: the joint positions of the frame, where an action is a wanted state. Dimensions without a state
  of their own hold the mean action.
- `holding the last action`: the one before the frame; on an episode's first frame the mean action.
- `nearest training frame`: what the demonstrator did where the state was most like this one, in the same task and in
  another episode. Exact over up to `MOST_FRAMES` training frames; of more, so many spread evenly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64

from pi05.data.lerobot.reader import Dataset
from pi05.data.transforms import absolute, relative

MEAN_ACTION = "mean action"
"""The baseline that there always is: the mean of the training actions, which no constant beats in root mean square."""
HOLDING_STATE, HOLDING_ACTION, NEAREST = "holding the state", "holding the last action", "nearest training frame"
MOST_FRAMES = 200_000
"""Training frames among which the nearest is looked for: a second or two, and 20 MB."""
PAIRS = 8_000_000
"""Pairs of frames that are compared at a time: 100 MB."""
FAR = 5.0
"""Normalised states are cut here, so that a glitch in one dimension does not decide what is near."""


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """What baselines are taken from: a data set, and the frames of it that a policy was trained on."""

    dataset: Dataset
    frames: Sequence[int]
    """Global numbers of the training frames."""
    mean: Float[np.ndarray, " n"]
    """Mean of their actions, in robot units."""
    horizon: int
    relative_mask: Sequence[bool] | None = None
    """Action dimensions that the policy takes relative to the state."""

    @property
    def sampled(self) -> Sequence[int]:
        """The training frames, or `MOST_FRAMES` of them spread evenly."""
        if len(self.frames) <= MOST_FRAMES:
            return self.frames
        return [self.frames[i] for i in np.linspace(0, len(self.frames) - 1, MOST_FRAMES).round().astype(int)]


def baseline_chunks(known: Demonstrations, frames: Sequence[int]) -> dict[str, Float[np.ndarray, "N A n"]]:
    """Return the chunk that each baseline chooses on each frame, in robot units; those that the data allow."""
    dataset, mean = known.dataset, known.mean
    shape = (len(frames), known.horizon, len(mean))
    found: dict[str, np.ndarray] = {MEAN_ACTION: np.broadcast_to(mean, shape)}
    partners = paired_states(known)
    if partners is not None:
        held = np.broadcast_to(mean, shape[::2]).copy()
        pairs = [(i, partner) for i, partner in enumerate(partners) if partner is not None]
        own, state = np.array(pairs).T
        held[:, own] = dataset.states()[np.asarray(frames)][:, state]
        found[HOLDING_STATE] = np.broadcast_to(held[:, None], shape)
    found[HOLDING_ACTION] = np.broadcast_to(last_actions(known, frames)[:, None], shape)
    nearest = nearest_frames(known, frames)
    if nearest is not None:
        found[NEAREST] = _chunks_from(known, nearest, frames)
    return found


def paired_states(known: Demonstrations) -> list[int | None] | None:
    """Return for each action dimension the state that it is a wanted value of; None where actions are none.

    They pair by name, else by place. What tells wanted states from velocities, differences and other joints: action
    minus state varies less than the action itself, in half of the dimensions that vary.
    """
    dataset = known.dataset
    places = {name: i for i, name in enumerate(dataset.state_names)}
    partners = [places.get(name) for name in dataset.action_names]
    if not dataset.names_actions or all(partner is None for partner in partners):
        partners = [i if i < dataset.state_dim else None for i in range(dataset.action_dim)]
    frames = np.asarray(known.sampled)
    actions, states = dataset.actions()[frames].astype(np.float64), dataset.states()[frames]
    ratios = []
    for i, partner in enumerate(partners):
        deviation = actions[:, i].std()
        if partner is not None and deviation > 1e-9:
            ratios.append((actions[:, i] - states[:, partner]).std() / deviation)
    return list(partners) if ratios and np.median(ratios) < 1 else None


def last_actions(known: Demonstrations, frames: Sequence[int]) -> Float[np.ndarray, "N n"]:
    """Return the action before each frame; the mean action on the first frame of an episode."""
    starts = {episode.start for episode in known.dataset.episodes}
    actions = known.dataset.actions()
    return np.stack([known.mean if frame in starts else actions[frame - 1].astype(np.float64) for frame in frames])


def _chunks_from(
    known: Demonstrations, nearest: Int64[np.ndarray, " N"], frames: Sequence[int]
) -> Float[np.ndarray, "N A n"]:
    """Return what was done from the nearest frames on; relative dimensions go on from the own state."""
    dataset = known.dataset
    chunks = np.stack([dataset.action_chunk(int(frame), known.horizon)[0] for frame in nearest])
    if known.relative_mask is not None:
        mask, states = np.array(known.relative_mask, bool), dataset.states()
        chunks = absolute(relative(chunks, states[nearest], mask), states[np.asarray(frames)], mask)
    return chunks


def nearest_frames(known: Demonstrations, frames: Sequence[int]) -> Int64[np.ndarray, " N"] | None:
    """Return the number of the training frame with the nearest state, in another episode.

    It is of the same task where there is one, else of any; None where a frame's episode is the only one. The distance
    is Euclidean, each dimension in its range (1 % to 99 %) over the training frames.
    """
    sampled, dataset = np.asarray(known.sampled), known.dataset
    states = dataset.states()
    low, high = np.quantile(states[sampled], [0.01, 0.99], axis=0)
    width = np.where(high - low > 1e-6, high - low, np.inf)  # what does not move tells no frame from another

    def normalize(chosen: np.ndarray) -> Float32[np.ndarray, "N S"]:
        return np.clip((states[chosen] - (low + high) / 2) / width, -FAR, FAR).astype(np.float32)

    asked, asked_tasks, asked_episodes = (
        normalize(np.asarray(frames)),
        _tasks(dataset, frames),
        _episodes(dataset, frames),
    )
    tasks, episodes = _tasks(dataset, sampled), _episodes(dataset, sampled)
    best, found = np.full((2, len(frames)), np.inf), np.full((2, len(frames)), -1)
    size = max(1, PAIRS // len(frames))
    for first in range(0, len(sampled), size):
        block = slice(first, first + size)
        own = normalize(sampled[block])
        distances = np.square(own).sum(1) - 2 * asked @ own.T + np.square(asked).sum(1, keepdims=True)
        distances[episodes[block] == asked_episodes[:, None]] = np.inf
        other_task = tasks[block] != asked_tasks[:, None]
        for row, allowed in enumerate((np.where(other_task, np.inf, distances), distances)):
            least = allowed.argmin(axis=1)
            value = allowed[np.arange(len(frames)), least]
            nearer = value < best[row]
            found[row][nearer], best[row] = sampled[block][least][nearer], np.minimum(best[row], value)
    chosen = np.where(found[0] >= 0, found[0], found[1])
    return None if (chosen < 0).any() else chosen


def _tasks(dataset: Dataset, frames: Sequence[int] | Int64[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
    numbers = {task: i for i, task in enumerate(dict.fromkeys(dataset.tasks))}
    return np.array([numbers[dataset.task(int(frame))] for frame in frames], np.int64)


def _episodes(dataset: Dataset, frames: Sequence[int] | Int64[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
    starts = np.array([episode.start for episode in dataset.episodes])
    return np.searchsorted(starts, np.asarray(frames), side="right") - 1
