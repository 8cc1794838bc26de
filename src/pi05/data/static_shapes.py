"""Batches of few shapes, for a network that was compiled for each: 1, 2, 4, … observations, prompts of one length.

A batch is filled up with its first observation again, whose further answers are dropped; a prompt with tokens that are
masked. Neither changes the answers, but for rounding. Leaves out the tensors that go with a batch (`Policy.answer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from pi05.data.collate import collate
from pi05.data.processor import Processor
from pi05.data.resize import OPENPI_RESIZE, to_signed
from pi05.types import Batch, Observation


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
