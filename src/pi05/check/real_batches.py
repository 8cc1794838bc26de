"""A few frames of the data as batches for the network, as training would make them, without cache or augmentation."""

from __future__ import annotations

import numpy as np

from pi05.check.normalised import sample_frames
from pi05.check.subject import Subject
from pi05.data.collate import collate
from pi05.types import Batch

SAMPLES, SIZE = 16, 4


def batches_of(subject: Subject, samples: int = SAMPLES, size: int = SIZE) -> list[Batch]:
    """Return frames of the training episodes with their actions, evenly spaced, `size` to a batch.

    Raises DataError for pictures that cannot be decoded and prompts that are too long.
    """
    dataset, recipe = subject.dataset, subject.recipe
    if recipe is None:
        raise ValueError("batches need a recipe")
    frames = sample_frames(dataset, recipe.train_episodes, samples)
    horizon, batches = recipe.processor.horizon, []
    for start in range(0, len(frames), size):
        observations, actions, masks = [], [], []
        for frame in map(int, frames[start : start + size]):
            chunk, padded = dataset.action_chunk(frame, horizon)
            observations.append(recipe.processor.encode(dataset.frame(frame)))
            actions.append(recipe.processor.encode_actions(chunk, dataset.states()[frame]))
            masks.append(np.logical_not(padded))
        batches.append(collate(observations, actions, masks))
    return batches
