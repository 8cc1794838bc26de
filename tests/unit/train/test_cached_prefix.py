"""What the name of a prefix cache follows from, and how large the file is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from rich.console import Console

from pi05.data.prefix_cache import file_bytes, write_prefixes
from pi05.errors import ConfigError
from pi05.model.config import tiny
from pi05.model.pi05 import Pi05
from pi05.train.cached_prefix import cache_prefixes, fingerprint
from pi05.train.config import DatasetConfig, PolicyConfig, TrainConfig
from pi05.train.data import TrainingData, build_data
from pi05.train.parallel import Parallel
from pi05.train.run import OpenRun

FRAMES = np.arange(20)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    folder = tmp_path_factory.mktemp("prefix")
    fake = fakes.write_dataset(folder / "data", episodes=(12, 9, 7))
    config = TrainConfig(
        from_scratch=True,
        network="tiny",
        dataset=DatasetConfig(root=str(fake.root), cache_dir=str(folder / "cache"), eval_split=0.0),
        policy=PolicyConfig(tokenizer_path=str(fakes.write_tokenizer(folder / "tokenizer.json"))),
    )
    return build_data(config, tiny(), Console(quiet=True), OpenRun(root=folder / "run"))


def network() -> Pi05:
    model = Pi05(tiny())
    model.initialize(torch.Generator().manual_seed(0))
    return model


def named(data: TrainingData, model: Pi05, frames: np.ndarray = FRAMES) -> str:
    return fingerprint(data, model, frames)


def test_the_same_weights_and_data_have_the_same_name(data: TrainingData) -> None:
    assert named(data, network()) == named(data, network())
    changed = network()
    with torch.no_grad():
        changed.expert.layers[0].mlp.up.weight[0, 0] += 1
        changed.action_in.bias[0] += 1
    assert named(data, changed) == named(data, network()), "what is trained plays no part"


@pytest.mark.parametrize("part", ["vision.position_embedding", "embedding.weight", "language.layers.0.mlp.up.weight"])
def test_another_frozen_weight_has_another_name(data: TrainingData, part: str) -> None:
    model = network()
    with torch.no_grad():
        model.get_parameter(part).view(-1)[-1] += 1e-3
    assert named(data, model) != named(data, network())


def test_another_precision_has_another_name(data: TrainingData) -> None:
    computed, held = network(), network()
    computed.compute_dtype = torch.bfloat16
    held.language.layers[0].mlp.up.weight.data = held.language.layers[0].mlp.up.weight.data.bfloat16()
    assert len({named(data, network()), named(data, computed), named(data, held)}) == 3


def test_other_frames_pictures_prompts_or_files_have_another_name(data: TrainingData) -> None:
    class Renamed:
        """The frame cache of other pictures."""

        path = Path("other-pictures.npy")

    class Touched:
        """The data set after a file of it has changed."""

        def fingerprint(self) -> str:
            return "other"

    model = network()
    stats = dataclasses.replace(data.processor.state_stats, q99=data.processor.state_stats.q99 + 1)
    others: list[Any] = [
        stand_in(data, processor=dataclasses.replace(data.processor, prompt_format="none")),
        stand_in(data, processor=dataclasses.replace(data.processor, state_stats=stats)),
        stand_in(data, frames=Renamed()),
        stand_in(data, dataset=Touched()),
    ]
    names = [named(data, model), named(data, model, FRAMES[:-1]), *(named(other, model) for other in others)]
    assert len(set(names)) == len(names)


def stand_in(data: TrainingData, **changed: Any) -> TrainingData:
    """Return the data with parts that are no part of a real run."""
    values = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    other = object.__new__(TrainingData)
    for name, value in {**values, **changed}.items():
        object.__setattr__(other, name, value)
    return other


def test_a_split_network_has_no_cache(data: TrainingData) -> None:
    config = TrainConfig(cache_prefix=True, augment=False, policy=PolicyConfig(train_expert_only=True))
    with pytest.raises(ConfigError, match="split over GPUs") as refusal:
        cache_prefixes(config, data, network(), Parallel(kind="fsdp"), Console(quiet=True))
    assert "--parallel=ddp" in refusal.value.remedy
    unwanted = TrainConfig(from_scratch=True)
    assert cache_prefixes(unwanted, data, network(), Parallel(kind="fsdp"), Console(quiet=True)) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_announced_size_is_that_of_the_file(tmp_path: Path, dtype: torch.dtype) -> None:
    shape = (5, 2, 2, 1, 40, 16)
    write_prefixes(tmp_path / "p.npy", shape, dtype, [torch.zeros(shape, dtype=dtype)])
    header = 128
    assert (tmp_path / "p.npy").stat().st_size == file_bytes(shape, dtype) + header
