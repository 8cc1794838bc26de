"""The gripper: told with its values; episodes of another sign or scale are named."""

from __future__ import annotations

import numpy as np
from robot_sets import Recording, sound_robot

from pi05.check.numbers.gripper import judge_gripper
from pi05.check.numbers.measure import measure
from pi05.check.numbers.signals import Signals
from pi05.finding import Finding


def judged(recording: Recording) -> dict[str, Finding]:
    return {finding.name: finding for finding in judge_gripper(measure(Signals(recording.subject())))}


def altered(change: str) -> Recording:
    copy = sound_robot().changed()
    for episode in (1, 4):
        values = copy.action[copy.frames(episode)]
        values[:, -1] = 1 - values[:, -1] if change == "sign" else 255 * values[:, -1]
        copy.action[copy.frames(episode)] = values
    return copy


def test_a_gripper_is_told_with_its_values() -> None:
    (told,) = judged(sound_robot()).values()
    assert told.status == "note"
    assert "gripper, 0 to 1, two or a few values" in told.text
    assert "falls with it" in told.text  # the command closes, the measured opening falls


def test_another_sign_in_some_episodes() -> None:
    found = judged(altered("sign"))["numbers.gripper_sign"]
    assert (found.status, found.numbers["episodes"]) == ("warning", [1, 4])


def test_another_scale_in_some_episodes() -> None:
    found = judged(altered("scale"))["numbers.gripper_scale"]
    assert (found.status, found.numbers["episodes"]) == ("warning", [1, 4])


def test_a_robot_without_a_gripper() -> None:
    arm = sound_robot()
    arm = arm.changed(action_names=[f"j{i}" for i in range(arm.action_dim)], state_names=["x"] * arm.state_dim)
    assert judged(arm) == {}


def test_each_arm_has_its_own_gripper() -> None:
    """The left command is compared with the left opening: the right one, turned, is the only one named."""
    one = sound_robot()
    pair = one.changed(
        state=np.hstack([one.state[:, -1:], one.state[:, -1:]]),
        action=np.hstack([one.action[:, -1:], one.action[:, -1:]]),
        state_names=["right_gripper", "left_gripper"],
        action_names=["left_gripper", "right_gripper"],
    )
    pair.action[pair.frames(0), 1] = 1 - pair.action[pair.frames(0), 1]
    found = judged(pair)["numbers.gripper_sign"]
    assert found.numbers["dimension"] == "right_gripper"
