"""Every finding on states and actions: a recording that must trip it, and many sound ones that must trip none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from robot_sets import Recording, humanoid, real_set, sound_robot

from pi05.check.numbers.family import check_numbers
from pi05.check.subject import Subject
from pi05.finding import Finding

Change = Callable[[Recording], Recording]


def to_mend(recording: Recording) -> dict[str, Finding]:
    return {finding.name: finding for finding in check_numbers(recording.subject()) if finding.to_mend}


def each(change: Callable[[Recording, int], None], episodes: Callable[[int], range] = range) -> Change:
    """Return a change of some episodes, one by one."""

    def altered(recording: Recording) -> Recording:
        copy = recording.changed()
        for episode in episodes(copy.num_episodes):
            change(copy, episode)
        return copy

    return altered


def first_half(count: int) -> range:
    return range(count // 2)


def in_degrees(r: Recording, e: int) -> None:
    r.state[r.frames(e)] *= 57.2958
    r.action[r.frames(e)] *= 57.2958


def spike(size: float, kind: str) -> Change:
    def altered(recording: Recording) -> Recording:
        copy = recording.changed()
        values = copy.state if kind == "state" else copy.action
        values[copy.episodes[2].start + 40, 0] += size * np.ptp(values[:, 0])
        return copy

    return altered


def jump(recording: Recording) -> Recording:
    copy = recording.changed()
    frames = copy.frames(1)
    copy.state[(frames.start + frames.stop) // 2 : frames.stop, 0] += 0.6 * np.ptp(copy.state[:, 0])
    return copy


def idle_tails(recording: Recording) -> Recording:
    """Let every episode stand still at its end, as long again."""
    states, actions = [], []
    for episode in range(recording.num_episodes):
        frames = recording.frames(episode)
        for parts, values in ((states, recording.state[frames]), (actions, recording.action[frames])):
            parts += [values, np.repeat(values[-1:], len(values), axis=0)]
    lengths = [2 * length for length in recording.lengths]
    return recording.changed(state=np.vstack(states), action=np.vstack(actions), lengths=lengths)


def frozen(r: Recording, e: int) -> None:
    r.state[r.frames(e)] = r.state[r.frames(e)][0]


def stale(r: Recording, e: int) -> None:
    if e:
        r.state[r.frames(e).start] = r.state[r.frames(e).start - 1]


def noise(r: Recording, e: int) -> None:
    r.action[r.frames(e), 1] = np.random.default_rng(e).normal(size=r.lengths[e])


def calibrated_anew(r: Recording, e: int) -> None:
    r.state[r.frames(e), 0] += 0.3


def around_the_seam(turn: float) -> Change:
    def altered(recording: Recording) -> Recording:
        copy = recording.changed()
        values = copy.state[:, 1]
        angle = (values - np.median(values)) / np.ptp(values) * 0.7 * turn + turn / 2
        copy.state[:, 1] = (angle + turn / 2) % turn - turn / 2
        return copy

    return altered


ALTERED: dict[str, tuple[str, Change]] = {
    "degrees in half the episodes": ("numbers.units", each(in_degrees, first_half)),
    "a far spike of the state": ("numbers.spikes", spike(2.5, "state")),
    "a spike of the state within its range": ("numbers.spikes", spike(0.5, "state")),
    "a far spike of the action": ("numbers.spikes", spike(2.5, "action")),
    "a jump": ("numbers.jumps", jump),
    "idle tails": ("numbers.idle", idle_tails),
    "a state that stands still within episodes": ("numbers.frozen_state", each(frozen)),
    "stale first frames": ("numbers.stale_first", each(stale)),
    "a dimension of noise": ("numbers.noise", each(noise)),
    "another calibration in half the episodes": ("numbers.calibration", each(calibrated_anew, first_half)),
    "the state as the action": ("numbers.action_is_state", lambda r: r.changed(action=r.state.copy())),
    "another order of the joints": ("numbers.order", lambda r: r.changed(action=np.roll(r.action, 2, axis=1))),
    "actions in degrees": ("numbers.action_units", lambda r: r.changed(action=r.action * np.float32(57.2958))),
    "an angle around ±π": ("numbers.wrap", around_the_seam(2 * np.pi)),
    "an angle around ±180°": ("numbers.wrap", around_the_seam(360.0)),
}
ERRORS = {"numbers.units", "numbers.frozen_state"}


@pytest.mark.parametrize("make", [sound_robot, humanoid], ids=["made up", "GR1"])
@pytest.mark.parametrize("altered", ALTERED)
def test_what_is_wrong_is_named(altered: str, make: Callable[[], Recording]) -> None:
    name, change = ALTERED[altered]
    found = to_mend(change(make()))
    assert name in found, list(found)
    assert found[name].status == ("error" if name in ERRORS else "warning")
    assert found[name].effect
    assert found[name].remedy
    assert found[name].numbers


def test_sound_recordings_trip_nothing() -> None:
    """Twenty robots of other sizes, rates and lengths; `benchmarks/check_alarms.py` looks at more."""
    for seed in range(20):
        rng = np.random.default_rng(1000 + seed)
        recording = sound_robot(
            seed,
            episodes=int(rng.integers(2, 12)),
            dims=int(rng.integers(2, 9)),
            fps=float(rng.choice([5, 10, 20, 30, 50])),
            seconds=float(rng.uniform(2, 8)),
        )
        assert not to_mend(recording), seed


def test_a_real_humanoid_trips_nothing() -> None:
    assert not to_mend(humanoid())


def test_a_real_arm_has_what_is_true_of_it() -> None:
    dataset = real_set("cr5_v21_5ep")
    found = check_numbers(Subject(dataset=dataset, episodes=range(dataset.num_episodes)))
    named = {finding.name: finding for finding in found if finding.to_mend}
    assert set(named) == {"numbers.stale_first", "numbers.idle", "numbers.noise"}
    assert named["numbers.stale_first"].numbers["episodes"] == [1, 2, 3, 4]
    assert named["numbers.noise"].numbers["dimensions"] == ["joint_0_vel", "joint_4_vel", "joint_5_vel"]
    assert 0.5 < named["numbers.idle"].numbers["share"] < 0.6


def test_a_dimension_that_never_changes_is_a_note() -> None:
    copy = sound_robot().changed()
    copy.state[:, 2] = 0.5
    told = {finding.name: finding for finding in check_numbers(copy.subject())}["numbers.constant"]
    assert (told.status, told.numbers) == ("note", {"state": ["joint_2"], "action": []})


def test_findings_name_the_episodes_that_are_used() -> None:
    recording = spike(2.5, "state")(sound_robot())
    named = {f.name: f for f in check_numbers(recording.subject([1, 2, 5]))}
    assert named["numbers.spikes"].numbers == {"episodes": [2], "frames": {"state joint_0": [[2, 40]]}}
    assert "numbers.spikes" not in {f.name for f in check_numbers(recording.subject([1, 5]))}


def test_a_set_of_one_frame_and_one_that_never_moves() -> None:
    still = Recording(state=np.zeros((1, 3), np.float32), action=np.zeros((1, 3), np.float32), lengths=[1])
    assert not to_mend(still)
    still = Recording(state=np.ones((80, 3), np.float32), action=np.ones((80, 3), np.float32), lengths=[40, 40])
    assert set(to_mend(still)) == {"numbers.idle"}
    moving = still.changed(action=sound_robot().action[:80, :3])
    frozen_state = to_mend(moving)["numbers.frozen_state"]
    assert frozen_state.status == "warning"  # a robot without a state, most likely


# --- what looks wrong and is not --------------------------------------------------------------------------------------


def test_a_robot_that_rests_between_episodes_and_then_sets_off_is_not_stale() -> None:
    """Recordings cut out of one play: each begins where the one before ended, and moves from its second frame on."""
    whole = sound_robot(episodes=1, seconds=60)
    length = len(whole.state) // 6
    state = whole.state[: 6 * length].astype(np.float64)
    for episode in range(1, 6):
        state[episode * length] = state[episode * length - 1] + 1e-5
    cut = whole.changed(state=state.astype(np.float32), action=whole.action[: 6 * length], lengths=[length] * 6)
    assert "numbers.stale_first" not in to_mend(cut)


def test_a_button_is_no_noise() -> None:
    """One frame at each end of an episode says that it is over: no value tells of the one before."""
    copy = sound_robot().changed()
    button = np.zeros((copy.num_frames, 1), np.float32)
    button[[episode.start + episode.length - 1 for episode in copy.episodes]] = 1
    assert not to_mend(copy.changed(action=np.hstack([copy.action, button]), action_names=[]))


def test_a_gripper_that_snaps_does_not_jump() -> None:
    """At 5 Hz it closes within a frame, once or twice in a thousand."""
    slow = sound_robot(fps=5, seconds=200, episodes=3)
    snapped = slow.changed()
    snapped.state[:, -1] = np.float32(0.08) * (1 - slow.action[:, -1]) + np.linspace(0, 1e-3, slow.num_frames)
    assert "numbers.jumps" not in to_mend(snapped)


def test_a_gripper_that_few_episodes_use_has_one_scale_and_one_sign() -> None:
    copy = sound_robot().changed()
    rng = np.random.default_rng(0)
    for episode in range(2, 8):
        frames = copy.frames(episode)
        drift = 1e-3 * rng.normal(size=copy.lengths[episode]).cumsum().astype(np.float32) / 10
        copy.action[frames, -1], copy.state[frames, -1] = drift, 0.08 + 0.08 * drift
    assert not {name for name in to_mend(copy) if "gripper" in name}


def short_and_near_zero(episodes: int = 12) -> Recording:
    """Return a hand over a table, from anywhere to anywhere within 0.2 m of its middle in 15 frames."""
    rng = np.random.default_rng(3)
    states = []
    for _ in range(episodes):
        start, end = rng.uniform(-0.2, 0.2, (2, 2))
        way = np.linspace(0, 1, 15)[:, None]
        opening = (way > 0.6) * 1.0
        states.append(np.hstack([start + way * (end - start), opening]))
    state = np.vstack(states).astype(np.float32)
    return Recording(state=state, action=state + np.float32(0.01), lengths=[15] * episodes)


def test_degrees_in_half_of_short_episodes_about_zero() -> None:
    """Means about zero fall into no two groups, whatever the unit; sizes do."""
    assert "numbers.units" not in to_mend(short_and_near_zero())
    found = to_mend(each(in_degrees, lambda count: range(0, count, 2))(short_and_near_zero()))["numbers.units"]
    assert set(found.numbers["episodes"]) in (set(range(0, 12, 2)), set(range(1, 12, 2)))
    assert found.numbers["factor"] > 15


def test_an_episode_that_stands_nearly_still_has_the_units_of_the_others() -> None:
    copy = sound_robot().changed()
    frames = copy.frames(3)
    copy.state[frames] = copy.state[frames][0] + 0.01 * (copy.state[frames] - copy.state[frames][0])
    assert "numbers.units" not in to_mend(copy)


@pytest.mark.parametrize(("fps", "idles"), [(20.0, True), (100.0, False)])
def test_small_steps_are_idling_only_where_they_take_time(fps: float, idles: bool) -> None:
    slow = np.linspace(0, 1, 1300)[:, None] * np.array([1.0, 0.5])  # 0.08 % of its reach in each step
    recording = Recording(state=slow.astype(np.float32), action=slow.astype(np.float32), lengths=[650, 650], fps=fps)
    assert ("numbers.idle" in to_mend(recording)) is idles


def test_a_gripper_that_is_told_in_another_scale_is_not_calibrated_anew() -> None:
    recording = sound_robot(episodes=10)
    for episode in (1, 4):  # closed for most of these episodes: the offset of command to opening is another
        own = recording.frames(episode)
        closed = np.arange(own.stop - own.start) > 20
        recording.action[own, -1] = 1.0 - closed
        recording.state[own, -1] = 0.08 * (1.0 - closed)
    assert "numbers.calibration" not in to_mend(recording)


def test_a_gripper_in_percent_in_exactly_half_of_the_episodes() -> None:
    recording = sound_robot(episodes=8)
    for episode in range(0, 8, 2):
        recording.action[recording.frames(episode), -1] *= 100
    assert set(to_mend(recording)["numbers.gripper_scale"].numbers["episodes"]) in ({0, 2, 4, 6}, {1, 3, 5, 7})
