"""A joint that has another zero from some episode on, in state and action alike; and what only looks so."""

from __future__ import annotations

import numpy as np
import pytest
from robot_sets import Recording, sound_robot

from pi05.check.numbers.measure import measure
from pi05.check.numbers.signals import Signals
from pi05.check.numbers.zero import judge_zero
from pi05.finding import Finding

SINCE = 5


def judged(recording: Recording) -> list[Finding]:
    return list(judge_zero(measure(Signals(recording.subject()))))


def shifted(recording: Recording, *joints: int, times: float = 1.5, since: int = SINCE) -> Recording:
    """Move joints by so many times what they move in an episode, in state and action."""
    copy = recording.changed()
    later = slice(copy.episodes[since].start, None)
    for joint in joints:
        spans = [np.ptp(copy.state[copy.frames(episode), joint]) for episode in range(copy.num_episodes)]
        copy.state[later, joint] += times * np.median(spans)
        copy.action[later, joint] += times * np.median(spans)
    return copy


@pytest.mark.parametrize("since", [3, 5, 7])
def test_a_joint_with_another_zero_since_some_episode(since: int) -> None:
    (found,) = judged(shifted(sound_robot(episodes=10), 1, since=since))
    assert (found.name, found.status, list(found.numbers["shifts"])) == ("numbers.zero", "warning", ["joint_1"])
    assert found.numbers["since"] == {"joint_1": since}
    fewer = list(range(since, 10)) if since >= 5 else list(range(since))
    assert f"'{fewer}'" in found.remedy


def test_episodes_are_named_by_their_numbers() -> None:
    recording = shifted(sound_robot(episodes=14), 2, since=8)
    subject = recording.subject([0, 2, 3, 5, 9, 10, 11, 13])
    (found,) = judge_zero(measure(Signals(subject)))
    assert found.numbers["since"] == {"joint_2": 9}


def test_sound_robots_have_one_zero() -> None:
    for seed in range(12):
        assert not judged(sound_robot(seed, episodes=7 + seed)), seed


def test_too_few_episodes_tell_nothing() -> None:
    assert not judged(shifted(sound_robot(episodes=5), 1, since=3))
    assert not judged(shifted(sound_robot(episodes=10), 1, since=8)), "two episodes may be anything"


def test_another_place_to_start_from_moves_most_joints() -> None:
    assert not judged(shifted(sound_robot(episodes=10), 0, 1, 2, 3, 4))


def test_a_joint_that_is_held_elsewhere_is_not_calibrated_anew() -> None:
    copy = sound_robot(episodes=10).changed()
    copy.state[:, 3] = np.random.default_rng(0).normal(0, 1e-3, copy.num_frames)
    copy.state[copy.episodes[SINCE].start :, 3] += 0.4
    assert not judged(copy)


def put(recording: Recording, joint: int, offsets: np.ndarray) -> Recording:
    """Carry out each episode of one joint somewhere else; `offsets` in what it moves in an episode."""
    copy = recording.changed()
    span = np.median([np.ptp(copy.state[copy.frames(episode), joint]) for episode in range(copy.num_episodes)])
    for episode, offset in enumerate(offsets):
        copy.state[copy.frames(episode), joint] += offset * span
        copy.action[copy.frames(episode), joint] += offset * span
    return copy


@pytest.mark.parametrize("episodes", [12, 30, 60])
def test_things_that_are_put_a_little_further_each_time_are_no_calibration(episodes: int) -> None:
    """The two halves differ surely, and no two neighbours do."""
    little_by_little = np.linspace(0, 3, episodes)
    told = judged(put(sound_robot(episodes=episodes), 1, little_by_little))
    assert told == []
    at_once = np.where(np.arange(episodes) < episodes // 2, 0.0, 1.5)
    (found,) = judged(put(sound_robot(episodes=episodes), 1, at_once))
    assert found.numbers["since"] == {"joint_1": episodes // 2}


def test_things_that_wander_are_seldom_taken_for_a_calibration() -> None:
    told = 0
    for seed in range(20):
        wander = np.cumsum(np.random.default_rng(seed).normal(0, 0.3, 60))
        told += bool(judged(put(sound_robot(seed, episodes=60), 1, wander)))
    assert told <= 4  # 20 of them before neighbours were looked at


def test_another_task_moves_one_end_of_the_range() -> None:
    """From the middle on the arm reaches further, from where it always starts."""
    copy = sound_robot(episodes=10).changed()
    for episode in range(SINCE, 10):
        own = copy.frames(episode)
        copy.state[own, 0] = copy.state[own, 0][0] + 2 * np.abs(copy.state[own, 0] - copy.state[own, 0][0])
    assert not judged(copy)
