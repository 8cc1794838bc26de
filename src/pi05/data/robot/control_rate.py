"""When two control rates are the same. No torch, no NumPy: a robot's program asks as well."""

from __future__ import annotations


def same_rate(hz: float, wanted_hz: float) -> bool:
    """Tell whether two control rates are the same, within 5 %."""
    return abs(hz - wanted_hz) <= 0.05 * wanted_hz
