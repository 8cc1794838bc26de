"""Pictures that come later or earlier than their rows, with as many of them as there are rows; and cameras that tell
nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from check_subjects import JOINTS, SIZE, found, make_subject, write_set

from pi05.check.pictures.timing import CLEAR, Pair, check_timing, measure_timing
from pi05.check.subject import Subject
from pi05.data.lerobot.reader import Dataset

FRONT = "observation.images.front"
LENGTH, EPISODES = 60, 8


def way(episode: int, length: int = LENGTH) -> np.ndarray:
    """Return where a hand is, from 0 to 1: it moves and rests, each for a while of its own."""
    rng = np.random.default_rng(episode)
    speed = np.repeat(rng.uniform(0, 1, 20) * (rng.random(20) < 0.6), rng.integers(3, 7, 20))[:length]
    place = np.cumsum(np.convolve(speed, [0.25, 0.5, 0.25], "same"))
    return place / max(place[-1], 1)


def film(late: int = 0) -> Callable[[str, int, int], np.ndarray]:
    """Return pictures of the hand as it was so many frames ago, over a table."""
    table = np.random.default_rng(0).integers(60, 120, (4, 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)

    def picture(camera: str, episode: int, frame: int) -> np.ndarray:
        seen = table.copy()
        left = int(22 * way(episode)[np.clip(frame - late, 0, LENGTH - 1)])
        seen[8:20, left : left + 10] = 230
        return seen

    return picture


def moved(episode: int, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hand = way(episode)[:, None] * np.linspace(0.5, 1.5, len(JOINTS))
    return hand.astype(np.float32), np.concatenate([hand[2:], hand[-1:], hand[-1:]]).astype(np.float32)


def written(root: Path, late: int = 0, fps: int = 10) -> Dataset:
    return write_set(
        root / "set", episodes=EPISODES, length=LENGTH, fps=fps, cameras=("front",), picture=film(late), change=moved
    )


def told(dataset: Dataset) -> dict[str, object]:
    subject = Subject(dataset=dataset, episodes=list(range(dataset.num_episodes)))
    return dict(found(check_timing(subject, [FRONT], lambda *_: None)))


@pytest.mark.parametrize("late", [8, -6])
def test_pictures_of_another_moment_are_told_with_their_frames(tmp_path: Path, late: int) -> None:
    warned = found(check_timing(make_subject(written(tmp_path, late)), [FRONT], lambda *_: None))
    assert set(warned) == {"pictures.late"}
    finding = warned["pictures.late"]
    assert finding.status == "warning"
    assert abs(finding.numbers["frames"] - late) <= 1
    assert ("later" if late > 0 else "earlier") in finding.text
    assert SIZE == 32


def test_pictures_of_their_own_moment(tmp_path: Path) -> None:
    assert set(told(written(tmp_path))) == {"pictures.in_time"}


def test_fast_recordings_are_compared_at_a_lower_rate(tmp_path: Path) -> None:
    """At 40 Hz every second frame is; the lag is told in frames of the recording."""
    warned = found(check_timing(make_subject(written(tmp_path, 10, fps=40)), [FRONT], lambda *_: None))
    assert abs(warned["pictures.late"].numbers["frames"] - 10) <= 2


def test_a_camera_that_cannot_be_decoded_is_left_to_its_own_finding(tmp_path: Path) -> None:
    dataset = written(tmp_path)
    video = next((tmp_path / "set" / "videos" / FRONT).rglob("*.mp4"))
    video.write_bytes(video.read_bytes()[:500])
    assert told(dataset) == {}


# --- the measure alone ------------------------------------------------------------------------------------------------


def pairs(shift: int, noise: float = 0.1, episodes: int = 10, length: int = 40) -> list[Pair]:
    """Return speeds, and changes of pictures that are so many frames late."""
    made = []
    for episode in range(episodes):
        rng = np.random.default_rng(episode)
        speed = np.convolve(rng.gamma(1, 1, length + 40), np.ones(4) / 4, "same")
        change = speed[20 - shift : 20 - shift + length] + noise * rng.normal(size=length)
        made.append((change, speed[20 : 20 + length]))
    return made


@pytest.mark.parametrize("shift", [-9, -3, 0, 1, 4, 12])
def test_the_shift_is_measured(shift: int) -> None:
    timing = measure_timing(pairs(shift))
    assert timing is not None
    assert timing.shift == shift
    assert timing.best > 0.9
    assert timing.tells_late == (abs(shift) > 1)


@pytest.mark.parametrize("shift", [-8, -3, 0, 4, 8])
def test_a_slow_motion_tells_it_by_its_quick_changes(shift: int) -> None:
    """As they are, the two go together about as well many frames apart."""
    rng = np.random.default_rng(0)
    shaken = []
    for change, speed in pairs(shift, noise=0.3, length=60):
        swell = 12 * np.sin(np.linspace(0, 3, 60) + rng.uniform(0, 3))
        shaken.append((change + swell, speed + swell))
    timing = measure_timing(shaken)
    assert timing is not None
    assert (timing.shift, timing.quick, timing.is_clear) == (shift, True, True)
    assert timing.tells_late == (shift != 0)


def test_what_goes_together_at_no_shift_is_not_clear() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        timing = measure_timing([(rng.normal(size=30), rng.normal(size=30)) for _ in range(8)])
        assert timing is not None
        assert not timing.is_clear, seed
        assert timing.best < CLEAR


def test_two_slow_motions_of_few_frames_are_no_proof() -> None:
    """Where both swell once or twice, some shift always fits."""
    told = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        smooth = [np.convolve(rng.normal(size=60), np.ones(9) / 9, "same")[10:50] for _ in range(6)]
        timing = measure_timing(list(zip(smooth[:3], smooth[3:], strict=True)))
        told += timing is not None and timing.tells_late
    assert told == 0


def test_too_little_tells_nothing() -> None:
    assert measure_timing([]) is None
    assert measure_timing(pairs(5, episodes=1)) is None
    assert measure_timing([(np.zeros(40), speed) for _, speed in pairs(0)]) is None
    short = measure_timing(pairs(3, episodes=10, length=12))
    assert short is not None
    assert short.shift == 3
