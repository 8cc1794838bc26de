"""How far chunks of actions are from the demonstrator's: by dimension, by step of the chunk, and in one number.

Errors are root mean squares. The one number is their mean over the dimensions that vary, each in standard deviations of
the training actions, so that metres and radians do not mix. Leaves out the predictions (`train/validate.py`,
`eval/open_loop/predict.py`) and what needs no learning (`baselines.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pi05.data.lerobot.reader import Dataset
from pi05.data.range_floor import ABSOLUTE_FLOOR, steady
from pi05.data.statistics import GLITCH

_CONSTANT = 1e-6


@dataclass(frozen=True, kw_only=True)
class ChunkError:
    """The root mean square error of chunks, over the steps inside the episode."""

    error: Float[np.ndarray, " n"]
    """Per dimension, in robot units."""
    by_step: Float[np.ndarray, " A"]
    """Per step of the chunk, in standard deviations; NaN for a step that no chunk has inside the episode."""
    score: float
    """In standard deviations, the mean over the dimensions that vary."""


def measure_chunks(
    predicted: Float[np.ndarray, "N A n"],
    actions: Float[np.ndarray, "N A n"],
    valid: Bool[np.ndarray, "N A"],
    scale: Float[np.ndarray, " n"],
) -> ChunkError:
    """Compare chunks with the demonstrator's. `scale` is the standard deviation of each dimension, 0 for a constant."""
    squares = np.square(predicted.astype(np.float64) - actions)
    error = np.sqrt(squares[valid].mean(axis=0))
    counted = np.where(valid[..., None], squares, 0.0)
    steps = valid.sum(axis=0)
    by_step = np.sqrt(counted.sum(axis=0) / np.where(steps > 0, steps, np.nan)[:, None])
    return ChunkError(error=error, by_step=in_deviations(by_step, scale), score=float(in_deviations(error, scale)))


def in_deviations(errors: Float[np.ndarray, "*batch n"], scale: Float[np.ndarray, " n"]) -> Float[np.ndarray, "*batch"]:
    """Return errors in standard deviations, averaged over the dimensions that vary; as they are where none does."""
    varies = scale > 0
    return np.asarray((errors[..., varies] / scale[varies] if varies.any() else errors).mean(axis=-1))


def action_moments(
    dataset: Dataset, episodes: Sequence[int]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return mean and standard deviation of these episodes' actions in robot units; 0 for a constant dimension.

    Broken frames are replaced by their neighbours: one value of 10,000 would make every error in its dimension look
    like nothing.
    """
    parts = [dataset.actions()[frames_of(dataset, [number])] for number in episodes]
    actions, calm = np.concatenate(parts).astype(np.float64), np.concatenate([steady(part) for part in parts])
    low, high = np.quantile(calm, [0.01, 0.99], axis=0)
    reach = GLITCH / 2 * np.maximum(high - low, ABSOLUTE_FLOOR)
    broken = np.abs(actions - (low + high) / 2) > reach
    actions[broken] = calm[broken]
    mean, scale = actions.mean(axis=0), actions.std(axis=0)
    return mean, np.where(scale > _CONSTANT * np.maximum(1, np.abs(mean)), scale, 0.0)


def frames_of(dataset: Dataset, episodes: Sequence[int]) -> list[int]:
    """Return the global numbers of all frames of some episodes."""
    parts = [dataset.episodes[index] for index in episodes]
    return [frame for part in parts for frame in range(part.start, part.start + part.length)]
