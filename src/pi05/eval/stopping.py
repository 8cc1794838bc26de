"""When `--episodes=auto` stops: the Wilson interval is narrow enough, looked at after whole blocks only.

Looking after each episode and stopping at a good moment would bend the rate and its interval. Here the looks are fixed
beforehand, and what is looked at is the width, never the rate's value or its distance from another policy's. The width
still depends on the rate, so that the interval covers the truth a little less often than 95 %: how much less is
computed exactly by `coverage`, and told in docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pi05.eval.episode import EpisodeResult
from pi05.eval.result import wilson_interval


def half_width(successes: int, trials: int) -> float:
    """Return half of the width of the Wilson 95 % interval."""
    low, high = wilson_interval(successes, trials)
    return (high - low) / 2


def narrow_enough(episodes: Sequence[EpisodeResult], limit: float) -> bool:
    """Tell whether the interval of the success rate, errors of the simulator left out, is at most that wide."""
    counted = [episode for episode in episodes if episode.outcome != "error"]
    return half_width(sum(episode.outcome == "success" for episode in counted), len(counted)) <= limit


def coverage(rate: float, limit: float, block: int, most_blocks: int = 100) -> tuple[float, float]:
    """Return how often the interval at the stop covers the true rate, and the mean number of episodes.

    Exact: the distribution of the successes so far, block by block, of those that have not stopped.
    """
    chances = np.array([1.0])
    one_block = _binomial(block, rate)
    covered = episodes = 0.0
    for blocks in range(1, most_blocks + 1):
        trials = blocks * block
        chances = np.convolve(chances, one_block)
        for successes in range(trials + 1):
            if chances[successes] and (half_width(successes, trials) <= limit or blocks == most_blocks):
                low, high = wilson_interval(successes, trials)
                covered += chances[successes] * (low <= rate <= high)
                episodes += chances[successes] * trials
                chances[successes] = 0.0
        if not chances.any():
            break
    return float(covered), float(episodes)


def _binomial(trials: int, rate: float) -> np.ndarray:
    chances = np.array([1.0])
    for _ in range(trials):
        chances = np.convolve(chances, [1 - rate, rate])
    return chances
