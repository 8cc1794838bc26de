"""Two policies over the same episodes: the difference of their success rates, its interval, and whether it is chance.

Pairing takes out what makes an episode hard or easy for both, so that far fewer episodes settle a comparison than two
rates with their own intervals would. Numbers only: which episodes are pairs is decided in `compare.py`.

Sources: Q. McNemar, 1947 (exact, by the binomial distribution); R. G. Newcombe, "Improved confidence intervals for the
difference between binomial proportions based on paired data", 1998, method 10; R. J. Connor, "Sample size for testing
differences in proportions for the paired-sample design", 1987.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pi05.eval.result import SuccessRate

Z_95, Z_POWER_80 = 1.959964, 0.841621
SIGNIFICANT = 0.05


@dataclass(frozen=True, kw_only=True)
class PairedOutcomes:
    """How often both, one, or none of two policies succeeded in the same episode."""

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def pairs(self) -> int:
        """Episodes that count for both."""
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def a(self) -> SuccessRate:
        """Success rate of the first policy."""
        return SuccessRate(successes=self.both + self.only_a, trials=self.pairs)

    @property
    def b(self) -> SuccessRate:
        """Success rate of the second policy."""
        return SuccessRate(successes=self.both + self.only_b, trials=self.pairs)

    @property
    def difference(self) -> float:
        """The second rate less the first, -1 to 1."""
        return (self.only_b - self.only_a) / self.pairs

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference."""
        rate_a, rate_b = self.a.value or 0.0, self.b.value or 0.0
        (low_a, high_a), (low_b, high_b) = self.a.interval, self.b.interval
        phi = self._correlation()
        below = _distance(rate_b - low_b, high_a - rate_a, phi)
        above = _distance(high_b - rate_b, rate_a - low_a, phi)
        return max(-1.0, self.difference - below), min(1.0, self.difference + above)

    @property
    def p_value(self) -> float:
        """Chance of a difference at least this large, either way, if both are equally good: exact McNemar."""
        discordant, fewer = self.only_a + self.only_b, min(self.only_a, self.only_b)
        tail = sum(math.comb(discordant, k) for k in range(fewer + 1)) / 2**discordant
        return min(1.0, 2 * tail)

    @property
    def settled(self) -> bool:
        """Whether the p-value is under 0.05."""
        return self.p_value < SIGNIFICANT

    def episodes_for(self, difference: float) -> int | None:
        """Return how many episodes show such a difference with 80 % chance at 5 %; None for no difference.

        The share of episodes in which just one succeeds is taken to stay as it is, or as small as the difference lets
        it be.
        """
        if difference == 0:
            return None
        discordant = max((self.only_a + self.only_b) / self.pairs, abs(difference))
        spread = math.sqrt(max(0.0, discordant - difference**2))
        return math.ceil(((Z_95 * math.sqrt(discordant) + Z_POWER_80 * spread) / difference) ** 2)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        low, high = self.interval
        return {
            "pairs": self.pairs,
            "both": self.both,
            "only_a": self.only_a,
            "only_b": self.only_b,
            "neither": self.neither,
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "difference": self.difference,
            "difference_low": low,
            "difference_high": high,
            "p_value": self.p_value,
            "settled": self.settled,
            "episodes_for_this_difference": self.episodes_for(self.difference),
        }

    def _correlation(self) -> float:
        """Return the correlation of the two outcomes, with Newcombe's continuity correction."""
        product = self.a.successes * (self.pairs - self.a.successes) * self.b.successes
        product *= self.pairs - self.b.successes
        if product == 0:
            return 0.0
        excess = float(self.both * self.neither - self.only_a * self.only_b)
        if excess > 0:
            excess = max(excess - self.pairs / 2, 0.0)
        return excess / math.sqrt(product)


def _distance(first: float, second: float, phi: float) -> float:
    return math.sqrt(max(0.0, first**2 - 2 * phi * first * second + second**2))
