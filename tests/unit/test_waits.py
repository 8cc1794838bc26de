"""What takes long says so, once, and when it is over; what is quick says nothing."""

from __future__ import annotations

import threading
import time

import pytest

from pi05.waits import AFTER_S, waiting


def test_a_long_wait_says_what_for_and_how_long_it_took() -> None:
    told: list[str] = []
    heard = threading.Event()

    def say(text: str) -> None:
        told.append(text)
        heard.set()

    with waiting("hashing the weights", say, after_s=0.01):
        assert heard.wait(10)
    assert told == ["hashing the weights …", "hashing the weights: took 0 s"]


def test_a_short_one_says_nothing() -> None:
    told: list[str] = []
    with waiting("hashing", told.append, after_s=0.2):
        pass
    time.sleep(0.3)
    assert told == []
    assert AFTER_S == 3.0


def test_a_wait_that_fails_says_no_more() -> None:
    told: list[str] = []
    with pytest.raises(ZeroDivisionError), waiting("hashing", told.append, after_s=60.0):
        raise ZeroDivisionError
    assert told == []
