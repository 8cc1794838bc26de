from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from serving import CONTRACT, SCENE, STATE, WRIST, observation

from pi05.errors import Refused
from pi05.serve.dialects import Family
from pi05.serve.observations import translate
from pi05.serve.protocol import Camera, Numbers

RIGHT = "observation.images.other"
THREE = replace(CONTRACT, cameras=(*CONTRACT.cameras, Camera(name=RIGHT, slot="right_wrist")))
A, B, C = (np.full((4, 5, 3), value, np.uint8) for value in (1, 2, 3))
S8 = np.arange(8, dtype=np.float32)


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)


WANTED = {SCENE: A, WRIST: B, STATE: S8, "task": "go"}


@pytest.mark.parametrize(
    ("sent", "sender"),
    [
        (WANTED, "openpi"),
        ({"image": A, "image2": B, "state": S8, "task": "go"}, "openpi"),
        ({"observation/image": A, "observation/wrist_image": B, "observation/state": S8, "prompt": "go"}, "openpi"),
        (
            {
                "observation/exterior_image_1_left": A,
                "observation/wrist_image_left": B,
                "observation/joint_position": S8[:7],
                "observation/gripper_position": S8[7:],
                "prompt": "go",
            },
            "openpi",
        ),
        (
            {"images": {"cam_high": A.transpose(2, 0, 1), "cam_left_wrist": B}, "state": S8, "prompt": "go"},
            "openpi",
        ),
        ({"images": {"base_0_rgb": A, "left_wrist_0_rgb": B}, "state": S8, "prompt": "go"}, "openpi"),
        ({"observation.images.scene": A, "observation.images.left_wrist": B, "state": S8, "prompt": "go"}, "pi05"),
        (
            {"observation.images.base_0_rgb": A, "observation.images.left_wrist_0_rgb": B, STATE: S8, "prompt": "go"},
            "vllm-omni",
        ),
        ({"images": {"agentview": A, "wrist": B}, "states": S8, "task_description": "go"}, "vla-eval"),
        ({"image": [A, B], "lang": "go", "state": S8}, "starvla"),
        ({**WANTED, "action": S8, "timestamp": 0.5, "episode_index": 3, "note": "hello"}, "openpi"),
    ],
)
def test_names_of_many_programs(sent: dict[str, Any], sender: Family) -> None:
    same(translate(sent, sender, CONTRACT), WANTED)


def test_a_key_that_is_no_text_is_refused() -> None:
    """Found by the soak: inside an example of StarVLA's envelope nothing has looked at the keys before."""
    keyed: dict[Any, Any] = {**WANTED, b"more": 1}
    with pytest.raises(Refused, match="no text"):
        translate(keyed, "starvla", CONTRACT)


def test_alohas_three_cameras() -> None:
    sent = {"images": {"cam_high": A, "cam_left_wrist": B, "cam_right_wrist": C}, "state": S8, "prompt": "go"}
    same(translate(sent, "openpi", THREE), {**WANTED, RIGHT: C})


def test_channels_first_are_turned_round_for_aloha_only() -> None:
    first = A.transpose(2, 0, 1)
    found = translate({"images": {"agentview": first}, "states": S8}, "vla-eval", CONTRACT)
    assert found[SCENE].shape == (3, 4, 5)  # and refused by the policy's own check


def test_a_state_in_columns_keeps_its_names() -> None:
    columns = replace(CONTRACT, state=Numbers(dim=8, columns=(("joints", 7), ("gripper", 1))))
    sent = {SCENE: A, WRIST: B, "joints": S8[:7], "gripper": S8[7:], "task": "go"}
    same(translate(sent, "openpi", columns), sent)


def test_a_dropped_camera_may_be_sent() -> None:
    dropped = CONTRACT.dropped_cameras[0]
    assert translate(observation(**{dropped: C}), "openpi", CONTRACT)[dropped] is C


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"observation.images.side": C}, "'observation.images.side' is unknown to this policy"),
        ({"side": C}, "'side' is unknown"),
        ({"observation/image_3": 7}, "'observation/image_3' is unknown"),
        ({"observation.images.right_wrist": C}, "is for the slot right_wrist, which this policy leaves empty"),
        ({"observation/image": C}, "two pictures are for the camera"),
        ({"image": C}, "two pictures are for the camera"),
        ({"state": S8}, "several states"),
        ({"prompt": "something else"}, "several instructions"),
        ({"noise": S8}, "noise is not offered"),
        ({"action_horizon": 4}, "action_horizon is not offered"),
        ({"images": [C]}, "images is no map"),
        ({"images": {b"scene": C}}, "is no text"),
        ({"images": {"x" * 201: C}}, r"is too long[\s\S]*201 characters"),
        ({"observation.images." + "x" * 200: C}, r"is too long[\s\S]*219 characters"),
        ({"task": "x" * 10_001}, r"instruction is too long[\s\S]*10,001 characters"),
    ],
)
def test_what_could_move_an_arm_wrongly_is_refused(changes: dict[str, Any], part: str) -> None:
    with pytest.raises(Refused, match=part):
        translate(observation(**changes), "openpi", CONTRACT)


def test_starvla_sends_one_picture_for_each_camera() -> None:
    for pictures in ([A], [A, B, C], A, None):
        with pytest.raises(Refused, match="one picture for each camera"):
            translate({"image": pictures, "lang": "go", "state": S8}, "starvla", CONTRACT)


def test_the_same_instruction_twice_is_one() -> None:
    found = translate(observation(prompt="pick up the bowl"), "openpi", CONTRACT)
    assert found["task"] == "pick up the bowl"
