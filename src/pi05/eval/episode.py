"""One episode of an evaluation, as plain data: what is planned, what came of it, and its times. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Outcome = Literal["success", "failure", "error"]
"""`error`: the simulator raised an exception, died or hung, twice. That says nothing about the policy."""
FilmOf = Literal["steps", "looks"]
"""When a film's frames are drawn: every so many steps, or when the policy looks, which costs no further rendering."""


@dataclass(frozen=True, kw_only=True)
class EpisodePlan:
    """What an environment needs to know to begin an episode."""

    index: int
    seed: int
    task: str | None = None
    max_steps: int | None = None
    """Steps after which the episode has failed; None: the environment's own number."""
    swap: int | None = None
    """Chooses another instruction of the same layout; None: the episode's own is given."""
    film: FilmOf | None = None


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """One episode. `asked` differs from `instruction` when the instruction was swapped."""

    index: int
    seed: int
    instruction: str
    asked: str
    outcome: Outcome
    steps: int
    swapped_success: bool | None = None
    error: str | None = None
    task: str | None = None
    start: str | None = None
    """Hash of the first observation: two episodes that begin alike have the same one."""
    repeated: str | None = None
    """What the simulator did in a first attempt that does not count; None: there was none."""
    moved: tuple[str, ...] | None = None
    """What lies elsewhere at the end; None where the simulator does not tell."""
    seam: Sequence[float] | None = None
    """Largest step between two commands where a chunk takes over from another, per action dimension; None: none did."""

    def to_dict(self) -> dict[str, Any]:
        """Return the episode as plain data."""
        return dict(self.__dict__)


@dataclass(kw_only=True)
class Spent:
    """Where the time of one or more episodes went, in seconds of wall time, and on what."""

    reset_s: float = 0.0
    look_s: float = 0.0
    physics_s: float = 0.0
    film_s: float = 0.0
    policy_s: float = 0.0
    """The episode's share of the batched inferences."""
    looks: int = 0
    steps: int = 0

    def add(self, other: Spent) -> None:
        """Add what another episode took."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    def averages(self, episodes: int) -> dict[str, float]:
        """Return milliseconds per control step, per look and per episode; nothing where nothing was done."""
        if not (self.steps and self.looks and episodes):
            return {}
        return {
            "physics_ms_per_step": 1000 * self.physics_s / self.steps,
            "render_ms_per_look": 1000 * self.look_s / self.looks,
            "policy_ms_per_look": 1000 * self.policy_s / self.looks,
            "film_ms_per_episode": 1000 * self.film_s / episodes,
            "reset_ms_per_episode": 1000 * self.reset_s / episodes,
            "steps_per_look": self.steps / self.looks,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)
