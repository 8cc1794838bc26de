"""A small data set, a tokenizer, and the flags of the smallest run that goes through all of the real code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fakes
import pytest

EPISODES = (12, 9, 11, 8, 10, 13, 9, 12, 10, 8)


@dataclass(frozen=True)
class Workshop:
    """Where a test finds its inputs."""

    dataset: Path
    tokenizer: Path
    cache: Path

    def flags(self, run: Path, **settings: object) -> list[str]:
        """Return the flags of a run from scratch, with settings on top (`policy__device` is `--policy.device`)."""
        values: dict[str, object] = {
            "preset": "tiny",
            "from_scratch": True,
            "policy.tokenizer_path": self.tokenizer,
            "dataset.root": self.dataset,
            "dataset.cache_dir": self.cache,
            "output_dir": run,
            "batch_size": 4,
            "policy.optimizer_lr": 1e-3,
            "threads": 1,
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        return [
            f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in values.items()
        ]


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    folder = tmp_path_factory.mktemp("workshop")
    fakes.write_dataset(folder / "data", episodes=EPISODES)
    return Workshop(folder / "data", fakes.write_tokenizer(folder / "tokenizer.json"), folder / "cache")


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Start:
    """Start `pi05 …` as a process of its own, with its output in one pipe."""

    def run(*words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "pi05", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )

    return run
