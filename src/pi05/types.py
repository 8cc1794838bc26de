"""The one legend of dimensions, and what travels between data and model.

B batch · C cameras · P patches per image · T prompt tokens · L prefix length · A action horizon · S suffix (or state)
as stated · X action dim · D language width · E expert width · F MLP width · N query heads · K kv heads · H head dim.
Flow matching adds the paper's x_t, v_t, u_t, t (in `model/flow.py` only).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, Shaped, UInt8
from torch import Tensor

STATE, ACTION, TASK = "observation.state", "action", "task"
IMAGE_PREFIX = "observation.images."
"""Names of the features in a raw observation and in a data set, as LeRobot has them; a camera's name follows."""


@dataclass(frozen=True)
class Observation:
    """One observation after the processors, before batching. Arrays are NumPy; one camera slot per row of `images`.

    `images` are uint8, or float32 in [-1, 1] where a resize left values between whole numbers.
    """

    images: UInt8[np.ndarray, "C height width 3"] | Float32[np.ndarray, "C height width 3"]
    image_mask: Bool[np.ndarray, " C"]
    tokens: Int64[np.ndarray, " T"]


@dataclass(frozen=True)
class Batch:
    """Model inputs. A mask left out means that everything is valid.

    `images` are uint8, or float in [-1, 1]. `action_mask` marks the action steps that are real (not padded past the
    episode's end). Prompts are padded on the right.
    """

    images: Shaped[Tensor, "B C height width 3"]
    image_mask: Bool[Tensor, "B C"] | None
    tokens: Int64[Tensor, "B T"]
    token_mask: Bool[Tensor, "B T"] | None
    actions: Float[Tensor, "B A X"] | None = None
    action_mask: Bool[Tensor, "B A"] | None = None
    trimmed: bool = False
    image_rows: Int64[Tensor, " I"] | None = None
    """With an image mask: which rows of `images.flatten(0, 1)` are valid, found out where the mask lay on the CPU."""

    counted_tokens: int | None = None
    """With a token mask: how many tokens of all prompts are valid, counted where the mask lay on the CPU."""

    prefix: Shaped[Tensor, "B layers 2 K L H"] | None = None
    """Keys and values of the prefix where they are known already; then `images` holds no camera."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch on `device`."""
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=non_blocking)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, from which copies to a GPU run behind the program."""
        pinned: dict[str, Any] = {
            field.name: value.pin_memory()
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **pinned)

    def trim(self, bucket: int = 8) -> Batch:
        """Drop what no sample uses: cameras masked in the whole batch, prompt columns past the longest prompt.

        The prompt length is rounded up to a multiple of `bucket`, so that a compiled model sees few shapes. A mask
        that ends up all valid becomes None. Call it where the masks lie on the CPU (the loader does): it reads them,
        so that nothing on a GPU has a shape that depends on values.
        """
        if self.trimmed:
            return self
        images, image_mask = self.images, self.image_mask
        if image_mask is not None:
            used = image_mask.any(dim=0)
            if not bool(used.all()):
                images, image_mask = images[:, used], image_mask[:, used]
            image_mask = None if bool(image_mask.all()) else image_mask
        tokens, token_mask = self.tokens, self.token_mask
        if token_mask is not None:
            used_columns = token_mask.any(dim=0).nonzero()
            longest = int(used_columns.max()) + 1 if len(used_columns) else 0
            length = min(-(-longest // bucket) * bucket, tokens.shape[1])
            tokens, token_mask = tokens[:, :length], token_mask[:, :length]
            if bool(token_mask.all()):
                token_mask = None
        return replace(
            self,
            images=images,
            image_mask=image_mask,
            tokens=tokens,
            token_mask=token_mask,
            trimmed=True,
            image_rows=None if image_mask is None else valid_rows(image_mask),
            counted_tokens=None if token_mask is None else int(token_mask.sum()),
        )


def valid_rows(image_mask: Bool[Tensor, "B C"]) -> Int64[Tensor, " I"]:
    """Return which images of a batch are valid, counted through the cameras of one sample after the other."""
    return image_mask.flatten().nonzero().squeeze(1)
