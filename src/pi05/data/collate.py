"""From observations and prompts of different lengths to one padded batch: as small as they allow, or of a few shapes.

Few shapes are for a network that was compiled for each: 1, 2, 4, … observations, prompts of one length. A batch is
filled up with its first observation again, whose further answers are dropped; a prompt with tokens that are masked.
Neither changes the answers, but for rounding.

Leaves out which frames come together (`loader.py`) and how one becomes an observation (`processor.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pi05.data.processor import Processor
from pi05.data.resize import OPENPI_RESIZE, to_signed
from pi05.types import Batch, Observation


def collate(
    observations: Sequence[Observation],
    actions: Sequence[Float[np.ndarray, "A X"]] | None = None,
    masks: Sequence[Bool[np.ndarray, " A"]] | None = None,
    bucket: int = 8,
) -> Batch:
    """Stack observations into a batch, already trimmed to the cameras in use and to the longest prompt.

    Where one observation has float images, all get them: bytes among floats would count as values up to 255.
    """
    tokens, token_mask = pad_prompts([observation.tokens for observation in observations], bucket)
    images = [observation.images for observation in observations]
    if any(pictures.dtype != np.uint8 for pictures in images):
        images = [to_signed(pictures) for pictures in images]
    return Batch(
        images=torch.from_numpy(np.stack(images)),
        image_mask=torch.from_numpy(np.stack([observation.image_mask for observation in observations])),
        tokens=tokens,
        token_mask=token_mask,
        actions=None if actions is None else torch.from_numpy(np.stack(actions)),
        action_mask=None if masks is None else torch.from_numpy(np.stack(masks)),
    ).trim(bucket)


def pad_prompts(prompts: Sequence[Any], bucket: int) -> tuple[Tensor, Tensor]:
    """Return ids and mask of the prompts, padded with 0 to the longest one, rounded up to a multiple of `bucket`."""
    lengths = np.array([len(prompt) for prompt in prompts])
    width = max(1, -(-int(lengths.max()) // bucket)) * bucket
    mask = np.arange(width) < lengths[:, None]
    tokens = np.zeros((len(prompts), width), np.int64)
    tokens[mask] = np.concatenate([np.asarray(prompt, np.int64) for prompt in prompts])
    return torch.from_numpy(tokens), torch.from_numpy(mask)


@dataclass(frozen=True, kw_only=True)
class StaticShapes:
    """All shapes that batches of up to `max_batch` observations come in."""

    max_batch: int
    prompt_tokens: int
    """Length of every prompt, padding included."""
    float_images: bool
    """Whether pictures are floats always: LeRobot's resize leaves bytes where a picture has the size already."""

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The powers of two below `max_batch`, and `max_batch` itself."""
        return (*(1 << i for i in range((self.max_batch - 1).bit_length())), self.max_batch)

    def rows(self, count: int) -> list[int]:
        """Return which of `count` observations each row of their batch holds; more than `max_batch` are not padded."""
        size = next((size for size in self.batch_sizes if size >= count), count)
        return [*range(count), *[0] * (size - count)]

    def collate(self, observations: Sequence[Observation]) -> Batch:
        """Return the batch of the observations of all rows. Raises ValueError where their cameras differ."""
        if self.float_images:
            observations = [replace(one, images=to_signed(one.images)) for one in observations]
        batch = collate(observations, bucket=self.prompt_tokens)
        if batch.image_mask is not None:
            raise ValueError("observations of one policy have the same cameras")
        if batch.token_mask is None:  # every prompt is as long as can be: without a mask that would be another graph
            batch = replace(batch, token_mask=torch.ones_like(batch.tokens, dtype=torch.bool))
        return batch


def static_shapes(processor: Processor, max_batch: int) -> StaticShapes:
    """Return the shapes of a policy's batches: prompts of the longest that is accepted."""
    return StaticShapes(
        max_batch=max_batch,
        prompt_tokens=processor.max_prompt_tokens,
        float_images=processor.resize != OPENPI_RESIZE,
    )
