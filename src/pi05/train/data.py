"""From a folder of demonstrations to batches: the data half of a run, put together from `pi05.data`.

Decides which episodes train and which are held out, computes the statistics, builds the processor and the frame cache.
On resume the processor comes from the checkpoint, and the data must still be the same. Knows no network.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.console import Console

from pi05.checkpoint.locate import Location
from pi05.data.config import DatasetConfig
from pi05.data.frame_cache import FrameCache, Progress
from pi05.data.lerobot.identity import identify
from pi05.data.lerobot.info import picture_sizes
from pi05.data.lerobot.reader import Dataset
from pi05.data.loader import FEW_SHAPES, TrainLoader
from pi05.data.measures.chunk_error import frames_of
from pi05.data.prefix_cache import PrefixCache
from pi05.data.processor import Processor
from pi05.data.statistics import DimStats, Statistics, compute_statistics
from pi05.data.tokenizer import Tokenizer
from pi05.data.transforms import NormalizationMode
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig
from pi05.terminal import say
from pi05.train.config import TrainConfig
from pi05.train.inputs.dataset import choose_episodes, choose_relative, choose_slots, open_dataset
from pi05.train.inputs.inherit import Inherited, base_statistics, inherit, open_tokenizer, require_vocabulary
from pi05.train.resume import OpenRun
from pi05.types import Observation
from pi05.waits import waiting

SECONDS_BETWEEN_LINES = 10


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """A data set with its split, statistics and transforms; no picture has been opened yet."""

    config: DatasetConfig
    dataset: Dataset
    train_episodes: list[int]
    held_out: list[int]
    statistics: Statistics
    processor: Processor


@dataclass(frozen=True, kw_only=True)
class TrainingData(PreparedData):
    """A data set with all that turns it into batches."""

    frames: FrameCache
    content: dict[str, str]
    """What the data set holds, as hashes (`data/lerobot/identity.py`)."""

    def frames_of(self, episodes: Sequence[int]) -> list[int]:
        """Return the global numbers of all frames of some episodes."""
        return frames_of(self.dataset, episodes)

    def observation(self, frame: int) -> Observation:
        """Return one frame as the network sees it, without augmentation."""
        images = dict(zip(self.processor.slots.keys, self.frames.images(frame), strict=True))
        state = self.dataset.states()[frame]
        return self.processor.encode({**images, "observation.state": state, "task": self.dataset.task(frame)})

    def identity(self) -> dict[str, Any]:
        """Return what must still hold when a run is resumed on this data."""
        slots = self.processor.slots
        return {
            **self.content,
            "cameras": dict(zip(slots.used, slots.keys, strict=True)),
            "statistics": self.statistics.sha256,
            "train_episodes": self.train_episodes,
            "held_out": self.held_out,
            "frames": self.dataset.num_frames,
        }


def build_data(config: TrainConfig, sizes: ModelConfig, console: Console, run: OpenRun) -> TrainingData:
    """Open the data set and prepare all that batches need; on resume with the processor of the checkpoint.

    Raises DataError, ConfigError or CheckpointError. A run looks at the data between the two (`checked/gate.py`).
    """
    return cache_frames(prepare_data(config, sizes, console, run), console)


def prepare_data(
    config: TrainConfig,
    sizes: ModelConfig,
    console: Console,
    run: OpenRun,
    dataset: Dataset | None = None,
    tokenizer: Tokenizer | None = None,
) -> PreparedData:
    """Open the data set, split it, compute its statistics and build the transforms; no picture is opened.

    `dataset` and `tokenizer` may be there already. Raises DataError, ConfigError or CheckpointError.
    """
    tell = partial(say, console)
    if dataset is None:
        with waiting("reading the data set's episodes and index", tell):
            dataset = open_dataset(config)
    chosen = choose_episodes(config.dataset, dataset, config.seed)
    train_episodes, held_out = run.episodes(dataset.num_episodes) or chosen
    mask = choose_relative(config, dataset) if run.stored is None else _stored_mask(run.stored)
    with waiting("computing the statistics of states and actions", tell):
        statistics = _statistics(
            config, run, partial(compute_statistics, cast(Any, dataset), train_episodes, sizes.horizon, mask)
        )
    if tokenizer is None:
        tokenizer = open_tokenizer(config, sizes, run.base) if run.folder is None else Tokenizer.load(run.folder)
    if run.stored is None:
        inherited = inherit(config, run.base)
        for note in inherited.notes:
            say(console, f"note: {note}")
        processor = build_processor(config, sizes, dataset, statistics, tokenizer, inherited, run.base)
    else:
        processor = Processor.from_dict(run.stored["processor"], tokenizer)
    require_vocabulary(tokenizer, sizes)
    return PreparedData(
        config=config.dataset,
        dataset=dataset,
        train_episodes=train_episodes,
        held_out=held_out,
        statistics=statistics,
        processor=processor,
    )


def cache_frames(prepared: PreparedData, console: Console) -> TrainingData:
    """Decode and resize all pictures once, and hash what the data set holds."""
    dataset, processor = prepared.dataset, prepared.processor
    directory = None if prepared.config.cache_dir is None else Path(prepared.config.cache_dir)
    used = [*prepared.train_episodes, *prepared.held_out]
    progress = cache_progress(console)
    keys = processor.slots.keys
    told = len(dataset.notes)
    frames = FrameCache.build(dataset, keys, processor.image_size, directory, progress, used, processor.resize)
    for note in dataset.notes[told:]:
        say(console, f"note: {note}")
    with waiting("hashing the data set", partial(say, console)):
        content = identify(dataset, keys)
    episodes = [frames_of(dataset, [number]) for number in prepared.train_episodes]
    tasks = [task for number in prepared.train_episodes for task in dataset.episodes[number].tasks]
    prepared = replace(prepared, processor=processor.having_seen(frames.images, episodes).having_heard(tasks))
    return TrainingData(**vars(prepared), frames=frames, content=content)


def _statistics(config: TrainConfig, run: OpenRun, compute: Callable[..., Statistics]) -> Statistics:
    """Return the statistics by the rule of this run; one that version 0.1 began had another, and goes on with it."""
    statistics = compute(floor=config.range_floor)
    stored = run.saved["data"].get("statistics") if run.continues else statistics.sha256
    if stored == statistics.sha256:
        return statistics
    earlier = compute(floor="spread")
    return earlier if stored == earlier.sha256 else statistics


def _stored_mask(stored: Mapping[str, Any]) -> np.ndarray | None:
    """Return which dimensions a resumed run trains relative: those it began with, whatever names are read now."""
    mask = stored["processor"]["relative_mask"]
    return None if mask is None else np.array(mask, bool)


def build_processor(
    config: TrainConfig,
    sizes: ModelConfig,
    dataset: Dataset,
    statistics: Statistics,
    tokenizer: Tokenizer,
    inherited: Inherited,
    base: Location | None,
) -> Processor:
    """Put together the transforms between this robot and this network."""
    state_stats, action_stats = choose_statistics(config, sizes, base, statistics, dataset)
    mask = choose_relative(config, dataset)
    modes = {kind: mode for kind, mode in config.policy.normalization_mapping.items() if kind != "VISUAL"}
    slots = choose_slots(config, dataset)
    return Processor(
        slots=slots,
        state_stats=state_stats,
        action_stats=action_stats,
        tokenizer=tokenizer,
        image_size=sizes.image_size,
        action_dim=sizes.action_dim,
        horizon=sizes.horizon,
        max_prompt_tokens=sizes.max_prompt_tokens,
        fps=dataset.fps,
        action_names=tuple(dataset.action_names),
        state_names=tuple(dataset.state_names),
        state_columns=dataset.state_vector.chosen_columns,
        action_columns=dataset.action_vector.chosen_columns,
        prompt_format=inherited.prompt_format,
        normalization=cast(dict[str, NormalizationMode], modes),
        relative_mask=None if mask is None else tuple(mask.tolist()),
        resize=inherited.resize,
        formula=inherited.formula,
        camera_sizes=picture_sizes(dataset.features, slots.by_slot),
    )


def build_loader(
    config: TrainConfig,
    data: TrainingData,
    rank: int = 0,
    world_size: int = 1,
    pin: bool = False,
    prefixes: PrefixCache | None = None,
) -> TrainLoader:
    """Build the endless source of a process's training batches, in an order that seed and epoch decide.

    `pin`: for a GPU. There, and for compiled layers, prompts are padded to few lengths; otherwise only to the longest.
    """
    return TrainLoader(
        data.dataset,
        data.processor,
        data.frames,
        data.train_episodes,
        batch_size=config.micro_batch_size(world_size),
        seed=config.seed,
        num_workers=config.num_workers,
        augment=config.augment,
        bucket=FEW_SHAPES if pin or config.policy.compile_model else 1,
        share=(rank, world_size),
        pin=pin,
        prefixes=prefixes,
    )


def choose_statistics(
    config: TrainConfig, sizes: ModelConfig, base: Location | None, computed: Statistics, dataset: Dataset
) -> tuple[DimStats, DimStats]:
    """Return the statistics of state and action to normalise with: computed ones, or those in the base checkpoint."""
    if config.stats == "recompute":
        return computed.state, computed.action
    mask = choose_relative(config, dataset)
    relative = None if mask is None else tuple(mask.tolist())
    state, action = base_statistics(config, sizes, base, config.policy.normalization_mapping, relative)
    if (state.dim, action.dim) != (dataset.state_dim, dataset.action_dim):
        raise CheckpointError(
            "the statistics in the base checkpoint are those of another robot",
            wanted=f"{dataset.state_dim} state and {dataset.action_dim} action dimensions",
            found=f"{state.dim} and {action.dim} in {config.policy.path}",
            remedy="use --stats recompute",
        )
    return state, action


def cache_progress(console: Console) -> Progress:
    """Return what tells about the making of the frame cache: its size first, then a line every ten seconds."""
    told = time.monotonic()

    def tell(done: int, total: int, text: str) -> None:
        nonlocal told
        now = time.monotonic()
        if done == 0:
            say(console, f"frame cache: {text}")
        elif now - told > SECONDS_BETWEEN_LINES:
            say(console, f"frame cache: {done / total:.0%}, {text}")
            told = now

    return tell
