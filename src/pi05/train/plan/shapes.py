"""The shapes of a run's batches: from its data set where there is one, else from what the user says or a default.

Leaves out what they cost (`memory.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pi05.checkpoint.locate import Location
from pi05.data.lerobot.reader import Dataset
from pi05.data.prompt import PromptFormat, format_prompt
from pi05.data.tokenizer import Tokenizer
from pi05.model.config import ModelConfig
from pi05.train.config import TrainConfig
from pi05.train.inputs.dataset import choose_slots, open_dataset
from pi05.train.inputs.inherit import inherit, open_tokenizer
from pi05.train.plan.step_on_shapes import Shapes

CAMERAS = 2
"""Cameras where nothing tells: LIBERO's, and those of most two-camera robots."""
PROMPT_TOKENS = 60
"""Tokens of the longest prompt where nothing tells: LIBERO's longest with its state of 8 numbers."""
BUCKET = 8
"""Prompts are padded to a multiple of this (`Batch.trim`)."""
MIDDLE = 0.5
"""A normalised state whose bin has three digits, as most have."""


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """Shapes, and where they are from."""

    shapes: Shapes
    told: tuple[str, ...]


def plan_shapes(
    config: TrainConfig,
    sizes: ModelConfig,
    base: Location | None,
    *,
    world_size: int,
    cameras: int | None,
    prompt_tokens: int | None,
) -> Assumed:
    """Return the shapes of one forward pass. Raises a UserError for a data set or a base that cannot be read."""
    dataset = None if config.dataset.root is None else open_dataset(config)
    told = []
    if cameras is None and dataset is not None:
        cameras = len(choose_slots(config, dataset).keys)
        told.append(f"{cameras} cameras, as the data set has them")
    elif cameras is None:
        cameras = CAMERAS
        told.append(f"{CAMERAS} cameras, assumed; --cameras or --dataset.root tells better")
    if prompt_tokens is None and dataset is not None and base is not None:
        tokenizer, prompt_format = open_tokenizer(config, sizes, base), inherit(config, base).prompt_format
        prompt_tokens = longest_prompt(tokenizer, dataset, prompt_format)
        told.append(f"{prompt_tokens} prompt tokens, the longest of the data set's tasks")
    elif prompt_tokens is None:
        prompt_tokens = min(PROMPT_TOKENS, sizes.max_prompt_tokens)
        told.append(f"{prompt_tokens} prompt tokens, assumed; --prompt_tokens, or data set and base, tell better")
    return Assumed(shapes=shapes_of(config, world_size, cameras, prompt_tokens), told=tuple(told))


def shapes_of(config: TrainConfig, world_size: int, cameras: int, prompt_tokens: int) -> Shapes:
    """Return the shapes of one forward pass, the prompt padded as the loader does it."""
    padded = -(-prompt_tokens // BUCKET) * BUCKET
    return Shapes(batch=config.micro_batch_size(world_size), cameras=cameras, prompt_tokens=padded)


def longest_prompt(tokenizer: Tokenizer, dataset: Dataset, prompt_format: PromptFormat) -> int:
    """Return the tokens of the longest prompt of a data set, all numbers of the state having three digits."""
    state = None if prompt_format == "none" else np.full(dataset.states().shape[1], MIDDLE, np.float32)
    texts = [format_prompt(task, state, prompt_format) for task in dataset.tasks]
    ends = 1 if prompt_format == "none" else 0  # the line break that is tokenised apart
    return ends + max(len(ids) for ids in tokenizer.encode_many(texts))
