"""How time spans are written for people, on the console, on pages and on cards."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return a time span in its two largest units: 4.2 s, 87 s, 2 min 05 s, 7 h 08 min."""
    seconds = max(0.0, seconds)
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def ago(seconds: float) -> str:
    """Return a time span as people say it."""
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' * (count != 1)} ago"
    return "less than a minute ago"
