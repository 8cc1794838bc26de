from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pi05.data.robot.guard import outside_of_training, require_bytes_used, require_image, require_inside
from pi05.data.statistics import DimStats
from pi05.errors import DataError

RNG = np.random.default_rng(0)
UNIT = RNG.random((6, 8, 3))
STATS = DimStats(min=np.array([-1.0, 0.0]), max=np.array([1.0, 10.0]), count=10**12)


@pytest.mark.parametrize(
    ("picture", "parts"),
    [
        (UNIT.astype(np.float32), ["float32[6, 8, 3] from", "(picture * 255).round()"]),
        (UNIT * 2 - 1, ["float64[6, 8, 3] from -", "((picture + 1) * 127.5).round()"]),
        ((UNIT * 255).astype(np.float32), ["from", "as the camera's driver gives them"]),
        (np.full((6, 8, 3), np.nan), ["not finite"]),
        (np.zeros((6, 8, 3), np.uint16), ["uint16[6, 8, 3]"]),
        (np.zeros((3, 6, 8), np.uint8), ["channels come first", "transpose"]),
        (np.zeros((1, 6, 8, 3), np.uint8), ["a batch"]),
        (np.zeros((6, 8), np.uint8), ["uint8[6, 8]"]),
        (np.zeros((6, 8, 4), np.uint8), ["uint8[6, 8, 4]"]),
        (np.zeros((0, 8, 3), np.uint8), ["uint8[0, 8, 3]"]),
        (np.zeros((1, 9000, 3), np.uint8), ["9000"]),
        ([[1, 2], [3]], ["one array"]),
        ("a picture", ["[]"]),
        (None, ["object[]"]),
    ],
)
def test_a_picture_of_another_kind_is_named(picture: Any, parts: list[str]) -> None:
    with pytest.raises(DataError, match="camera top does not hold a picture") as error:
        require_image({"top": picture}, "top")
    assert all(part in str(error.value) for part in parts), str(error.value)


def test_numbers_to_one_that_were_cast_to_bytes() -> None:
    with pytest.raises(DataError, match=r"(?s)no value above 1.*before casting"):
        require_bytes_used((UNIT > 0.5).astype(np.uint8), "top")
    for picture in ((UNIT * 255).astype(np.uint8), np.zeros((6, 8, 3), np.uint8)):  # the second: a covered camera
        require_bytes_used(picture, "top")
        assert require_image({"top": picture}, "top") is picture


@pytest.mark.parametrize(("height", "width"), [(480, 640), (240, 320), (300, 400), (224, 224), (241, 320)])
def test_pictures_of_the_same_proportions_or_the_networks_own_square(height: int, width: int) -> None:
    require_image({"top": np.zeros((height, width, 3), np.uint8)}, "top", (480, 640), 224)


@pytest.mark.parametrize(("height", "width"), [(640, 480), (360, 640), (256, 256), (480, 480)])
def test_pictures_of_other_proportions_are_refused(height: int, width: int) -> None:
    with pytest.raises(DataError, match=r"(?s)other proportions.*480 × 640.*224 × 224"):
        require_image({"top": np.zeros((height, width, 3), np.uint8)}, "top", (480, 640), 224)


def test_which_joint_is_outside_and_by_how_much() -> None:
    found = outside_of_training(np.array([1.5, -3.0], np.float32), STATS, ("pan", "lift"))
    assert [(one.name, one.by) for one in found] == [("pan", 0.5), ("lift", 3.0)]
    with pytest.raises(DataError, match=r"(?s)pan.*0.5 outside; state dimension 1 \(lift\).*3 outside"):
        require_inside(found)


def test_a_tenth_of_the_range_is_allowed_beyond_it_and_more_where_demonstrations_are_few() -> None:
    assert outside_of_training(np.array([1.19, -0.9], np.float32), STATS, ()) == []
    assert len(outside_of_training(np.array([1.21, -1.1], np.float32), STATS, ())) == 2
    few = replace(STATS, count=900)
    assert outside_of_training(np.array([2.9, -10.9], np.float32), few, ()) == []
    assert len(outside_of_training(np.array([3.3, -11.1], np.float32), few, ())) == 2
    require_inside([])


def test_where_nothing_is_known_nothing_is_outside() -> None:
    unknown = DimStats(mean=np.zeros(2), std=np.ones(2), count=0)
    assert outside_of_training(np.array([1e9, -1e9], np.float32), unknown, ()) == []
