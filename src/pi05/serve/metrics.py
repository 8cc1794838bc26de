"""Counts and times of a server, in Prometheus' text form. No torch.

Labels have few values, none of them a client's own words.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32)


class Histogram:
    """Counts in buckets, each with an upper limit."""

    def __init__(self, limits: Sequence[float]) -> None:
        self.limits = limits
        self.counts = [0] * (len(limits) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.limits, value)] += 1
        self.total += value

    def lines(self, name: str) -> list[str]:
        """Return the buckets, each counting all below its limit."""
        lines, so_far = [], 0
        for limit, count in zip([*map("{:g}".format, self.limits), "+Inf"], self.counts, strict=True):
            so_far += count
            lines.append(f'{name}_bucket{{le="{limit}"}} {so_far}')
        return [*lines, f"{name}_sum {self.total:.6f}", f"{name}_count {so_far}"]


@dataclass(kw_only=True)
class Metrics:
    """What a server has done since it started."""

    answered: Counter[str] = field(default_factory=Counter)
    """Family of the client → answers."""
    refused: Counter[str] = field(default_factory=Counter)
    """Code of the refusal → how many."""
    turned_away: Counter[str] = field(default_factory=Counter)
    """Why a connection was not made → how many."""
    warnings: int = 0
    continued: int = 0
    """Answers that continue the chunk before them."""
    connections: int = 0
    connected: int = 0
    latency: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    network: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    sizes: Histogram = field(default_factory=lambda: Histogram(SIZES))

    def batch(self, size: int, seconds: float) -> None:
        """Count one run of the network."""
        self.sizes.add(size)
        self.network.add(seconds)

    def render(self, waiting: int, ready: bool) -> str:
        """Return everything as text."""
        lines = [
            *_one("ready", "gauge", "1 when the policy is warm", int(ready)),
            *_one("connected_clients", "gauge", "open connections", self.connected),
            *_one("connections_total", "counter", "connections so far", self.connections),
            *_one("waiting_questions", "gauge", "observations before the network", waiting),
            *_one(
                "odd_observations_total",
                "counter",
                "states, pictures and instructions unlike the training's",
                self.warnings,
            ),
            *_one("continued_answers_total", "counter", "answers that continue the chunk before them", self.continued),
            *_many("answers_total", "answered observations", "client", self.answered),
            *_many("refusals_total", "messages that were refused", "code", self.refused),
            *_many("turned_away_total", "connections that were not made", "reason", self.turned_away),
        ]
        for name, help_text, histogram in (
            ("answer_seconds", "from an observation's arrival to its answer", self.latency),
            ("network_seconds", "of one run of the network, all its observations together", self.network),
            ("batch_size", "observations in one run of the network", self.sizes),
        ):
            lines += [f"# HELP pi05_{name} {help_text}", f"# TYPE pi05_{name} histogram"]
            lines += histogram.lines(f"pi05_{name}")
        return "\n".join(lines) + "\n"


def _one(name: str, kind: str, help_text: str, value: float) -> list[str]:
    return [f"# HELP pi05_{name} {help_text}", f"# TYPE pi05_{name} {kind}", f"pi05_{name} {value}"]


def _many(name: str, help_text: str, label: str, counts: Mapping[str, int]) -> list[str]:
    head = [f"# HELP pi05_{name} {help_text}", f"# TYPE pi05_{name} counter"]
    return head + [f'pi05_{name}{{{label}="{key}"}} {count}' for key, count in sorted(counts.items())]
