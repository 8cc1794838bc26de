"""What needs no learning, on the held-out frames: four ways to choose a chunk that a policy has to beat.

- `mean action`: that of the training data, always.
- `holding the state`: the joint positions of the frame, where an action is a wanted state. Dimensions without a state
  of their own hold the mean action.
- `holding the last action`: the one before the frame; on an episode's first frame the mean action.
- `nearest training frame`: what the demonstrator did where the state was most like this one, in the same task. Exact
  over up to `MOST_FRAMES` training frames; of more, so many spread evenly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int64

from pi05.data.transforms import absolute, relative
from pi05.train.data import TrainingData
from pi05.train.watchers.action_error import MEAN_ACTION

HOLDING_STATE, HOLDING_ACTION, NEAREST = "holding the state", "holding the last action", "nearest training frame"
MOST_FRAMES = 200_000
"""Training frames among which the nearest is looked for: a second or two, and 20 MB."""
BLOCK = 8_192
"""Training frames that are compared at a time."""
FAR = 5.0
"""Normalised states are cut here, so that a glitch in one dimension does not decide what is near."""


def baseline_chunks(
    data: TrainingData, frames: Sequence[int], mean: Float[np.ndarray, " n"]
) -> dict[str, Float[np.ndarray, "N A n"]]:
    """Return the chunk that each baseline chooses on each frame, in robot units; those that the data allow."""
    horizon, dataset = data.processor.horizon, data.dataset
    shape = (len(frames), horizon, len(mean))
    found: dict[str, np.ndarray] = {MEAN_ACTION: np.broadcast_to(mean, shape)}
    partners = paired_states(data)
    if partners is not None:
        held = np.broadcast_to(mean, shape[::2]).copy()
        pairs = [(i, partner) for i, partner in enumerate(partners) if partner is not None]
        own, state = np.array(pairs).T
        held[:, own] = dataset.states()[np.asarray(frames)][:, state]
        found[HOLDING_STATE] = np.broadcast_to(held[:, None], shape)
    found[HOLDING_ACTION] = np.broadcast_to(last_actions(data, frames, mean)[:, None], shape)
    found[NEAREST] = nearest_chunks(data, frames)
    return found


def paired_states(data: TrainingData) -> list[int | None] | None:
    """Return for each action dimension the state that it is a wanted value of; None where actions are none.

    They pair by name, else by place. What tells wanted states from velocities, differences and other joints: action
    minus state varies less than the action itself, in half of the dimensions that vary.
    """
    dataset = data.dataset
    places = {name: i for i, name in enumerate(dataset.state_names)}
    partners = [places.get(name) for name in dataset.action_names]
    if not dataset.names_actions or all(partner is None for partner in partners):
        partners = [i if i < dataset.state_dim else None for i in range(dataset.action_dim)]
    frames = np.asarray(sample_frames(data))
    actions, states = dataset.actions()[frames].astype(np.float64), dataset.states()[frames]
    ratios = []
    for i, partner in enumerate(partners):
        deviation = actions[:, i].std()
        if partner is not None and deviation > 1e-9:
            ratios.append((actions[:, i] - states[:, partner]).std() / deviation)
    return list(partners) if ratios and np.median(ratios) < 1 else None


def last_actions(data: TrainingData, frames: Sequence[int], mean: Float[np.ndarray, " n"]) -> Float[np.ndarray, "N n"]:
    """Return the action before each frame; the mean action on the first frame of an episode."""
    starts = {episode.start for episode in data.dataset.episodes}
    actions = data.dataset.actions()
    return np.stack([mean if frame in starts else actions[frame - 1].astype(np.float64) for frame in frames])


def nearest_chunks(data: TrainingData, frames: Sequence[int]) -> Float[np.ndarray, "N A n"]:
    """Return the chunk of the training frame whose state is nearest; relative dimensions go on from the own state."""
    dataset, processor = data.dataset, data.processor
    nearest = nearest_frames(data, frames)
    chunks = np.stack([dataset.action_chunk(int(frame), processor.horizon)[0] for frame in nearest])
    if processor.relative_mask is not None:
        mask, states = np.array(processor.relative_mask, bool), dataset.states()
        chunks = absolute(relative(chunks, states[nearest], mask), states[np.asarray(frames)], mask)
    return chunks


def nearest_frames(data: TrainingData, frames: Sequence[int]) -> Int64[np.ndarray, " N"]:
    """Return the number of the training frame with the nearest state, among those of the same task where there are any.

    The distance is Euclidean, each dimension in its range (1 % to 99 %) over the training frames.
    """
    known = np.asarray(sample_frames(data))
    states, dataset = data.dataset.states(), data.dataset
    low, high = np.quantile(states[known], [0.01, 0.99], axis=0)
    width = np.where(high - low > 1e-6, high - low, np.inf)  # what does not move tells no frame from another

    def normalize(chosen: np.ndarray) -> Float32[np.ndarray, "N S"]:
        return np.clip((states[chosen] - (low + high) / 2) / width, -FAR, FAR).astype(np.float32)

    numbers = {task: i for i, task in enumerate(dict.fromkeys(dataset.tasks))}
    task_of = np.array([numbers[dataset.task(int(frame))] for frame in known])
    asked, asked_tasks = normalize(np.asarray(frames)), np.array([numbers[dataset.task(frame)] for frame in frames])
    seen = np.isin(asked_tasks, task_of)
    best, found = np.full(len(frames), np.inf), np.full(len(frames), known[0])
    for first in range(0, len(known), BLOCK):
        block = known[first : first + BLOCK]
        own = normalize(block)
        distances = np.square(own).sum(1) - 2 * asked @ own.T + np.square(asked).sum(1, keepdims=True)
        other_task = task_of[first : first + BLOCK] != asked_tasks[:, None]
        distances[other_task & seen[:, None]] = np.inf
        least = distances.argmin(axis=1)
        value = distances[np.arange(len(frames)), least]
        found[value < best], best = block[least][value < best], np.minimum(best, value)
    return found


def sample_frames(data: TrainingData) -> list[int]:
    """Return the training frames, or `MOST_FRAMES` of them spread evenly."""
    frames = data.frames_of(data.train_episodes)
    if len(frames) <= MOST_FRAMES:
        return frames
    return [frames[i] for i in np.linspace(0, len(frames) - 1, MOST_FRAMES).round().astype(int)]
