"""What the name of a prefix cache follows from, how large the file is, and that its prefixes are those of the batch."""

from __future__ import annotations

import dataclasses
import errno
import io
import os
import threading
import time
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from rich.console import Console
from small_network import make_batch, make_model

from pi05.data.prefix_cache import PrefixCache, file_bytes, write_prefixes
from pi05.errors import ConfigError, DataError
from pi05.model.config import tiny
from pi05.model.pi05 import Pi05
from pi05.temporary import alone
from pi05.train.cached_prefix import cache_prefixes, fingerprint, stack_prefix
from pi05.train.config import DatasetConfig, PolicyConfig, TrainConfig
from pi05.train.data import TrainingData, build_data
from pi05.train.exclusions import Place, require_compatible
from pi05.train.parallel.kind import World
from pi05.train.parallel.ranks import Ranks
from pi05.train.parameters import freeze
from pi05.train.resume import OpenRun
from pi05.types import Batch

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
        require_compatible(config, Place(world=World.planned(2), kind="fsdp"))
    assert "--parallel=ddp" in refusal.value.remedy
    require_compatible(config, Place(world=World.planned(2), kind="ddp"))
    assert cache_prefixes(TrainConfig(from_scratch=True), data, network(), Ranks(), Console(quiet=True)) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_announced_size_is_that_of_the_file(tmp_path: Path, dtype: torch.dtype) -> None:
    shape = (5, 2, 2, 1, 40, 16)
    write_prefixes(tmp_path / "p.npy", shape, dtype, [torch.zeros(shape, dtype=dtype)])
    header = 128
    assert (tmp_path / "p.npy").stat().st_size == file_bytes(shape, dtype) + header


def test_a_quota_that_is_hit_is_told_of_the_prefixes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_space(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse_space)
    with pytest.raises(DataError, match="no room on the disk for the cached prefixes") as refusal:
        write_prefixes(tmp_path / "p.npy", (5, 2, 2, 1, 40, 16), torch.float32, [])
    assert "leave --cache_prefix out" in refusal.value.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masked", [False, True])
def test_the_same_batch_gives_the_same_bits(tmp_path: Path, dtype: torch.dtype, masked: bool) -> None:
    model, batch = make_model(), make_batch(5)
    model.compute_dtype = dtype
    parameters = freeze(model, "expert")
    if masked:
        batch = dataclasses.replace(batch, token_mask=torch.arange(8) < torch.tensor([[8], [3], [5], [8], [1]]))
    with torch.no_grad():
        prefix = stack_prefix(model.read_prefix(batch)[0])
    frames = np.array([4, 9, 2, 7, 3])
    write_prefixes(tmp_path / "p.npy", tuple(prefix.shape), dtype, [prefix[:2], prefix[2:]])
    stored = PrefixCache(tmp_path / "p.npy", frames, dtype).read(frames, prefix.shape[4])
    found = []
    for given in (batch, dataclasses.replace(batch, images=batch.images[:, :0], prefix=stored)):
        losses = model.loss(given, generator=torch.Generator().manual_seed(0))
        gradients = torch.autograd.grad(losses.sum(), list(parameters.values()))
        found.append([losses.detach(), *gradients])
    assert all(torch.equal(computed, read) for computed, read in zip(*found, strict=True))
    assert found[0][1].any()


class OneOfTwo(Ranks):
    """The first of two processes, without the other."""

    def in_turns(self, work: Any) -> Any:
        return work()


def test_a_second_process_takes_what_the_first_has_made(data: TrainingData, tmp_path: Path) -> None:
    dataset = dataclasses.replace(data.config, cache_dir=str(tmp_path))
    own, model, out = dataclasses.replace(data, config=dataset), network(), io.StringIO()
    policy = PolicyConfig(train_expert_only=True)
    config = TrainConfig(from_scratch=True, policy=policy, augment=False, cache_prefix=True, dataset=dataset)
    made = cache_prefixes(config, own, model, Ranks(), Console(quiet=True))
    assert made is not None
    aside = made.path.rename(tmp_path / "aside")
    inside = threading.Event()

    def first() -> None:
        with alone(made.path, lambda: None):
            inside.set()
            while "waiting" not in out.getvalue():
                time.sleep(0.01)
            aside.rename(made.path)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(10)
    model.read_prefix = None  # type: ignore[method-assign, assignment]
    second = cache_prefixes(config, own, model, Ranks(), Console(file=out, width=300))
    thread.join()
    assert second is not None
    assert out.getvalue() == f"prefix cache: waiting for another process, which is writing {made.path}\n"
    assert list(tmp_path.iterdir()) == [made.path]


def test_each_gpu_computes_as_many_frames_at_once_as_it_trains_on(data: TrainingData, tmp_path: Path) -> None:
    dataset = dataclasses.replace(data.config, cache_dir=str(tmp_path))
    own = dataclasses.replace(data, config=dataset)
    model, sizes = network(), []
    read = model.read_prefix

    def counting(batch: Batch) -> Any:
        sizes.append(len(batch.tokens))
        return read(batch)

    model.read_prefix = counting  # type: ignore[method-assign]
    expert = PolicyConfig(train_expert_only=True)
    config = TrainConfig(from_scratch=True, policy=expert, augment=False, cache_prefix=True, global_batch_size=12)
    config = dataclasses.replace(config, dataset=dataset)
    assert cache_prefixes(config, own, model, OneOfTwo(world_size=2), Console(quiet=True)) is not None
    assert sizes == [6, 6, 6, 6, 4]
