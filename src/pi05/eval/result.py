"""What an evaluation found: episodes, success rate with its uncertainty, and the machine it ran on.

Leaves out how episodes are run (`rollout.py`) and how they are shown (`report.py`). An episode in which the simulator
itself failed says nothing about the policy: it is an error, not a failure, and is left out of every rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from pi05.eval.episode import EpisodeResult, Spent
from pi05.eval.film import Gallery

MOST_LISTED = 12
"""Instructions listed on the terminal; the page lists all."""


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the Wilson score (confidence) interval of a proportion; z = 1.96 gives 95 %. Without trials: 0 to 1.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    if trials == 0:
        return 0.0, 1.0
    rate, spread = successes / trials, z * z / trials
    centre = (rate + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(rate * (1 - rate) / trials + spread / (4 * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, kw_only=True)
class SuccessRate:
    """A success rate: successes among trials, with its confidence interval."""

    successes: int
    trials: int

    @property
    def value(self) -> float | None:
        """The share of successes, 0 to 1; None without trials."""
        return self.successes / self.trials if self.trials else None

    @property
    def interval(self) -> tuple[float, float]:
        """The Wilson 95 % confidence interval."""
        return wilson_interval(self.successes, self.trials)

    def render(self) -> str:
        """Return the rate as text."""
        if self.value is None:
            return "no episode counts"
        low, high = self.interval
        return f"{self.successes}/{self.trials} = {self.value:.1%} (Wilson 95 %: {low:.1%} to {high:.1%})"

    def to_dict(self) -> dict[str, Any]:
        """Return the rate as plain data."""
        low, high = self.interval
        return {
            "successes": self.successes,
            "trials": self.trials,
            "rate": self.value,
            "wilson_low": low,
            "wilson_high": high,
        }


@dataclass(frozen=True, kw_only=True)
class EvalResult:
    """One evaluation."""

    config: dict[str, Any]
    policy: dict[str, Any]
    environment: dict[str, Any]
    episodes: Sequence[EpisodeResult]
    machine: dict[str, Any]
    date: str
    wall_s: float
    flagged: Sequence[str] = field(default_factory=list)
    output_dir: str | None = None
    rules: dict[str, Any] = field(default_factory=dict)
    """How it was measured, every default resolved (`rules.py`)."""
    spent: Spent = field(default_factory=Spent)
    """Where the time of all episodes went."""
    memory_bytes: int | None = None
    """Most that one environment's process has held; None where they were in this one."""
    seen: Sequence[dict[str, Any]] = ()
    """What the model saw first of each task: prompt, and pictures, which `to_dict` leaves out."""
    gallery: Gallery = field(default_factory=lambda: Gallery(limit=0))
    """Films of some episodes; pages show them, `to_dict` leaves them out."""

    @property
    def counted(self) -> list[EpisodeResult]:
        """The episodes that say something about the policy."""
        return [episode for episode in self.episodes if episode.outcome != "error"]

    @property
    def errors(self) -> list[EpisodeResult]:
        """The episodes in which the simulator failed: an exception, a dead or a hung process, each time twice."""
        return [episode for episode in self.episodes if episode.outcome == "error"]

    @property
    def success(self) -> SuccessRate:
        """Success at the goal of the layout (the original one when the instruction was swapped)."""
        return _rate(self.counted)

    @property
    def swapped_success(self) -> SuccessRate | None:
        """Success at the goal that was asked for instead; None when nothing was swapped."""
        if not any(episode.swapped_success is not None for episode in self.episodes):
            return None
        return SuccessRate(successes=sum(bool(e.swapped_success) for e in self.counted), trials=len(self.counted))

    @property
    def by_instruction(self) -> dict[str, SuccessRate]:
        """Success for each original instruction, in alphabetical order."""
        names = sorted({episode.instruction for episode in self.counted})
        return {name: _rate([e for e in self.counted if e.instruction == name]) for name in names}

    @property
    def repeated(self) -> int:
        """Episodes that count in spite of a first attempt in which the simulator failed."""
        return sum(episode.repeated is not None for episode in self.counted)

    @property
    def unique_starts(self) -> int:
        """Different first observations among the episodes that count."""
        return len({episode.start for episode in self.counted if episode.start is not None})

    @property
    def lengths(self) -> dict[str, int | float]:
        """Steps of the successful episodes: least, median, most; nothing without one."""
        steps = [episode.steps for episode in self.counted if episode.outcome == "success"]
        return {"least": min(steps), "median": median(steps), "most": max(steps)} if steps else {}

    @property
    def largest_seam(self) -> list[float] | None:
        """Largest step between two commands where a chunk takes over from another, per action dimension."""
        seams = [episode.seam for episode in self.counted if episode.seam is not None]
        return [max(each) for each in zip(*seams, strict=True)] if seams else None

    @property
    def chunking_rows(self) -> list[tuple[str, str]]:
        """What a delay did, as name and text; nothing where there was none."""
        delay, chunking = self.rules.get("delay", 0), self.rules.get("chunking", "synchronous")
        if not delay and chunking == "synchronous":
            return []
        rows = [("chunks", f"{chunking}, {delay} control step{'s' * (delay != 1)} after their observation")]
        if self.largest_seam is not None:
            names = self.environment.get("action_names") or [f"{i}" for i in range(len(self.largest_seam))]
            steps = zip(names, self.largest_seam, strict=True)
            rows.append(("largest step at a seam", ", ".join(f"{name} {step:.3g}" for name, step in steps)))
        return rows

    @property
    def time(self) -> dict[str, float]:
        """Milliseconds: per control step of physics, per look of rendering and of the policy, per episode of resets."""
        return self.spent.averages(len(self.episodes))

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data, rates included."""
        return {
            "format": "pi05-evaluation",
            "format_version": 1,
            "date": self.date,
            "success": self.success.to_dict(),
            "swapped_success": None if self.swapped_success is None else self.swapped_success.to_dict(),
            "simulator_exceptions": len(self.errors),
            "by_instruction": {name: rate.to_dict() for name, rate in self.by_instruction.items()},
            "repeated": self.repeated,
            "unique_starts": self.unique_starts,
            "lengths": self.lengths,
            "largest_seam": self.largest_seam,
            "time": self.time,
            "spent": self.spent.to_dict(),
            "memory_per_environment_bytes": self.memory_bytes,
            "wall_s": self.wall_s,
            "rules": self.rules,
            "config": self.config,
            "policy": self.policy,
            "environment": self.environment,
            "machine": self.machine,
            "flagged": list(self.flagged),
            "seen": [{name: value for name, value in one.items() if name != "pictures"} for one in self.seen],
            "episodes": [episode.to_dict() for episode in self.episodes],
        }

    def render(self) -> str:
        """Return the result as the lines that the command prints."""
        lines = [f"{self.environment['name']}/{self.environment['family']}: {self._listed_seeds()}"]
        lines += rule_lines(self.rules)
        if self.swapped_success is not None:
            lines.append(f"success at the original goal   {self.success.render()}")
            lines.append(f"success at the swapped goal    {self.swapped_success.render()}")
        else:
            lines.append(f"success                        {self.success.render()}")
        lines += [f"{name:30} {text}" for name, text in self.chunking_rows]
        lines.append(f"simulator exceptions           {len(self.errors)} (not in the rates)")
        if self.repeated:
            lines.append(f"repeated                       {self.repeated} episodes, after a failure of the simulator")
        if self.unique_starts:
            lines.append(f"different first observations   {self.unique_starts} in {len(self.counted)} episodes")
        if 1 < len(self.by_instruction) <= MOST_LISTED:
            lines += [f"  {rate.successes:3d}/{rate.trials:<3d} {name}" for name, rate in self.by_instruction.items()]
        if self.time and self.memory_bytes:
            lines.append(self._cost())
        lines += [f"note: {sentence}" for sentence in self.environment.get("notes", ())]
        lines += [f"warning: {sentence}" for sentence in self.flagged]
        return "\n".join(lines)

    def _cost(self) -> str:
        spent = self.time
        return (
            f"cost                           physics {spent['physics_ms_per_step']:.0f} ms per step, rendering "
            f"{spent['render_ms_per_look']:.0f} and policy {spent['policy_ms_per_look']:.0f} ms per look; "
            f"{(self.memory_bytes or 0) / 2**30:.1f} GiB of memory per environment"
        )

    def _listed_seeds(self) -> str:
        seeds = [episode.seed for episode in self.episodes]
        if self.rules.get("tasks"):
            tasks = len(self.rules["tasks"])
            return f"{len(seeds)} episodes of {tasks} task{'s' * (tasks > 1)}, numbers {min(seeds)} to {max(seeds)}"
        listed = f"{min(seeds)} to {max(seeds)}" if len(seeds) > 1 else str(seeds[0])
        if max(seeds) - min(seeds) != len(seeds) - 1:
            listed = f"{min(seeds)} and following, some layouts replaced; results.json lists them"
        return f"{len(seeds)} episodes, seeds {listed}"


def rule_lines(rules: Mapping[str, Any]) -> list[str]:
    """Return the protocol and the departures from it; nothing where there is no protocol."""
    if rules.get("protocol") is None:
        return []
    departures = "; ".join(rules["departures"]) or "none"
    return [f"protocol                       {rules['protocol']}; departures from it: {departures}"]


def _rate(episodes: Sequence[EpisodeResult]) -> SuccessRate:
    return SuccessRate(successes=sum(e.outcome == "success" for e in episodes), trials=len(episodes))
