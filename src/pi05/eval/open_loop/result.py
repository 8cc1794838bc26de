"""What came of an open-loop evaluation: the numbers, as `open_loop.json` and as the lines that the command prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32

from pi05.eval.open_loop.candidate import Candidate
from pi05.eval.open_loop.episodes import ChosenEpisodes, listed
from pi05.eval.open_loop.errors import Errors, PairedDifference
from pi05.eval.open_loop.looks import Looks
from pi05.eval.open_loop.sensitivity import Sensitivity

FORMAT, FORMAT_VERSION = "pi05-open-loop", 1
Verdict = Literal["good", "even", "bad"]
CLEARLY = 0.9
"""Share of the best baseline's error below which a policy's counts as clearly smaller."""
_WORDS: dict[Verdict, str] = {
    "good": "closer to the demonstrator than",
    "even": "hardly closer to the demonstrator than",
    "bad": "no closer to the demonstrator than",
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One policy with what it predicted."""

    candidate: Candidate
    provenance: Mapping[str, Any]
    chunks: Float32[np.ndarray, "D L A n"]
    errors: Errors
    sensitivity: Sensitivity | None
    flagged: tuple[str, ...] = ()
    """States outside of what the training data held."""

    @property
    def name(self) -> str:
        """How charts call it."""
        return self.candidate.name


@dataclass(frozen=True, kw_only=True)
class OpenLoopResult:
    """One evaluation on recorded episodes."""

    config: Mapping[str, Any]
    policies: tuple[Measured, ...]
    baselines: Mapping[str, Errors]
    pairs: tuple[PairedDifference, ...]
    chosen: ChosenEpisodes
    looks: Looks
    scale: Float[np.ndarray, " n"]
    """Standard deviation of the reference actions; 0 for a constant dimension."""
    action_names: tuple[str, ...]
    data: Mapping[str, Any]
    """Folder, rate, lengths and tasks of the evaluated episodes."""
    remarks: tuple[str, ...]
    machine: Mapping[str, Any]
    date: str
    wall_s: float

    @property
    def best_baseline(self) -> str:
        """Name of the baseline with the smallest error."""
        return min(self.baselines, key=lambda name: self.baselines[name].whole.score)

    @property
    def remarkable(self) -> list[str]:
        """What differs among the policies, what was let pass, and what looks wrong with one of them."""
        found = list(self.remarks)
        for policy in self.policies:
            who = "" if len(self.policies) == 1 else f"{policy.name}: "
            found += [f"{who}{sentence}" for sentence in policy.flagged]
            if policy.sensitivity is not None and policy.sensitivity.unread:
                unread = ", ".join(policy.sensitivity.unread)
                found.append(f"{who}the actions hardly move whatever it is given as {unread}")
        return found

    def verdict(self, policy: Measured) -> tuple[Verdict, str]:
        """Return how a policy stands beside the best of what needs no learning, and that in a sentence."""
        error, least = policy.errors.whole.score, self.baselines[self.best_baseline].whole.score
        who = "the policy's" if policy.name == "policy" else f"{policy.name}'s"
        kind: Verdict = "good" if error < CLEARLY * least else "even" if error < least else "bad"
        share = f", {100 * error / least:.0f} % of it" if least > 0 else ""
        return kind, (
            f"{who} actions are {_WORDS[kind]} what needs no learning: error {error:.3f}, {self.best_baseline} "
            f"{least:.3f} standard deviations{share}"
        )

    def render(self) -> str:
        """Return the lines that the command prints."""
        numbers, looks = self.chosen.numbers, len(self.looks)
        lines = [
            f"{self.data['root']}: {self.chosen.asked} episode{'s' * (len(numbers) > 1)} {listed(numbers)}; {looks} "
            f"looks, one every {self.looks.stride} frames"
        ]
        for policy in self.policies:
            spread = "" if policy.errors.spread is None else f", spread among draws {policy.errors.spread:.3f}"
            lines += [
                f"{policy.name}: {policy.candidate.path}",
                f"  error of whole chunks {policy.errors.whole.score:.3f}, of the actions carried out "
                f"{policy.errors.executed.score:.3f} standard deviations{spread}",
                f"  {self.verdict(policy)[1]}",
            ]
            if policy.sensitivity is not None:
                most: dict[str, float] = {}
                for effect in policy.sensitivity.effects:
                    most[effect.input] = max(most.get(effect.input, 0.0), effect.moved)
                told = ", ".join(f"{name} {value:.3f}" for name, value in most.items())
                lines.append(f"  actions move without an input, in standard deviations: {told}")
        rest = ", ".join(f"{name} {errors.whole.score:.3f}" for name, errors in self.baselines.items())
        lines.append(f"without learning: {rest}")
        for found in self.pairs:
            reach = "" if found.interval is None else f" (95 %: {found.interval[0]:+.3f} to {found.interval[1]:+.3f})"
            lines.append(
                f"{found.b} less {found.a}: {found.mean:+.3f}{reach}, better in {found.b_better} of {found.episodes} "
                f"episodes: {found.verdict}"
            )
        return "\n".join([*lines, *(f"warning: {sentence}" for sentence in [*self.chosen.warnings, *self.remarkable])])

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "date": self.date,
            "wall_s": self.wall_s,
            "data": dict(self.data),
            "episodes": list(self.chosen.numbers),
            "asked": self.chosen.asked,
            "reference": self.chosen.reference_is,
            "looks": len(self.looks),
            "stride": self.looks.stride,
            "horizon": int(self.looks.valid.shape[1]),
            "unit": "standard deviations of the reference actions",
            "deviations": {name: float(value) for name, value in zip(self.action_names, self.scale, strict=True)},
            "policies": [self._policy(policy) for policy in self.policies],
            "baselines": {name: self._errors(errors) for name, errors in self.baselines.items()},
            "pairs": [{**asdict(found), "verdict": found.verdict} for found in self.pairs],
            "warnings": [*self.chosen.warnings, *self.remarkable],
            "config": dict(self.config),
            "machine": dict(self.machine),
        }

    def _policy(self, policy: Measured) -> dict[str, Any]:
        trained_on = self.chosen.trained_on[policy.name]
        sensitivity = policy.sensitivity
        return {
            "name": policy.name,
            **policy.provenance,
            "n_action_steps": policy.candidate.n_action_steps,
            "notes": list(policy.candidate.notes),
            "trained_on": None if trained_on is None else list(trained_on),
            **self._errors(policy.errors),
            "spread": policy.errors.spread,
            "sensitivity": None
            if sensitivity is None
            else {**asdict(sensitivity), "effects": [asdict(effect) for effect in sensitivity.effects]},
        }

    def _errors(self, errors: Errors) -> dict[str, Any]:
        return {
            "error": errors.whole.score,
            "error_of_executed": errors.executed.score,
            "dimensions": {
                name: {"error": float(whole), "error_of_executed": float(executed)}
                for name, whole, executed in zip(
                    self.action_names, errors.whole.error, errors.executed.error, strict=True
                )
            },
            "by_step": finite(errors.whole.by_step.tolist()),
            "by_time": finite(errors.by_time),
            "by_task": dict(errors.by_task),
            "by_episode": {str(number): value for number, value in errors.by_episode.items()},
        }


def finite(values: Sequence[float]) -> list[float | None]:
    """Return numbers as JSON holds them: None for what is not one."""
    return [float(value) if math.isfinite(value) else None for value in values]
