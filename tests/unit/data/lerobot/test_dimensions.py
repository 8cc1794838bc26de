"""Names of dimensions, in every form that recorders and converters write, and what is said of names that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
from broken import edit_info
from fakes import FakeDataset

from pi05.data.lerobot.dimensions import name_dimensions
from pi05.data.lerobot.reader import Dataset
from pi05.errors import DataError
from pi05.train.announce import relative_note
from pi05.train.config import PolicyConfig, TrainConfig
from pi05.train.inputs.dataset import choose_relative

THREE = ["waist", "elbow", "gripper"]


@pytest.mark.parametrize(
    "given",
    [
        THREE,
        [THREE],
        [["waist"], ["elbow", "gripper"]],
        {"motors": THREE},
        {"arm": ["waist", "elbow"], "hand": ["gripper"]},
        {"gripper": 2, "waist": 0, "elbow": 1},
        {"motors": {"gripper": 7, "elbow": 3, "waist": 1}},
        {"motors": THREE, "units": ["rad"]},
    ],
)
def test_every_form_gives_the_names_in_order(given: Any) -> None:
    found = name_dimensions("action", given, 3)
    assert (found.names, found.known, found.note) == (THREE, True, None)


@pytest.mark.parametrize("given", [None, [], {}])
def test_dimensions_without_names_are_numbered(given: Any) -> None:
    found = name_dimensions("action", given, 2)
    assert (found.names, found.known, found.note) == (["action_0", "action_1"], False, None)


@pytest.mark.parametrize(
    "given", [["actions"], "abc", {"motors": None}, [None, "a", "b"], {"a": 0.5, "b": 1.5, "c": 2.5}]
)
def test_names_that_do_not_fit_are_told(given: Any) -> None:
    found = name_dimensions("action", given, 3)
    assert (found.names[0], found.known) == ("action_0", False)
    assert found.note is not None
    assert "action has 3 dimensions and" in found.note


def test_two_arms_with_equal_names_are_told_apart_by_their_group() -> None:
    found = name_dimensions("action", {"left": ["elbow", "gripper"], "right": ["elbow", "gripper"]}, 4)
    assert found.names == ["left_elbow", "left_gripper", "right_elbow", "right_gripper"]
    assert (found.known, found.note) == (True, None)


def test_equal_names_without_a_group_are_numbered_and_told() -> None:
    found = name_dimensions("action", ["x", "gripper", "y", "gripper"], 4)
    assert found.names == ["x", "gripper_1", "y", "gripper_3"]
    assert found.note is not None
    assert "several dimensions called 'gripper'" in found.note


def relative(*words: str) -> TrainConfig:
    chosen = {"relative_exclude_joints": words} if words else {}
    return TrainConfig(policy=PolicyConfig(use_relative_actions=True, **chosen))


@pytest.mark.parametrize(
    "given", [[THREE], {"gripper": 2, "waist": 0, "elbow": 1}, {"a": ["waist", "elbow"], "b": ["Gripper"]}]
)
@pytest.mark.parametrize("words", [(), ("gripper",)])
def test_a_gripper_stays_absolute_whatever_the_form(fake: FakeDataset, given: Any, words: tuple[str, ...]) -> None:
    edit_info(fake.root, lambda info: info["features"]["action"].update(names=given))
    mask = choose_relative(relative(*words), Dataset(fake.root))
    assert mask is not None
    assert mask.tolist() == [True, True, False]


def test_an_exclusion_that_matches_nothing_is_an_error_also_when_it_is_the_default(fake: FakeDataset) -> None:
    edit_info(fake.root, lambda info: info["features"]["action"].update(names=None))
    data = Dataset(fake.root)
    with pytest.raises(DataError, match=r"(?s)'gripper'.*meta/info\.json does not name.*name the dimensions"):
        choose_relative(relative("gripper"), data)
    mask = choose_relative(relative(), data)
    assert mask is not None
    assert mask.all()
    note = relative_note(relative(), data)
    assert note is not None
    assert "relative_exclude_joints='[action_2]'" in note
    assert relative_note(TrainConfig(), data) is None


def test_what_is_odd_about_names_is_a_note_of_the_set(fake: FakeDataset) -> None:
    edit_info(fake.root, lambda info: info["features"]["action"].update(names=["a", "b"]))
    assert [note for note in Dataset(fake.root).notes if "action has 3 dimensions and 2 names" in note]
