"""From observations and prompts of different lengths to one padded batch.

Leaves out which frames come together (`loader.py`) and how one becomes an observation (`processor.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pi05.data.resize import to_signed
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
