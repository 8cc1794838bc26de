"""What training makes of a data set: episodes left out for good, relative actions, the tokenizer that a base brings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from broken import edit_info, split_column
from fakes import write_dataset

from pi05 import presets
from pi05.data.lerobot.reader import Dataset
from pi05.errors import DataError
from pi05.train.announce import relative_note
from pi05.train.config import PolicyConfig, TrainConfig
from pi05.train.inputs.dataset import choose_relative, choose_slots


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(write_dataset(tmp_path / "set").root)


def config(*words: str, use: bool = True) -> TrainConfig:
    chosen = {"relative_exclude_joints": words} if words else {}
    return TrainConfig(policy=PolicyConfig(use_relative_actions=use, **chosen))


def test_actions_are_absolute_unless_asked_for(dataset: Dataset) -> None:
    assert choose_relative(config(use=False), dataset) is None


def test_the_named_dimensions_stay_absolute(dataset: Dataset) -> None:
    name = dataset.action_names[1]
    mask = choose_relative(config(name), dataset)
    assert mask is not None
    assert mask.tolist() == [True, False, True]


def test_the_default_exclusion_does_no_harm_without_a_gripper(dataset: Dataset) -> None:
    assert not any("gripper" in name for name in dataset.action_names)
    mask = choose_relative(config(), dataset)
    assert mask is not None
    assert mask.all()


def test_a_word_that_names_nothing_is_an_error(dataset: Dataset) -> None:
    with pytest.raises(DataError, match="elbow"):
        choose_relative(config("elbow"), dataset)
    wanted = replace(config(), policy=PolicyConfig(use_relative_actions=True, relative_exclude_joints=()))
    assert choose_relative(wanted, dataset) is not None


def test_nothing_relative_is_not_what_was_asked_for(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set").root
    edit_info(root, lambda info: info["features"]["action"].update(names=["gripper_x", "gripper_y", "gripper_z"]))
    with pytest.raises(DataError, match="every action dimension is excluded"):
        choose_relative(config(), Dataset(root))


def test_states_in_another_order_are_no_pairs(tmp_path: Path) -> None:
    """Dimension i is relative to dimension i, whatever they are called; a name elsewhere tells that it is not."""
    root = write_dataset(tmp_path / "set").root
    edit_info(root, lambda info: info["features"]["action"].update(names=["waist", "elbow", "gripper"]))

    def name_states(*names: str) -> Dataset:
        edit_info(root, lambda info: info["features"]["observation.state"].update(names=list(names)))
        return Dataset(root)

    count = Dataset(root).state_dim
    rest = [f"other_{i}" for i in range(count)]
    with pytest.raises(DataError, match="action 0 is waist, state 0 is elbow"):
        choose_relative(config(), name_states(*["elbow", "waist", *rest][:count]))
    for names in (["waist", "elbow", *rest], rest):
        assert choose_relative(config(), name_states(*names[:count])) is not None


def test_a_gripper_with_a_column_of_its_own_is_known(tmp_path: Path) -> None:
    """The columns' names are names, too: the gripper stays absolute, and nobody is told that it is not known."""
    root = write_dataset(tmp_path / "set").root
    edit_info(root, lambda info: info["features"]["action"].update(names=None))
    unnamed = Dataset(root)
    assert "not known as one" in (relative_note(config(), unnamed) or "")
    split_column(root, "action", {"arm": 2, "gripper_action": 1})
    joined = Dataset(root, action=["arm", "gripper_action"])
    mask = choose_relative(config(), joined)
    assert mask is not None
    assert mask.tolist() == [True, True, False]
    assert relative_note(config(), joined) is None


def test_liberos_second_camera_is_the_wrists_in_its_preset_alone(tmp_path: Path) -> None:
    cameras = ("observation.images.image", "observation.images.image2")
    libero = Dataset(write_dataset(tmp_path / "set", cameras=cameras).root)
    slots = choose_slots(presets.sim(), libero)
    assert (slots.scene, slots.left_wrist) == cameras
    with pytest.raises(DataError, match="slot scene is already taken"):
        choose_slots(presets.real(), libero)
    turned = {"image": "left_wrist", "image2": "scene"}
    assert choose_slots(replace(presets.sim(), rename_map=turned), libero).scene == cameras[1]
