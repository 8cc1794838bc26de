"""A small data set, checkpoints that fit it, and policies whose answers in recorded episodes are known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fakes
import numpy as np
from fake_policies import make_policy, save_policy

from pi05.checkpoint.store import STATE_FILE, TRAINING
from pi05.data.lerobot.identity import hash_numbers
from pi05.data.lerobot.reader import Dataset
from pi05.files import write_json
from pi05.types import STATE, TASK

EPISODES = (14, 11, 9, 12, 13)
TRAINED, HELD_OUT = [0, 1, 2, 4], [3]
HORIZON = 10
"""That of the tiny network."""


@dataclass(frozen=True)
class Recorded:
    """Where data set and checkpoint lie."""

    data: Path
    checkpoint: Path


def write_case(folder: Path) -> Recorded:
    """Write five episodes of a robot with three joints, and an untrained checkpoint that has held the fourth out."""
    data = folder / "data"
    fakes.write_dataset(data, episodes=EPISODES, state_dim=3, action_dim=3, storage="image")
    return Recorded(data, write_checkpoint(folder, data))


def write_checkpoint(folder: Path, data: Path, n_action_steps: int | None = None, **changes: Any) -> Path:
    """Write an untrained checkpoint with its record; `changes` go to its processor."""
    checkpoint = folder / "run" / "checkpoints" / "000007"
    policy = make_policy(fakes.write_tokenizer(folder / "tokenizer.json"), action_names=(), state_names=(), **changes)
    save_policy(checkpoint, policy, n_action_steps=n_action_steps)
    write_record(checkpoint, data)
    return checkpoint


def write_record(checkpoint: Path, data: Path, **changes: Any) -> None:
    """Write what training notes of its data beside a checkpoint."""
    dataset = Dataset(data)
    sides = {"train_episodes": TRAINED, "held_out": HELD_OUT}
    noted = {"numbers": hash_numbers(dataset), "frames": dataset.num_frames, **sides, **changes}
    (checkpoint / TRAINING).mkdir(exist_ok=True)
    write_json(checkpoint / TRAINING / STATE_FILE, {"step": 7, "data": noted})


@dataclass
class Demonstrator:
    """Answers with what the demonstrator did where the state was the given one, plus an offset; `blind`: with zeros."""

    dataset: Dataset
    offset: float = 0.0
    blind: bool = False
    jitter: float = 0.0
    """How much of the noise is added."""
    n_action_steps: int = 5
    provenance: dict[str, Any] = field(default_factory=lambda: {"path": "scripted", "step": 7})
    flagged: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)

    @property
    def noise_shape(self) -> tuple[int, int]:
        return HORIZON, 32

    def infer_batch(
        self, observations: Sequence[dict[str, Any]], noise: Any = None, num_steps: int = 10
    ) -> list[np.ndarray]:
        self.asked += observations
        return [self._chunk(seen, drawn.numpy()) for seen, drawn in zip(observations, noise, strict=True)]

    def _chunk(self, seen: dict[str, Any], noise: np.ndarray) -> np.ndarray:
        assert isinstance(seen[TASK], str)
        if self.blind:
            return np.zeros((HORIZON, 3), np.float32)
        frame = int(np.abs(self.dataset.states() - seen[STATE]).sum(axis=1).argmin())
        chunk = self.dataset.action_chunk(frame, HORIZON)[0] + self.offset
        return np.asarray(chunk + self.jitter * noise[:, :3], np.float32)
