"""Whose rules an evaluation on LIBERO follows: openpi's or LeRobot's, as numbers.

The two projects publish rates under rules that differ: how long an episode of libero_spatial may last, how many actions
of a chunk are carried out, how many episodes a task has, the size of the pictures, and the seed that places what the
benchmark's initial states leave open. Torch- and numpy-free.

Sources: openpi's examples/libero/main.py (commit 15a9616), LeRobot's envs/libero.py and lerobot_eval.py (0.6.1) with
its documentation of LIBERO.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pi05.sim.libero.config import ProtocolName, Suite

INITIAL_STATES = 50
"""Numbered initial states of every task; the n-th episode starts in state n modulo 50."""

MOST_STEPS, ACTIONS, EPISODES = "steps in libero_spatial", "actions from look to look", "episodes per task"
PICTURES, SEED = "pictures", "seed"
"""In what the two differ."""


@dataclass(frozen=True, kw_only=True)
class LiberoProtocol:
    """One project's rules."""

    name: ProtocolName
    wait_steps: int
    """Steps without movement, gripper open, before the policy acts: things fall into place. They do not count."""
    max_steps: Mapping[Suite, int]
    """Steps of the policy after which an episode has failed."""
    replan_steps: int
    """Actions of a chunk that are carried out before the policy looks again."""
    episodes_per_task: int
    render_px: int
    """Height and width of both cameras."""
    seed: int
    reseeded: bool
    """Whether episode n is seeded with `seed` + n; otherwise a task is seeded once, and its episodes draw on."""
    loads_before: int
    """How often the peer has built the scene before the first episode of a task. LIBERO draws once more for every
    drawer and knob with each building, so that this number is part of the seed."""
    differences: Mapping[str, str]
    """What a reader of a rate has to know, in words: what it is → what it is here."""

    def episode_seed(self, episode: int) -> int:
        """Return the seed of the environment for the task's episode of this number."""
        return self.seed + episode if self.reseeded else self.seed


OPENPI = LiberoProtocol(
    name="openpi",
    wait_steps=10,
    max_steps=MappingProxyType(
        {
            "libero_spatial": 220,
            "libero_object": 280,
            "libero_goal": 300,
            "libero_10": 520,
            "libero_90": 400,
        }
    ),
    replan_steps=5,
    episodes_per_task=50,
    render_px=256,
    seed=7,
    reseeded=False,
    loads_before=1,
    differences=MappingProxyType(
        {
            MOST_STEPS: "220",
            ACTIONS: "5",
            EPISODES: "50, one for each initial state",
            PICTURES: "256 px",
            SEED: "7 once per task: fixtures are drawn on from episode to episode",
        }
    ),
)
LEROBOT = LiberoProtocol(
    name="lerobot",
    wait_steps=10,
    max_steps=MappingProxyType(
        {
            "libero_spatial": 280,
            "libero_object": 280,
            "libero_goal": 300,
            "libero_10": 520,
            "libero_90": 400,
        }
    ),
    replan_steps=10,
    episodes_per_task=10,
    render_px=360,
    seed=1000,
    reseeded=True,
    loads_before=2,
    differences=MappingProxyType(
        {
            MOST_STEPS: "280",
            ACTIONS: "10",
            EPISODES: "10, in the first 10 initial states",
            PICTURES: "360 px",
            SEED: "1000 + n for the task's n-th episode",
        }
    ),
)
_BY_NAME: dict[ProtocolName, LiberoProtocol] = {"openpi": OPENPI, "lerobot": LEROBOT}


def protocol_named(name: ProtocolName) -> LiberoProtocol:
    """Return the rules of this name."""
    return _BY_NAME[name]
