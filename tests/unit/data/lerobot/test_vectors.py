"""State and action in one column or in several: found, joined, named, refused; never guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from broken import data_file, edit_info, edit_table, refusal, set_cell, split_column
from fakes import CAMERAS, FakeDataset, write_dataset

from pi05.data.lerobot import vectors
from pi05.data.lerobot.identity import identify
from pi05.data.lerobot.reader import Dataset
from pi05.data.lerobot.vectors import Column, choose_vector
from pi05.data.statistics import compute_statistics
from pi05.errors import DataError

PARTS = {"joint_position": 3, "gripper_position": 1}
COLUMNS = tuple(PARTS)
INFO = Path("set/meta/info.json")


def numbers(*shape: int, names: Any = None, dtype: str = "float32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "names": names}


@pytest.fixture(params=["v2.1", "v3.0"])
def droid(tmp_path: Path, request: pytest.FixtureRequest) -> FakeDataset:
    """As openpi's DROID converter writes it: joints and gripper apart, and no `observation.`."""
    made = write_dataset(tmp_path / "set", request.param, storage="image", cameras=CAMERAS[:1], height=16, width=16)
    split_column(made.root, "observation.state", PARTS)
    split_column(made.root, "action", {"action.arm": 2, "action.gripper": 1})
    return made


def test_columns_are_joined_in_the_order_given(droid: FakeDataset) -> None:
    data = Dataset(droid.root, state=COLUMNS, action=["action.arm", "action.gripper"])
    np.testing.assert_array_equal(data.states(), droid.states)
    np.testing.assert_array_equal(data.actions(), droid.actions)
    turned = Dataset(droid.root, state=COLUMNS[::-1], action=["action.gripper", "action.arm"])
    np.testing.assert_array_equal(turned.states(), droid.states[:, [3, 0, 1, 2]])
    np.testing.assert_array_equal(turned.actions(), droid.actions[:, [2, 0, 1]])
    assert (data.state_dim, data.action_dim) == (4, 3)
    assert data.state_vector.columns == (Column("joint_position", 3), Column("gripper_position", 1))


def test_everything_reads_the_joined_ones(droid: FakeDataset) -> None:
    """Frames, chunks, columns of an episode, statistics, and what tells one data set from another."""
    chosen: dict[str, Any] = {"state": COLUMNS, "action": ["action.arm", "action.gripper"]}
    data = Dataset(droid.root, **chosen)
    frame = data.frame(15)
    np.testing.assert_array_equal(frame["observation.state"], droid.states[15])
    np.testing.assert_array_equal(frame["action"], droid.actions[15])
    np.testing.assert_array_equal(frame["joint_position"], droid.states[15, :3])
    np.testing.assert_array_equal(frame["gripper_position"], droid.states[15, 3:])
    np.testing.assert_array_equal(data.action_chunk(20, 3)[0][0], droid.actions[20])
    columns = data.columns(["observation.state", "action", "gripper_position", "index"], 1)
    np.testing.assert_array_equal(columns["observation.state"], droid.states[12:21])
    np.testing.assert_array_equal(columns["action"], droid.actions[12:21])
    assert columns["gripper_position"].shape == (9, 1)
    np.testing.assert_array_equal(columns["index"], np.arange(12, 21))
    statistics = compute_statistics(data, [0, 1, 2], 4)
    np.testing.assert_allclose(statistics.state.value("mean"), droid.states.mean(axis=0, dtype=np.float64), atol=1e-6)
    turned = identify(Dataset(droid.root, **{**chosen, "state": COLUMNS[::-1]}), CAMERAS[:1])
    assert turned["numbers"] != identify(data, CAMERAS[:1])["numbers"]


def test_the_error_of_a_set_without_a_state_proposes_the_flag(droid: FakeDataset) -> None:
    flag = "--dataset.state='[joint_position, gripper_position]'"
    refusal(droid.root, "no state column", "observation.state or state", flag)
    refusal(
        droid.root, "no action column", "--dataset.action='[action.arm, action.gripper]'", state=COLUMNS
    )  # and the proposals are true
    assert len(Dataset(droid.root, state=COLUMNS, action=["action.arm", "action.gripper"])) == 28


def test_what_the_proposal_leaves_out() -> None:
    features = {
        "observation.joints": numbers(7),
        "observation.gripper": numbers(1),
        "observation.front": {"dtype": "video", "shape": [48, 64, 3]},
        "observation.map": numbers(8, 8),
        "observation.note": {"dtype": "string", "shape": [1]},
        "timestamp": numbers(1),
        "next.reward": numbers(1),
        "next.done": numbers(1, dtype="bool"),
        "velocity": numbers(7),
        "action_arm": numbers(7),
    }
    with pytest.raises(DataError) as caught:
        choose_vector("state", features, None, INFO)
    assert "--dataset.state='[observation.joints, observation.gripper]'" in str(caught.value)
    with pytest.raises(DataError) as caught:
        choose_vector("action", features, None, INFO)
    assert "--dataset.action='[action_arm]'" in str(caught.value)
    with pytest.raises(DataError) as caught:
        choose_vector("state", {"a, b": numbers(2)}, None, INFO)
    assert "--dataset.state='[\"a, b\"]'" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "found"),
    [("joints", "observation.joints"), ("observation.joints", "observation.joints"), ("observation.grip", "grip")],
)
def test_names_with_or_without_the_prefix(given: str, found: str) -> None:
    features = {"observation.joints": numbers(7), "grip": numbers(1)}
    assert choose_vector("state", features, [given], INFO).columns[0].name == found


def test_a_name_that_is_there_is_itself() -> None:
    features = {"observation.joints": numbers(7), "joints": numbers(6)}
    assert choose_vector("state", features, ["joints"], INFO).size == 6
    with pytest.raises(DataError, match="twice"):
        choose_vector("state", {"observation.joints": numbers(7)}, ["joints", "observation.joints"], INFO)


@pytest.mark.parametrize(
    ("name", "part"), [("elbow", "no column"), ("front", "without numbers"), ("note", "without numbers")]
)
def test_columns_that_cannot_be_joined(name: str, part: str) -> None:
    features = {
        "joints": numbers(7),
        "front": {"dtype": "video", "shape": [48, 64, 3]},
        "note": {"dtype": "string", "shape": [1], "names": None},
    }
    with pytest.raises(DataError) as caught:
        choose_vector("state", features, ["joints", name], INFO)
    assert part in str(caught.value)
    assert "columns of numbers: joints" in str(caught.value)
    assert "correct --dataset.state" in str(caught.value)


@pytest.mark.parametrize("shape", [[1], [], None, 1])
def test_a_number_that_stands_alone_is_one_dimension(shape: Any) -> None:
    features = {"joints": numbers(2, names=["a", "b"]), "grip": {"dtype": "float64", "shape": shape, "names": None}}
    vector = choose_vector("state", features, ["joints", "grip"], INFO)
    assert vector.size == 3
    assert vector.dimensions.names == ["joints_a", "joints_b", "grip"]


def test_dimensions_are_named_by_column_and_name() -> None:
    """So that a gripper stays one whatever its column calls its only number."""
    features = {
        "observation.joint_position": numbers(2),
        "observation.gripper_position": numbers(1, names=["position"]),
        "observation.left": numbers(2, names={"motors": ["x", "y"]}),
        "observation.right": numbers(2, names=["right_x", "Right_y"]),
        "observation.odd": numbers(2, names=["only one"]),
    }
    vector = choose_vector("state", features, [name.removeprefix("observation.") for name in features], INFO)
    assert vector.dimensions.names == [
        "joint_position_0", "joint_position_1", "gripper_position", "left_x", "left_y", "right_x", "Right_y",
        "odd_0", "odd_1",
    ]  # fmt: skip
    assert not vector.dimensions.known
    assert "odd has 2 dimensions and 1 names" in (vector.dimensions.note or "")


def test_names_of_two_columns_that_come_to_the_same_are_told_apart() -> None:
    features = {"a": numbers(1, names=["a_b_c"]), "a_b": numbers(2, names=["a_b_c", "d"])}
    names = choose_vector("state", features, ["a", "a_b"], INFO).dimensions.names
    assert len(set(names)) == 3


def test_a_single_column_of_another_name_can_be_chosen(droid: FakeDataset) -> None:
    data = Dataset(droid.root, state=["joint_position"], action=["action.arm"])
    np.testing.assert_array_equal(data.states(), droid.states[:, :3])
    np.testing.assert_array_equal(data.frame(3)["observation.state"], droid.states[3, :3])
    assert data.state_names == ["joint_position_0", "joint_position_1", "joint_position_2"]


def test_a_column_called_as_the_state_may_be_a_part_of_it(tmp_path: Path) -> None:
    made = write_dataset(tmp_path / "set", storage="image", cameras=CAMERAS[:1], height=16, width=16)
    split_column(made.root, "action", {"action": 2, "grip": 1})
    data = Dataset(made.root, state=["observation.state", "grip"], action=["grip"])
    joined = np.concatenate([made.states, made.actions[:, 2:]], axis=1)
    np.testing.assert_array_equal(data.states(), joined)
    np.testing.assert_array_equal(data.frame(9)["observation.state"], joined[9])
    np.testing.assert_array_equal(data.frame(9)["action"], made.actions[9, 2:])


def test_without_the_flag_nothing_is_joined(tmp_path: Path) -> None:
    made = write_dataset(tmp_path / "set", storage="image", cameras=CAMERAS[:1], height=16, width=16)
    split_column(made.root, "action", {"action": 2, "observation.grip": 1})
    data = Dataset(made.root)
    np.testing.assert_array_equal(data.states(), made.states)
    assert not data.state_vector.chosen_columns
    assert not data.action_vector.chosen_columns


def test_columns_beside_state_and_action_are_told_with_the_flag_that_joins_them(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path / "set", "v3.0", storage="image", cameras=CAMERAS[:1], height=16, width=16)
    assert Dataset(fake.root).notes == []
    edit_info(
        fake.root, lambda info: info["features"].update({"observation.gripper": numbers(1), "next.reward": numbers(1)})
    )
    (note,) = Dataset(fake.root).notes
    assert (
        "not used: observation.gripper; to join them: --dataset.state='[observation.state, observation.gripper]'"
        in note
    )
    edit_info(fake.root, lambda info: info["features"].update({"actions": numbers(3)}))
    (note,) = Dataset(fake.root).notes
    assert "not used: observation.gripper, actions; " in note
    assert note.endswith("--dataset.action='[action, actions]'")


def test_errors_name_the_column(droid: FakeDataset) -> None:
    set_cell(data_file(droid, 0), "joint_position", 4, lambda row: [row[0], float("nan"), row[2]])
    with pytest.raises(DataError, match=r"joint_position has a value that is not a number at episode 0, frame 4"):
        Dataset(droid.root, state=COLUMNS, action=["action.arm"]).states()
    edit_table(data_file(droid, 0), lambda table: table.drop_columns(["gripper_position"]))
    refusal(droid.root, "a column is missing", "gripper_position", state=COLUMNS, action=["action.arm"])


def test_sizes_are_compared_with_the_files(droid: FakeDataset) -> None:
    edit_info(droid.root, lambda info: info["features"]["gripper_position"].update(shape=[2]))
    refusal(droid.root, "gripper_position is not what meta/info.json says", state=COLUMNS, action=["action.arm"])
    edit_info(droid.root, lambda info: info["features"]["gripper_position"].update(shape=[1]))
    edit_table(
        data_file(droid, 0),
        lambda table: table.set_column(
            table.column_names.index("gripper_position"), "gripper_position", pa.array(["x"] * table.num_rows)
        ),
    )
    with pytest.raises(DataError, match="gripper_position"):
        Dataset(droid.root, state=COLUMNS, action=["action.arm"]).states()


def test_the_case_of_openpis_droid_converter() -> None:
    root = Path(__file__).resolve().parents[5] / "shared" / "cases" / "droid_state"
    if not root.is_dir():
        pytest.skip("the cases lie beside the repository")
    flag = "--dataset.state='[joint_position, gripper_position]'"
    refusal(root, "no state column", flag)
    data = Dataset(root, state=["joint_position", "gripper_position"])
    assert (data.state_dim, data.action_dim) == (8, 8)
    assert data.state_names[-2:] == ["joint_position_6", "gripper_position"]
    assert json.loads((root / "meta/info.json").read_text())["total_frames"] == len(data.states())


def test_more_numbers_than_memory_are_refused_before_any_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = write_dataset(tmp_path / "set", "v3.0", storage="image", cameras=CAMERAS[:1], height=16, width=16)
    data = Dataset(fake.root)
    need = 4 * data.num_frames * (data.state_dim + data.action_dim)
    for pages, fits in ((need // 4, True), (need // 4 - 1, False)):
        sizes = {"SC_PHYS_PAGES": pages, "SC_PAGE_SIZE": 4}
        monkeypatch.setattr("pi05.data.lerobot.files.os.sysconf", sizes.__getitem__)
        if fits:
            vectors.require_memory(fake.root, data.num_frames, data.state_dim + data.action_dim)
        else:
            with pytest.raises(DataError, match="do not fit into the memory of this machine"):
                data.states()
