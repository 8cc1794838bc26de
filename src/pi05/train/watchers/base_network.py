"""Is the base's network alive? A few training frames through it before the first step of a run, as `pi05 check` does.

Embedding scale, a dead vision tower, inputs without effect; and whether it knows the pictures better turned. The loss
is judged by the first step itself, on as many samples as that has (`first_loss.py`). A network that is split over GPUs
is not looked at here, since its parts are only gathered for whole passes; nor is one of full size on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from pi05.check.network import judge_base, measure_base
from pi05.check.turned_pictures import FRAMES, look_at_turns
from pi05.data.collate import collate
from pi05.errors import TrainingError
from pi05.finding import Finding
from pi05.model.pi05 import Pi05
from pi05.train.checked.base_network import LARGEST_ON_CPU
from pi05.train.checked.gate import one_line
from pi05.train.config import ALLOW_BASE_LOSS, TrainConfig
from pi05.train.data import TrainingData
from pi05.train.parallel.split import Parallel
from pi05.train.resume import OpenRun
from pi05.types import Batch

SAMPLES, SIZE = 8, 4
"""Training frames, spread evenly, and how many at a time."""
TURNED_SAMPLES = 16
"""Frames that decide whether pictures may be turned, before many more do."""
REHEARSAL = 200
"""Steps under which a run is a rehearsal, and not asked whether its pictures are turned: seconds on a GPU."""


def require_sound_network(
    config: TrainConfig, run: OpenRun, data: TrainingData, model: Pi05, parallel: Parallel, tell: Callable[[str], None]
) -> list[Finding]:
    """Return warnings of a base's network, which are told.

    Raises TrainingError, the same in every process, for one that is broken and not allowed by name. Says nothing of a
    sound one, of random weights that were asked for, and of a run that continues.
    """
    ranks = parallel.ranks
    if run.base is None or run.continues or parallel.sharded:
        return []
    if ranks.device.type == "cpu" and sum(value.numel() for value in model.parameters()) > LARGEST_ON_CPU:
        return []
    found = ranks.from_first(examine_network(config, data, model, ranks.device) if ranks.first else [])
    warnings = [finding for finding in found if finding.status == "warning"]
    for finding in warnings:
        tell(f"warning: {one_line(finding)}")
    broken = [finding for finding in found if finding.status == "error"]
    for finding in broken:
        if finding.name in config.allow:
            tell(f"warning: {finding.name} (allowed): {finding.text}")
    refused = [finding for finding in broken if finding.name not in config.allow]
    if refused:
        names = ", ".join(dict.fromkeys(finding.name for finding in refused))
        raise TrainingError(
            "the base's network is broken: " + "; ".join(finding.text for finding in refused),
            wanted="a base whose actions follow from pictures, state and task",
            found=f"{names}, with the weights of {run.base.given}: a run {refused[0].effect}",
            remedy=f"{refused[0].remedy}; or train on it on purpose: --allow='[{names}]'",
        )
    return warnings


def examine_network(config: TrainConfig, data: TrainingData, model: Pi05, device: torch.device) -> list[Finding]:
    """Return what is wrong with a network, but for its loss."""
    dims, training = data.processor.robot_action_dim, model.training
    measures = measure_base(model.eval(), some_batches(data, SAMPLES, device), action_dims=dims)
    found = [finding for finding in judge_base(measures) if finding.to_mend and finding.name != ALLOW_BASE_LOSS]
    if not found and config.steps >= REHEARSAL:
        few, cameras = some_batches(data, TURNED_SAMPLES, device), data.processor.slots.keys
        found += look_at_turns(model, few, lambda: some_batches(data, FRAMES, device), cameras, action_dims=dims)
    model.train(training)
    return found


def some_batches(data: TrainingData, samples: int, device: torch.device) -> list[Batch]:
    """Return so many training frames, spread evenly, on a device."""
    frames = data.frames_of(data.train_episodes)
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(samples, len(frames))).round().astype(int))
    parts = [[frames[place] for place in chosen[first : first + SIZE]] for first in range(0, len(chosen), SIZE)]
    return [batch_of(data, part).to(device) for part in parts]


def batch_of(data: TrainingData, frames: Sequence[int]) -> Batch:
    """Return frames with their actions as training gives them to the network, without augmentation."""
    processor, dataset = data.processor, data.dataset
    chunks = [dataset.action_chunk(frame, processor.horizon) for frame in frames]
    actions = [
        processor.encode_actions(chunk, dataset.states()[frame])
        for (chunk, _), frame in zip(chunks, frames, strict=True)
    ]
    return collate([data.observation(frame) for frame in frames], actions, [~padded for _, padded in chunks])
