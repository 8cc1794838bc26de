"""A policy whose state was joined from columns: it takes the columns or the whole, and nothing by halves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pi05.data.joined import columns_from_list, columns_to_list, with_state
from pi05.data.lerobot.vectors import Column
from pi05.errors import DataError
from pi05.types import STATE

COLUMNS = (Column("joint_position", 3), Column("gripper_position", 1))
JOINTS, GRIPPER = [1.0, 2.0, 3.0], 0.5
WHOLE = [1.0, 2.0, 3.0, 0.5]


@pytest.mark.parametrize("gripper", [0.5, [0.5], [[0.5]], np.float32(0.5), np.array([0.5])])
@pytest.mark.parametrize("joints", [JOINTS, [JOINTS], np.array(JOINTS)])
def test_columns_become_the_state_in_the_recorded_order(joints: Any, gripper: Any) -> None:
    joined = with_state({"gripper_position": gripper, "joint_position": joints, "task": "x"}, COLUMNS)
    np.testing.assert_array_equal(joined[STATE], np.array(WHOLE, np.float32))
    assert joined["task"] == "x"


def test_the_whole_is_taken_as_it_is() -> None:
    for observation in ({STATE: WHOLE}, {STATE: WHOLE, "joint_position": JOINTS}, {"task": "x"}):
        assert with_state(observation, COLUMNS) is observation
    assert with_state({"joint_position": JOINTS}, ()) == {"joint_position": JOINTS}


def test_both_must_agree() -> None:
    both = {STATE: WHOLE, "joint_position": JOINTS, "gripper_position": GRIPPER}
    np.testing.assert_array_equal(with_state(both, COLUMNS)[STATE], np.array(WHOLE, np.float32))
    for other in ([1.0, 2.0, 3.0, 0.6], [1.0], "x"):
        with pytest.raises(DataError, match="two states"):
            with_state({**both, STATE: other}, COLUMNS)


def test_a_missing_column_is_named_with_all_others() -> None:
    with pytest.raises(DataError) as caught:
        with_state({"joint_position": JOINTS, "task": "x"}, COLUMNS)
    text = str(caught.value)
    assert "lacks gripper_position" in text
    assert "joint_position (3), gripper_position (1)" in text
    assert STATE in text


@pytest.mark.parametrize("wrong", [[1.0, 2.0], [JOINTS, JOINTS], "abc", None, [[[1.0, 2.0, 3.0]]], 1.0])
def test_a_column_of_another_size_is_refused(wrong: Any) -> None:
    with pytest.raises(DataError, match="joint_position, a part of the state"):
        with_state({"joint_position": wrong, "gripper_position": GRIPPER}, COLUMNS)


def test_a_column_that_is_called_as_the_state() -> None:
    """Its length tells whether it is the part or the whole."""
    columns = (Column(STATE, 3), Column("gripper_position", 1))
    part = {STATE: JOINTS, "gripper_position": GRIPPER}
    np.testing.assert_array_equal(with_state(part, columns)[STATE], np.array(WHOLE, np.float32))
    for whole in ({STATE: WHOLE}, {STATE: WHOLE, "gripper_position": GRIPPER}):
        assert with_state(whole, columns) is whole
    with pytest.raises(DataError, match="lacks gripper_position"):
        with_state({STATE: JOINTS}, columns)


def test_columns_come_back_from_a_checkpoint() -> None:
    assert columns_from_list(columns_to_list(COLUMNS), 4) == COLUMNS
    assert columns_from_list(None, 4) == ()
    with pytest.raises(DataError, match="do not fit"):
        columns_from_list(columns_to_list(COLUMNS), 5)
