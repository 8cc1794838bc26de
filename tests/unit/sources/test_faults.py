"""Faults of hub and network: how long to wait, and what no waiting helps."""

from __future__ import annotations

import pytest

from pi05.sources.faults import Patience, asked_wait


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"RETRY-AFTER": " 7 "}, 7.0),
        ({"RateLimit": '"api";r=0;t=55'}, 55.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"RateLimit": "nonsense"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_an_answer_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait(headers) == seconds


def test_patience_is_for_faults_of_hub_and_network_only() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Patience(sleep=lambda s: None).run("dividing", broken, lambda line: None)
