from __future__ import annotations

import pytest

from pi05.train.records.durations import ago, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "60 s"),
        (99.4, "99 s"),
        (99.6, "1 min 40 s"),
        (125, "2 min 05 s"),
        (5999.4, "99 min 59 s"),
        (5999.6, "1 h 40 min"),
        (7265, "2 h 01 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_a_time_span_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_how_long_ago() -> None:
    assert [ago(seconds) for seconds in (59, 60, 7300, 200_000)] == [
        *("less than a minute ago", "1 minute ago", "2 hours ago", "2 days ago")
    ]
