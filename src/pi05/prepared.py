"""One observation of a robot or a simulator: checked, judged by what the training held, and made the network's inputs.

What cannot be read is refused (`requirements.py`, `robot/guard.py`). What can be read and is unlike the training, so
that the policy would move and do something else, is warned of, or refused where that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from pi05.data.joined import with_state
from pi05.data.processor import Processor
from pi05.data.prompt import clean_task
from pi05.data.requirements import require_task
from pi05.data.robot.guard import (
    outside_of_training,
    require_as_filmed,
    require_bytes_used,
    require_inside,
    unlike_training,
)
from pi05.data.robot.instructions import require_heard, unheard
from pi05.data.robot.oddities import Oddities
from pi05.data.robot.recent_looks import RecentLooks
from pi05.types import STATE, Observation


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """One observation that has passed every check, as the network reads it."""

    inputs: Observation
    state: Float[np.ndarray, " S"]
    """The raw state, which relative actions start from."""
    warnings: tuple[str, ...] = ()
    """What is odd about it and was not refused: numbers of the state outside of the training range, pictures that
    stand otherwise than in training or are another camera's, an instruction that it did not have."""


def prepare(
    processor: Processor, observation: Mapping[str, Any], looks: RecentLooks, oddities: Oddities, *, strict: bool
) -> Prepared:
    """Check one observation and return the network's inputs; what is odd about it is told by `oddities`.

    Pictures are judged together with the `looks` before them. Raises DataError for a missing, unknown or wrong picture,
    a missing or wrong state, no task; where it is `strict`, for what is odd, too.
    """
    observation = with_state(observation, processor.state_columns)
    state = processor.state_of(observation)
    known = STATE in observation
    outside = outside_of_training(state, processor.state_stats, processor.state_names) if known else []
    if strict:
        require_inside(outside)
    inputs = processor.encode(observation)
    strange = unheard(clean_task(require_task(observation)), processor.heard)
    if strict:
        require_heard(strange)
    for camera in processor.slots.keys:
        require_bytes_used(np.asarray(observation[camera]), camera)
    unlike = unlike_training(inputs.images, processor.slots.by_slot, processor.camera_views, looks)
    if strict:
        require_as_filmed(unlike)
    oddities.tell(outside, unlike, strange)
    odd = [*outside, *unlike, *([] if strange is None else [strange])]
    return Prepared(inputs=inputs, state=state, warnings=tuple(map(str, odd)))
