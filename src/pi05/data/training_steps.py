"""States and actions of the training episodes as the loss sees them, one dimension at a time.

States count once per training frame. Actions are the valid steps of the training chunks, after the action transform: an
absolute one counts as often as chunks contain it, a relative one is a[t+k] - s[t] for every step k of every chunk t.
Padded steps do not count. Relative actions need no array of horizon × frames: they are pieces of a stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int

from pi05.data.quantiles import Piece
from pi05.data.range_floor import steady
from pi05.errors import DataError

Kind = Literal["state", "action"]


@runtime_checkable
class EpisodeSource(Protocol):
    """What statistics need of a data set (`lerobot.Dataset` has it)."""

    state_key: str
    action_key: str
    state_names: Sequence[str]
    action_names: Sequence[str]

    def columns(self, names: Sequence[str], episode: int) -> dict[str, np.ndarray]:
        """Return whole columns of one episode."""


@dataclass(frozen=True, eq=False)
class TrainingSteps:
    """The episodes in memory, one after the other."""

    states: Float32[np.ndarray, "N s"]
    actions: Float32[np.ndarray, "N n"]
    lengths: Int[np.ndarray, " E"]
    relative: Bool[np.ndarray, " n"]
    """Which actions are relative to the state of the same index."""
    horizon: int

    def pieces(self, kind: Kind, dimension: int) -> Iterator[Piece]:
        """Yield all values of one dimension, and how often each counts."""
        if kind == "state":
            yield self.states[:, dimension], None
        elif not self.relative[dimension]:
            inside = np.concatenate([np.arange(1, length + 1) for length in self.lengths])
            yield self.actions[:, dimension], np.minimum(inside, self.horizon).astype(np.float64)
        else:
            steps_left = np.concatenate([np.arange(length, 0, -1) for length in self.lengths])
            for step in range(self.horizon):
                starts = np.flatnonzero(steps_left > step)
                if len(starts):
                    yield self.actions[starts + step, dimension] - self.states[starts, dimension], None

    def steady(self) -> TrainingSteps:
        """Return the same steps without what lasts less than three frames."""

        def calm(values: np.ndarray) -> np.ndarray:
            return np.concatenate([steady(part) for part in self._by_episode(values)])

        return replace(self, states=calm(self.states), actions=calm(self.actions))

    def episode_spreads(self, kind: Kind, dimension: int) -> Float32[np.ndarray, " E"]:
        """Return the largest less the smallest value of one dimension in each episode."""
        steps_left = np.concatenate([np.arange(length, 0, -1) for length in self.lengths])
        number = np.repeat(np.arange(len(self.lengths)), self.lengths)
        low = np.full(len(self.lengths), np.inf, np.float32)
        high = -low
        for step, (values, _) in enumerate(self.pieces(kind, dimension)):
            episodes = number[steps_left > step]
            np.minimum.at(low, episodes, values)
            np.maximum.at(high, episodes, values)
        return high - low

    def _by_episode(self, values: np.ndarray) -> list[np.ndarray]:
        return np.split(values, np.cumsum(self.lengths)[:-1])


def read_steps(
    dataset: EpisodeSource, episodes: Sequence[int], horizon: int, relative: Bool[np.ndarray, " n"] | None
) -> TrainingSteps:
    """Read the episodes.

    Raises DataError for no episodes, for NaN or infinite values (naming episode, frame and dimension), and for a
    relative dimension without a state of the same index.
    """
    if not len(episodes):
        raise DataError("there is no training episode", wanted="at least one", remedy="choose more --dataset.episodes")
    states: list[np.ndarray] = []
    actions: list[np.ndarray] = []
    for episode in episodes:
        columns = dataset.columns([dataset.state_key, dataset.action_key], episode)
        for key, parts in ((dataset.state_key, states), (dataset.action_key, actions)):
            values = np.asarray(columns[key], np.float32)
            values = values.reshape(len(values), -1)
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                raise DataError(
                    f"{key} holds a value that is not a number",
                    wanted="finite values",
                    found=f"{values[tuple(bad[0])]} in episode {episode}, frame {bad[0][0]}, dimension {bad[0][1]}",
                    remedy=f"repair the recording, or leave it out: --dataset.exclude_episodes '[{episode}]'",
                )
            parts.append(values)
    dims = actions[0].shape[1]
    mask = np.zeros(dims, bool) if relative is None else np.asarray(relative, bool)
    _require_states_for(mask, dims, states[0].shape[1])
    lengths = np.array([len(part) for part in states])
    return TrainingSteps(np.concatenate(states), np.concatenate(actions), lengths, mask, horizon)


def _require_states_for(mask: np.ndarray, action_dim: int, state_dim: int) -> None:
    if len(mask) != action_dim or (mask.any() and int(np.flatnonzero(mask)[-1]) >= state_dim):
        raise DataError(
            "relative actions need a state for each of their dimensions, at the same index",
            wanted=f"a mask of {action_dim} dimensions, relative only below state dimension {state_dim}",
            found=f"a mask of {len(mask)}, relative: {np.flatnonzero(mask).tolist()}",
            remedy="exclude the others with --policy.relative_exclude_joints, or train on absolute actions",
        )
