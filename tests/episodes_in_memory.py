"""Episodes without files, as statistics want them, and every step of every chunk written out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pi05.data.transforms import relative


@dataclass
class Episodes:
    """Episodes in memory, as `compute_statistics` wants them."""

    parts: list[tuple[np.ndarray, np.ndarray]]
    state_key: str = "observation.state"
    action_key: str = "action"
    state_names: list[str] = field(default_factory=list)
    action_names: list[str] = field(default_factory=list)

    def columns(self, names: Sequence[str], episode: int) -> dict[str, np.ndarray]:
        state, action = self.parts[episode]
        return {self.state_key: state, self.action_key: action}


def random_episodes(lengths: Sequence[int], seed: int = 0) -> Episodes:
    rng = np.random.default_rng(seed)
    parts = []
    for length in lengths:
        state = rng.normal(size=(length, 4)).astype(np.float32)
        action = np.stack(
            [
                rng.normal(size=length) * 3 + 1,
                rng.integers(0, 3, size=length),  # many ties
                rng.standard_cauchy(size=length),  # heavy tails
            ],
            axis=-1,
        )
        parts.append((state, action.astype(np.float32)))
    return Episodes(parts)


def written_out(episodes: Episodes, horizon: int, mask: np.ndarray | None) -> np.ndarray:
    """Return every valid step of every chunk, made by the transform that training uses."""
    rows = []
    for state, action in episodes.parts:
        for t in range(len(action)):
            chunk = action[t : t + horizon]
            rows.append(chunk if mask is None else relative(chunk, state[t], mask))
    return np.concatenate(rows).astype(np.float64)
