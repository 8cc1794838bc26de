"""What others have published for pi0.5 on LIBERO, and what to know before comparing with it.

Source of the numbers: openpi's examples/libero/README.md; LeRobot's documentation of pi0.5 (read on 2026-11-29).
"""

from __future__ import annotations

from dataclasses import dataclass

from pi05.eval.result import SuccessRate
from pi05.sim.libero.config import ProtocolName, Suite


@dataclass(frozen=True, kw_only=True)
class Published:
    """One project's table."""

    who: ProtocolName
    percent: dict[Suite, float]
    episodes: int
    """In each suite."""

    def rate(self, suite: Suite) -> SuccessRate | None:
        """Return the published rate as successes among episodes, with the interval that they did not print."""
        if suite not in self.percent:
            return None
        return SuccessRate(successes=round(self.percent[suite] / 100 * self.episodes), trials=self.episodes)


PUBLISHED = (
    Published(
        who="openpi",
        percent={"libero_spatial": 98.8, "libero_object": 98.2, "libero_goal": 98.0, "libero_10": 92.4},
        episodes=500,
    ),
    Published(
        who="lerobot",
        percent={"libero_spatial": 97.0, "libero_object": 99.0, "libero_goal": 98.0, "libero_10": 96.0},
        episodes=100,
    ),
)
CAVEATS = (
    "The published policies are the full network, fine-tuned on all four suites together: rates of other networks, "
    "data or steps are not comparable.",
    "openpi: 30,000 steps at batch 256, 50 episodes per task, MuJoCo 3.2.3, no state in the prompt; there an exception "
    "of the simulator counts as a failure.",
    "LeRobot: from a base that was trained on LIBERO already; 10 episodes per task, so that one episode is a whole "
    "point and the interval about 4 points to each side; its lock file has MuJoCo 3.8.1, which darkens libero_object "
    "and starts one task of libero_spatial wrongly.",
    "Neither table has an interval: those here follow from the number of episodes.",
)
