"""Camera slots: what names mean, what must be said explicitly, and the exact flag in each error."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from pi05.data.cameras import CameraSlots, assign_slots
from pi05.errors import DataError

PREFIX = "observation.images."


@pytest.mark.parametrize(
    ("cameras", "expected"),
    [
        (["front", "wrist"], ("front", "wrist", None)),
        (["wrist", "top"], ("top", "wrist", None)),
        (["image", "wrist_image"], ("image", "wrist_image", None)),
        (
            ["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"],
            ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"),
        ),
        (["cam_right_wrist", "cam_left_wrist", "cam_high"], ("cam_high", "cam_left_wrist", "cam_right_wrist")),
        (["exterior_image_1_left", "wrist_image_left"], ("exterior_image_1_left", "wrist_image_left", None)),
        (["agentview_image", "robot0_eye_in_hand_image"], ("agentview_image", "robot0_eye_in_hand_image", None)),
        (["scene", "right_gripper"], ("scene", None, "right_gripper")),
        (["thirdPerson", "leftHand", "rightHand"], ("thirdPerson", "leftHand", "rightHand")),
        (["rightwrist", "leftwrist", "top"], ("top", "leftwrist", "rightwrist")),
        (["wrist_r", "wrist_l"], (None, "wrist_l", "wrist_r")),
        (["rgripper", "LeftHandCam", "head"], ("head", "LeftHandCam", "rgripper")),
        (["handright", "front"], ("front", None, "handright")),
        (["右手", "左腕", "前方"], ("前方", "左腕", "右手")),
        (["gripper", "left_wrist", "base"], ("base", "left_wrist", "gripper")),
        (["ego_view"], ("ego_view", None, None)),
        (["handeye"], (None, "handeye", None)),
        (["observation.image"], ("observation.image", None, None)),
        (["observation.image", "observation.wrist_image"], ("observation.image", "observation.wrist_image", None)),
    ],
)
@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_names_tell_the_slot(cameras: list[str], expected: tuple[str | None, ...], prefix: str) -> None:
    slots = assign_slots([prefix + name for name in cameras])
    assert tuple(slots.by_slot.values()) == tuple(None if name is None else prefix + name for name in expected)
    assert slots.dropped == ()


@pytest.mark.parametrize("name", ["laptop", "cam_low", "side_image", "depth_front", "overhand", "secondhand_shop"])
def test_a_name_that_tells_nothing_is_an_error(name: str) -> None:
    with pytest.raises(DataError) as error:
        assign_slots([PREFIX + "front", PREFIX + name])
    message = str(error.value)
    asked = f"""if it sits on a wrist: --rename_map '{{"{PREFIX}{name}": "left_wrist"}}'"""
    assert (asked in message) == (name != "depth_front")
    assert f"""--drop_cameras '["{PREFIX}{name}"]'""" in message


@pytest.mark.parametrize("name", ["depth_front", "wrist_depth"])
def test_depth_pictures_are_never_placed_by_name(name: str) -> None:
    with pytest.raises(DataError, match="its name tells no slot"):
        assign_slots([name])
    assert assign_slots([name], {name: "scene"}).scene == name


def test_a_second_candidate_is_an_error() -> None:
    with pytest.raises(DataError) as error:
        assign_slots(["top", "front", "wrist"])
    message = str(error.value)
    assert "camera front has no slot: the slot scene is already taken by top" in message
    assert "--drop_cameras '[\"front\"]'" in message


def flags_of(error: pytest.ExceptionInfo[DataError]) -> dict[str, Any]:
    """Return what the first remedy would set: its flags, read as a shell would."""
    words = shlex.split(error.value.remedy.split("; or ")[0])
    return {flag.lstrip("-"): json.loads(value) for flag, value in zip(words[::2], words[1::2], strict=True)}


@pytest.mark.parametrize(
    ("cameras", "expected"),
    [
        (
            ["exterior_image_1_left", "exterior_image_2_left", "wrist_image_left"],
            ("exterior_image_1_left", "wrist_image_left", None),
        ),
        (["laptop", "phone"], ("laptop", None, None)),
        (["laptop", "phone", "wrist"], ("laptop", "wrist", None)),
        (["top", "front", "base", "phone"], ("top", None, None)),
        (["wrist_a", "wrist_b", "wrist_c", "laptop"], ("laptop", "wrist_a", "wrist_b")),
        (["wrist_1", "wrist_2", "front"], ("front", "wrist_1", "wrist_2")),
        (["right", "left"], ("right", None, None)),
        (["right", "middle", "left"], ("middle", None, None)),
        (["手机", "电脑"], ("手机", None, None)),
    ],
)
def test_the_printed_flags_place_every_camera_and_no_scene_camera_on_a_wrist(
    cameras: list[str], expected: tuple[str | None, ...]
) -> None:
    with pytest.raises(DataError) as error:
        assign_slots(cameras)
    flags = flags_of(error)
    slots = assign_slots(cameras, flags.get("rename_map"), flags.get("drop_cameras", ()))
    assert tuple(slots.by_slot.values()) == expected
    for camera in set(cameras) - set(slots.keys):
        assert f"{camera} has no slot" in str(error.value) or f"nor has {camera}" in str(error.value)


def test_the_other_scene_camera_is_offered() -> None:
    cameras = ["exterior_1", "exterior_2", "wrist_left"]
    with pytest.raises(DataError) as error:
        assign_slots(cameras)
    words = shlex.split(error.value.remedy.split("to see through exterior_2 instead: ")[1])
    slots = assign_slots(cameras, json.loads(words[1]), json.loads(words[3]))
    assert slots == CameraSlots("exterior_2", "wrist_left", None, dropped=("exterior_1",))


def test_a_side_in_a_name_decides_which_wrists_slot_is_offered() -> None:
    cameras = ["right", "left", "front"]
    with pytest.raises(DataError) as error:
        assign_slots(cameras)
    words = shlex.split(error.value.remedy.split("if it sits on a wrist: ")[1])
    assert assign_slots(cameras, json.loads(words[1])) == CameraSlots("front", "left", "right")
    with pytest.raises(DataError) as error:
        assign_slots(["front", "head_right"])
    assert "right_wrist" not in error.value.remedy


@pytest.mark.parametrize(
    "cameras",
    [
        ["wrist_1", "wrist_2"],
        ["wrist", "gripper"],
        ["gripper_a", "gripper_b", "base"],
        ["left_right_wrist", "hand", "top"],
    ],
)
def test_two_wrists_that_tell_no_side_are_for_the_user_to_place(cameras: list[str]) -> None:
    with pytest.raises(DataError, match="its name does not tell which wrist") as error:
        assign_slots(cameras)
    first, second = cameras[:2]
    words = shlex.split(error.value.remedy.split("if they sit the other way round: ")[1].split(";")[0])
    slots = assign_slots(cameras, json.loads(words[1]))
    assert (slots.left_wrist, slots.right_wrist) == (second, first)


def test_flags_repeat_what_the_user_said() -> None:
    cameras = ["top", "front", "side", "wrist", "phone"]
    said: dict[str, Any] = {"rename_map": {"wrist": "right_wrist"}, "drop": ["phone"]}
    with pytest.raises(DataError) as error:
        assign_slots(cameras, **said)
    flags = flags_of(error)
    slots = assign_slots(cameras, flags["rename_map"], flags["drop_cameras"])
    assert slots == CameraSlots("top", None, "wrist", dropped=("front", "side", "phone"))


def test_names_are_printed_in_their_own_script() -> None:
    with pytest.raises(DataError, match=r'--rename_map \'{"手机": "scene"}\''):
        assign_slots(["手机"])


def test_a_full_house_offers_only_dropping() -> None:
    with pytest.raises(DataError) as error:
        assign_slots(["top", "left_wrist", "right_wrist", "wrist"])
    assert "rename_map" not in str(error.value)


@pytest.mark.parametrize("target", ["right_wrist", "right_wrist_0_rgb", "observation.images.right_wrist_0_rgb"])
def test_explicit_places_come_first(target: str) -> None:
    slots = assign_slots([PREFIX + "top", PREFIX + "wrist"], {"wrist": target, PREFIX + "top": "left_wrist"})
    assert slots == CameraSlots(scene=None, left_wrist=PREFIX + "top", right_wrist=PREFIX + "wrist")


def test_dropping_by_map_and_by_list() -> None:
    slots = assign_slots(["top", "laptop", "phone"], {"laptop": "drop"}, ["phone"])
    assert slots == CameraSlots(scene="top", dropped=("laptop", "phone"))


@pytest.mark.parametrize(
    ("rename_map", "drop", "part"),
    [
        ({"front": "scene"}, [], "'front' is not a camera"),
        ({}, ["front"], "'front' is not a camera"),
        ({"top": "middle"}, [], "'middle' is not a camera slot"),
        ({"top": "scene", "wrist": "scene"}, [], "already taken by top"),
        ({}, ["top", "wrist"], "no camera is left"),
    ],
)
def test_impossible_wishes(rename_map: dict[str, str], drop: list[str], part: str) -> None:
    with pytest.raises(DataError, match=part):
        assign_slots(["top", "wrist"], rename_map, drop)


def test_no_camera_at_all() -> None:
    with pytest.raises(DataError, match="no camera is left"):
        assign_slots([])


def test_order_and_table() -> None:
    slots = assign_slots([PREFIX + "wrist", PREFIX + "top", PREFIX + "phone"], None, ["phone"])
    assert slots.keys == (PREFIX + "top", PREFIX + "wrist")
    assert (slots.used, slots.wrist) == (("scene", "left_wrist"), [False, True])
    assert slots.describe().splitlines() == [
        "observation.images.top   → scene",
        "observation.images.wrist → left_wrist",
        "observation.images.phone → dropped",
        "(empty, masked)          → right_wrist",
    ]
    assert CameraSlots.from_dict(slots.to_dict()) == slots
