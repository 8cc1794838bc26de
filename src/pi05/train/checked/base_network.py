"""The base's network on a few real frames, for `pi05 check`: loads it, measures it, lets it go.

Training measures its own network at step 0 (`train/watchers`). Leaves out what the measures mean (`check/network.py`).
"""

from __future__ import annotations

import torch

from pi05.check.network import judge_base, measure_base
from pi05.check.opening import finding_of
from pi05.check.real_batches import batches_of
from pi05.check.subject import Subject
from pi05.check.turned_pictures import FRAMES, look_at_turns
from pi05.checkpoint.load import read_model
from pi05.errors import DataError
from pi05.finding import Finding, note
from pi05.model.pi05 import Pi05
from pi05.train.config import TrainConfig
from pi05.train.network import choose_sizes, locate_start, own_device

LARGEST_ON_CPU = 10**9
"""Parameters of the largest network that is run on a CPU: one of full size would take half an hour."""


def look_at_network(config: TrainConfig, subject: Subject) -> list[Finding]:
    """Return what is wrong with the base's network, or that nothing is; nothing where there is no base.

    Raises CheckpointError for a base that cannot be loaded.
    """
    location = None if config.policy.path is None or config.from_scratch else locate_start(config)
    recipe = subject.recipe
    if location is None or recipe is None or not recipe.tokenizer_known:
        return []
    sizes, device = choose_sizes(config, location), own_device(config.policy.device)
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in Pi05(sizes).parameters())
    if device.type == "cpu" and count > LARGEST_ON_CPU:
        return [
            note(
                "base.not_measured",
                f"the base has {count / 1e9:.1f} billion parameters, which are not run on a CPU",
                "measures it at its step 0",
                "repeat the check on a machine with a GPU",
            )
        ]
    try:
        batches = batches_of(subject)
    except DataError as fault:
        return [finding_of(fault, "pictures")]
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    model, _ = read_model(location, device, dtype, sizes, dtype)
    moved, dims = [batch.to(device) for batch in batches], recipe.processor.robot_action_dim
    measures = measure_base(model.eval(), moved, action_dims=dims)
    try:
        turned = look_at_turns(
            model,
            moved,
            lambda: [batch.to(device) for batch in batches_of(subject, FRAMES)],
            recipe.processor.slots.keys,
            action_dims=dims,
        )
    except DataError as fault:  # among the many frames, which the few did not meet
        turned = [finding_of(fault, "pictures")]
    return [*judge_base(measures), *turned]
