"""Chunks of actions at recorded frames, by the same call that a policy server answers with.

The noise is zero, the centre of its distribution, as in the measurements of training (`train/validate.py`). With
`draws` it is drawn: from the seed, the frame and the number of the draw, so that neither the batch nor the choice of
episodes changes a prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from pi05.eval.rollout import Actor

Observe = Callable[[int], dict[str, Any]]


def predict(
    policy: Actor,
    observe: Observe,
    frames: Sequence[int],
    *,
    draws: int,
    seed: int,
    num_steps: int,
    batch_size: int,
    advance: Callable[[int], None] = lambda _: None,
) -> Float32[np.ndarray, "D L A n"]:
    """Return the chunks in robot units, for each draw (one where `draws` is 0) and each frame.

    `advance` is called with how many frames are done since the last call.
    """
    parts = []
    for start in range(0, len(frames), batch_size):
        chosen = frames[start : start + batch_size]
        observations = [observe(frame) for frame in chosen]
        rounds = [
            policy.infer_batch(observations, noise=noise_of(policy, chosen, draw, draws, seed), num_steps=num_steps)
            for draw in range(max(1, draws))
        ]
        parts.append(np.stack([np.stack(chunks) for chunks in rounds]))
        advance(len(chosen))
    return np.concatenate(parts, axis=1).astype(np.float32)


def noise_of(policy: Actor, frames: Sequence[int], draw: int, draws: int, seed: int) -> Tensor:
    """Return the noise behind these frames' chunks: zero where nothing is drawn."""
    if draws == 0:
        return torch.zeros((len(frames), *policy.noise_shape))
    seeds = [int(np.random.SeedSequence([seed, frame, draw]).generate_state(1)[0]) for frame in frames]
    return torch.stack([torch.randn(policy.noise_shape, generator=torch.Generator().manual_seed(s)) for s in seeds])
