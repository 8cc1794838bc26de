"""What the model saw: its pictures and its prompt, read back from its inputs, at the start of the first episodes.

Upside-down pictures, another camera in a slot or a state that is not in the prompt cost most of a success rate and look
like a weak policy. Written as the evaluation begins, one file for each task; the page shows them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from pi05.data.processor import Processor
from pi05.eval.episode import EpisodePlan
from pi05.eval.records import PARTIAL
from pi05.files import write_json
from pi05.pages.pictures import still
from pi05.sim.protocol import Observation

MOST_TASKS = 10


def note_seen(folder: Path, processor: Processor, plan: EpisodePlan, observation: Observation, tasks: int) -> None:
    """Write what the model sees first of each task, of the first ten tasks."""
    if plan.index >= min(max(1, tasks), MOST_TASKS):
        return
    seen = {"episode": plan.index, "task": plan.task, **seen_by(processor, observation)}
    write_json(folder / PARTIAL / f"seen-{plan.index:02d}.json", seen)


def seen_by(processor: Processor, observation: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the model sees of an observation: prompt, its tokens, pictures by slot as `data:` addresses."""
    encoded = processor.encode(observation)
    used = [image for image, real in zip(encoded.images, encoded.image_mask, strict=True) if real]
    ids = [int(token) for token in encoded.tokens]
    return {
        "prompt": processor.tokenizer.decode(ids),
        "tokens": len(ids),
        "pictures": {slot: still(to_bytes(image)) for slot, image in zip(processor.slots.used, used, strict=True)},
        "size_px": processor.image_size,
    }


def read_seen(folder: Path) -> list[dict[str, Any]]:
    """Return what was written, first task first."""
    return [json.loads(path.read_text()) for path in sorted((folder / PARTIAL).glob("seen-*.json"))]


def to_bytes(image: Shaped[np.ndarray, "size size 3"]) -> UInt8[np.ndarray, "size size 3"]:
    """Return a picture as the network gets it (bytes, or float in [-1, 1]) as bytes."""
    if image.dtype == np.uint8:
        return image
    return ((image + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
