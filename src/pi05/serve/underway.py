"""What a robot is doing when it asks for the next chunk: the part of the last one that it still carries out. No torch.

How the next chunk is made to continue it is `rtc.py`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from pi05.errors import ConfigError

Mode = Literal["naive", "guided", "trained"]
"""`naive`: the next chunk knows nothing of the previous one."""


@dataclass(frozen=True, kw_only=True)
class Underway:
    """What is left of a chunk at an observation, and how much of it is committed."""

    actions: Float[np.ndarray, "left n"]
    """What is left of the previous chunk, from the observation on, in robot units."""
    delay: int
    """How many of these the robot will have carried out when the next chunk arrives."""

    def __post_init__(self) -> None:
        if not 0 <= self.delay <= len(self.actions):
            raise ConfigError(
                "the robot would have nothing to do until the next chunk arrives",
                wanted=f"a delay of 0 to {len(self.actions)} control steps, the actions that are left",
                found=str(self.delay),
                remedy="look again sooner (fewer n_action_steps), or train with a longer chunk",
            )
