"""When the column of times may be replaced, and when frames were lost."""

from __future__ import annotations

import numpy as np
import pytest

from pi05.check.fix.clock import ClockVerdict, judge_clock

FPS, FRAMES = 10.0, 50


def judge(times: np.ndarray | None, state: np.ndarray | None = None, *, pictures_match: bool = True) -> ClockVerdict:
    smooth = np.sin(np.arange(FRAMES) / 8)[:, None] * np.ones(3) if state is None else state
    return judge_clock(times, FPS, smooth, smooth, pictures_match=pictures_match)


def even() -> np.ndarray:
    return np.arange(FRAMES) / FPS


def test_a_true_clock_stays() -> None:
    assert judge(even().astype(np.float32)) == ClockVerdict()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t + 0.05, "started at 0.0500 s"),
        (lambda t: t + np.random.default_rng(0).uniform(0, 0.03, FRAMES), "steps were off"),
        (lambda t: np.where(np.arange(FRAMES) == 7, np.nan, t), "in the place of a time at frame 7"),
    ],
)
def test_a_wrong_column_is_mended(change: object, words: str) -> None:
    verdict = judge(change(even()))  # type: ignore[operator]
    assert verdict.broken is None
    assert words in str(verdict.mended)


def test_no_column_is_made() -> None:
    assert judge(None).mended == "there was no timestamp"


def test_a_gap_in_which_the_robot_moves_on_breaks_the_episode() -> None:
    times = even()
    times[20:] += 0.5
    assert "gap of 0.600 s" in str(judge(times).mended)
    state = np.sin(np.arange(FRAMES) / 8)[:, None] * np.ones(3)
    state[20:] += 1.0
    assert "between frames 19 and 20" in str(judge(times, state).broken)


def test_another_rate_is_not_a_matter_of_the_column() -> None:
    assert "steps of 0.0500 s" in str(judge(even() / 2).broken)


def test_with_other_pictures_than_rows_no_clock_is_made() -> None:
    assert "other frames" in str(judge(even() + 0.3, pictures_match=False).broken)
