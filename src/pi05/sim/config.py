"""Which simulated robot a command is about: simulator, tasks, and whose rules. Torch-free.

The settings of `pi05 eval`, `pi05 collect` and `pi05 replay` extend this class; `environments.py` turns it into
environments. What a name means stands with the simulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pi05.settings.schema import Checked
from pi05.sim.libero.config import ALLOWED, ProtocolName, Start, Suite

SEEDS_PER_COLLECTION = 100_000
"""Episodes that a collection may try for each task; another --seed begins behind them."""
MOST_SEEDS = 10_000
"""Seeds of collections; the layouts of evaluations begin behind theirs (`eval/config.py`)."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentChoice(Checked):
    """One simulator with its tasks."""

    env: Literal["tabletop", "libero"] = "tabletop"
    """The simulator: tabletop, which is embedded, or libero, the benchmark (docs/libero.md)."""
    family: Literal["base", "demo"] = "demo"
    """Objects and instructions of tabletop: base, which pi05-tiny was pre-trained on, or demo, which it has not
    seen."""
    suite: Suite | None = None
    """Which tasks of LIBERO."""
    tasks: tuple[str, ...] = ()
    """Names of tasks of the suite; all of them when none is given."""
    protocol: ProtocolName | None = None
    """Whose rules of evaluation in LIBERO: openpi's, the default there, or LeRobot's (docs/evaluation.md)."""
    allow: tuple[str, ...] = ()
    """What is refused otherwise and shall be accepted, such as mujoco-version; the report says so."""
    hold: int = 1
    """Control steps of LIBERO for which an action is held, 1 to 4: 2 makes it a robot of 10 Hz, for demonstrations and
    policies alike."""
    seed: int | None = None
    """Chooses layouts and noise, 0 or more; when not given 0, in LIBERO the protocol's own."""

    @property
    def protocol_name(self) -> ProtocolName:
        """The rules that hold in LIBERO."""
        return self.protocol or "openpi"

    def _limits(self) -> None:
        self._at_least(0, "seed")
        self._require(1 <= self.hold <= 4, "hold", "1 to 4")
        if self.env == "libero":
            self._require(self.suite is not None, "suite", "one of LIBERO's suites", "add --suite=libero_object")
            self._require(len(set(self.tasks)) == len(self.tasks), "tasks", "different tasks")
            self._require(set(self.allow) <= set(ALLOWED), "allow", " or ".join(ALLOWED))
            self._require(self.family == "demo", "family", "left out", "it is that of --env=tabletop")
            return
        for name in ("suite", "tasks", "protocol", "allow"):
            self._require(not getattr(self, name), name, "left out", "it is LIBERO's: add --env=libero")
        self._require(self.hold == 1, "hold", "left out", "it is LIBERO's: add --env=libero")


@dataclass(frozen=True, kw_only=True)
class DemonstrationChoice(EnvironmentChoice):
    """One simulator as demonstrations are collected in it, and replayed."""

    start: Start = "random"
    """Where episodes of LIBERO begin: random, a layout drawn anew, or benchmark, the initial states that policies are
    evaluated in, which training data should not hold."""
    image_size: int = 256
    """Height and width of LIBERO's pictures (px), 32 or more."""
    joint_noise: float = 0.02
    """By how much each joint of the arm is off at the start in LIBERO, a standard deviation (rad), 0 to 0.1."""

    mixed_goals: bool = False
    """Ask in some of the episodes of LIBERO for what another of the chosen tasks asks for, where its thing lies in the
    scene, too: without it a scene tells the task, and a policy need not listen."""
    mixed_share: float | None = None
    """In which share of the episodes of a task whose scene allows it --mixed_goals asks so, above 0 and up to 1; half
    when not given."""

    @property
    def first_seed(self) -> int:
        """The environment's seed for the first episode: collections with other seeds share no episode.

        Were they one apart, sets of --seed=0 and --seed=1 would hold the same episodes but for one. In the benchmark's
        initial states the seed is the number of the first of them.
        """
        return (self.seed or 0) * (1 if self.start == "benchmark" else SEEDS_PER_COLLECTION)

    def _limits(self) -> None:
        super()._limits()
        self._require((self.seed or 0) < MOST_SEEDS, "seed", f"below {MOST_SEEDS:,}")
        self._at_least(32, "image_size")
        self._require(self.image_size % 2 == 0, "image_size", "an even number")
        self._require(0 <= self.joint_noise <= 0.1, "joint_noise", "0 to 0.1")
        if self.env != "libero":
            for name in ("start", "image_size", "joint_noise", "mixed_goals"):
                its_own = getattr(self, name) == type(self).__dataclass_fields__[name].default
                self._require(its_own, name, "left out", "it is LIBERO's: add --env=libero")
        if self.mixed_goals:
            self._require(self.start == "random", "start", "random with --mixed_goals", "leave one of the two out")
        if self.mixed_share is not None:
            self._require(0 < self.mixed_share <= 1, "mixed_share", "above 0 and up to 1")
            self._require(self.mixed_goals, "mixed_share", "left out without --mixed_goals", "add --mixed_goals")

    @property
    def share_of_mixed_goals(self) -> float:
        """Episodes, of all, that ask for what another task asks for, where the scene allows it."""
        if not self.mixed_goals:
            return 0.0
        return 0.5 if self.mixed_share is None else self.mixed_share
