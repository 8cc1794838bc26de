"""What the model sees at step 0, as pictures and text: `RUN/step0/`.

`SLOT_I.png` is the picture of sample I after augmentation, as it enters the network; `SLOT_I_raw.png` is the same frame
before it. `prompts.json` holds each sample's prompt, decoded back from the token ids that the network gets.
`observations.npz` holds some frames as the robot recorded them, which `pi05 serve --selftest` asks the policy with.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from PIL import Image

from pi05.data.robot.stored_observations import OBSERVATIONS, pack_observations
from pi05.files import write_atomic, write_json
from pi05.train.data import TrainingData
from pi05.types import STATE, TASK, Batch

SAMPLES = 4
STORED = 2
"""Observations that are kept whole: a few megabytes."""


def write_preview(folder: Path, batch: Batch, frames: Sequence[int], data: TrainingData) -> None:
    """Write pictures and prompts of the first samples of a training batch."""
    slots = data.processor.slots.used
    prompts = []
    for i, frame in enumerate(list(frames)[:SAMPLES]):
        seen, raw = to_pixels(batch.images[i]), data.frames.images(frame)
        for slot, image, original in zip(slots, seen, raw, strict=True):
            write_atomic(folder / f"{slot}_{i}.png", png(image))
            write_atomic(folder / f"{slot}_{i}_raw.png", png(original))
        tokens = batch.tokens[i] if batch.token_mask is None else batch.tokens[i][batch.token_mask[i]]
        prompts.append(
            {
                "sample": i,
                "frame": frame,
                "task": data.dataset.task(frame),
                "prompt": data.processor.tokenizer.decode(tokens.tolist()),
                "tokens": len(tokens),
                "images": {slot: f"{slot}_{i}.png" for slot in slots},
            }
        )
    write_json(folder / "prompts.json", prompts)
    write_atomic(folder / OBSERVATIONS, pack_observations([_recorded(data, i) for i in list(frames)[:STORED]]))


def _recorded(data: TrainingData, frame: int) -> dict[str, Any]:
    """Return a frame as the robot would send it: every camera that the policy sees, the state, the instruction."""
    pictures = {camera: data.dataset.image(camera, frame) for camera in data.processor.slots.keys}
    return {**pictures, STATE: data.dataset.states()[frame], TASK: data.dataset.task(frame)}


def to_pixels(images: Shaped[torch.Tensor, "C height width 3"]) -> UInt8[np.ndarray, "C height width 3"]:
    """Return images as the network gets them (uint8, or float in [-1, 1]) as bytes."""
    if images.dtype == torch.uint8:
        return images.numpy()
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def png(image: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """Return an image as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
