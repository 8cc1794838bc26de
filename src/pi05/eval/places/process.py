"""A process that holds one environment, seen from the process of the policy: which episode it carries out, and when it
was asked."""

from __future__ import annotations

import time
from collections.abc import Callable

from pi05.eval.episode import EpisodePlan
from pi05.eval.places.worker import serve
from pi05.sim.kept_process import KeptProcess
from pi05.sim.protocol import Environment


class PlaceProcess(KeptProcess):
    """One process; `plan` is the episode that it carries out now."""

    def __init__(self, make: Callable[[], Environment], *, beside: int = 1) -> None:
        self.plan: EpisodePlan | None = None
        self.last_task: str | None = None
        self.ready = False
        super().__init__(serve, beside=beside)
        self.ask(make)

    def ask(self, message: object) -> None:
        """Send how to make the environment, a plan or actions."""
        self.asked_at = time.monotonic()
        self.send(message)
