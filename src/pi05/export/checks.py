"""What writing changes about a policy, measured beforehand: merged adapters, rounded weights, other resizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pi05.data.collate import collate
from pi05.data.resize import Resize
from pi05.export.probe import NUM_STEPS, SEED, Answer, Difference, Probe, ask, compare, in_float32
from pi05.model.lora import merge_lora
from pi05.policy import Policy
from pi05.types import STATE, TASK

ASSUMED_SIZE = (480, 640)
"""Height and width that a camera is taken to have when nothing tells."""


def merge_adapters(policy: Policy, probe: Probe, unmerged: Answer) -> tuple[Answer, Difference]:
    """Merge the adapters into the policy's weights in float32; return the answer after it and how far it moved."""
    merge_lora(policy.model)
    merged = ask(policy, probe)
    return merged, compare(merged, unmerged, policy.processor)


def round_weights(
    policy: Policy, dtypes: Mapping[str, torch.dtype], probe: Probe, exact: Answer
) -> tuple[Answer, Difference]:
    """Round the policy's weights to the precision that they are stored in; return the answer and how far it moved."""
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if dtypes[name] != parameter.dtype:
                parameter.copy_(parameter.to(dtypes[name]))
    rounded = ask(policy, probe)
    return rounded, compare(rounded, exact, policy.processor)


def resize_effect(
    policy: Policy, probe: Probe, cameras: Mapping[str, tuple[int, int]], other: Resize
) -> tuple[float, str] | None:
    """Return by how much another resize moves normalised actions, and the pictures' sizes; None when none is resized.

    Pictures are drawn: smooth shades with the edges of a few boxes, at the cameras' real sizes where these are known.
    """
    processor = policy.processor
    side = processor.image_size
    sizes = {key: cameras.get(key, ASSUMED_SIZE) for key in processor.slots.keys}
    if all(size == (side, side) for size in sizes.values()):
        return None
    generator = np.random.default_rng(SEED)
    observations = [
        {key: draw_picture(generator, *size) for key, size in sizes.items()} | {STATE: state, TASK: task}
        for state, task in zip(probe.states, probe.tasks, strict=True)
    ]
    chunks = []
    for resize in (processor.resize, other):
        encoder = replace(processor, resize=resize)
        batch = collate([encoder.encode(observation) for observation in observations])
        with in_float32(policy), torch.inference_mode():
            device = next(policy.model.parameters()).device
            chunk: Tensor = policy.model.sample_actions(
                batch.to(device), noise=probe.noise.to(device), num_steps=NUM_STEPS
            )
        chunks.append(chunk.float().cpu()[..., : processor.robot_action_dim])
    text = ", ".join(sorted({f"{height} × {width}" for height, width in sizes.values()}))
    unknown = [key for key in sizes if key not in cameras]
    return float((chunks[0] - chunks[1]).abs().max()), text + (" (assumed)" if unknown else "")


def draw_picture(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a made-up scene, uint8 [height, width, 3]: a shaded table with coloured boxes and thin stripes."""
    rows, columns = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    picture = 90 + 80 * rows * generator.random(3) + 60 * columns * generator.random(3)
    for _ in range(8):
        top, left = int(generator.integers(0, height)), int(generator.integers(0, width))
        bottom, right = top + int(generator.integers(4, height // 3)), left + int(generator.integers(4, width // 3))
        picture[top:bottom, left:right] = 255 * generator.random(3)
    picture[:: max(2, height // 40), : width // 3] = 20
    return np.clip(picture, 0, 255).astype(np.uint8)
