"""The data of a run on a small made-up set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import pytest
from rich.console import Console

from pi05.model.config import tiny
from pi05.train.config import DatasetConfig, PolicyConfig, TrainConfig
from pi05.train.data import TrainingData, build_data
from pi05.train.resume import OpenRun

Make = Callable[..., TrainingData]


@pytest.fixture(scope="module")
def make_data(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return what writes a data set and opens it as a run does; settings are those of `fakes.write_dataset`."""

    def make(prompt_format: Any = None, policy: dict[str, Any] | None = None, **settings: Any) -> TrainingData:
        folder: Path = tmp_path_factory.mktemp("watchers")
        settings = {"episodes": (12, 9, 7, 8, 11, 6, 9, 8, 7, 12), **settings}
        fake = fakes.write_dataset(folder / "data", **settings)
        config = TrainConfig(
            from_scratch=True,
            network="tiny",
            prompt_format=prompt_format,
            dataset=DatasetConfig(root=str(fake.root), cache_dir=str(folder / "cache"), eval_split=0.2),
            policy=PolicyConfig(tokenizer_path=str(fakes.write_tokenizer(folder / "tokenizer.json")), **(policy or {})),
        )
        return build_data(config, tiny(), Console(quiet=True), OpenRun(root=folder / "run"))

    return make


@pytest.fixture(scope="module")
def data(make_data: Make) -> TrainingData:
    return make_data()
