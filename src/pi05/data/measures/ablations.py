"""What is given to a policy in the place of an input, to see whether it reads it; and from when on it counts as read.

A policy that reads none of its cameras has a loss that falls like any other's. So frames are predicted again from the
same noise with one input taken away, and how far the actions move is the root mean square over frames and steps, in
standard deviations of the training actions. Measured: 0.20 to 0.94 for policies that work, 0.000 for one that was
trained on black pictures. Leaves out the predictions (`train/watchers/`, `eval/open_loop/sensitivity.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float32

from pi05.data.lerobot.reader import Dataset
from pi05.data.measures.chunk_error import in_deviations
from pi05.data.processor import Processor
from pi05.data.prompt import clean_task
from pi05.data.transforms import absolute, relative
from pi05.errors import DataError

NO_EFFECT = 0.02
"""Standard deviations that the actions have to move at least for an input to count as read."""
UNRELATED = "sing a song"
"""The other task where the data have one only."""


def hidden_state(processor: Processor) -> Float32[np.ndarray, " S"]:
    """Return a state that tells nothing: the middle of each dimension's range."""
    return processor.state_normalizer.unnormalize(np.zeros(processor.state_dim)).astype(np.float32)


def other_tasks(dataset: Dataset, processor: Processor, frames: Sequence[int]) -> Mapping[str, str] | None:
    """Return another task's text for that of each of these frames; None where none is short enough for the prompt."""
    states, found = dataset.states()[np.asarray(frames)], {}
    tasks = {clean_task(task) for task in dataset.tasks}
    for task in {dataset.task(frame) for frame in frames}:
        others = sorted(other for other in tasks if other != clean_task(task))
        fitting = [other for other in others or [UNRELATED] if _fits(other, processor, states)]
        if not fitting:
            return None
        found[task] = fitting[-1]
    return found


def _fits(task: str, processor: Processor, states: Float32[np.ndarray, "N S"]) -> bool:
    try:
        processor.encode_prompts([task] * len(states), states)
    except DataError:  # longer than the network's prompt
        return False
    return True


def as_from(
    chunks: Float[np.ndarray, "N A n"],
    told: Float[np.ndarray, "N S"],
    own: Float[np.ndarray, "N S"],
    relative_mask: Sequence[bool] | None,
) -> Float[np.ndarray, "N A n"]:
    """Return chunks that were predicted with the state `told` as they would be at the frame's own state.

    Relative actions are added to the state that the policy is told, so that they move with it unread.
    """
    if relative_mask is None:
        return chunks
    mask = np.array(relative_mask, bool)
    return absolute(relative(chunks, told, mask), own, mask)


def moved(
    chunks: Float[np.ndarray, "N A n"], still: Float[np.ndarray, "N A n"], scale: Float[np.ndarray, " n"]
) -> float:
    """Return how far chunks are from those of all inputs, in standard deviations."""
    difference = np.sqrt(np.square(chunks.astype(np.float64) - still).mean(axis=(0, 1)))
    return float(in_deviations(difference, scale))
