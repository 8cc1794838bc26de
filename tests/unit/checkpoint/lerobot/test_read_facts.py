"""What a LeRobot folder tells beyond its numbers: the version that wrote it, its cameras, its tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from lerobot_folder import BASE, FRONT, HAND, POST, PRE, THIRD, WRIST, Folder

from pi05.checkpoint.lerobot.read import base_prompt_format, read_lerobot
from pi05.checkpoint.policy_options import PolicyOptions
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "pretrained_model")


class TestVersions:
    """What the prompt and the padding of pictures were, by the fields of config.json."""

    def without_relative(self, folder: Folder) -> None:
        folder.edit(PRE, lambda values: values["steps"].pop(2))
        folder.edit(POST, lambda values: values["steps"].pop(1))
        folder.forget("use_relative_actions", "relative_exclude_joints", "action_feature_names")

    def test_from_0_5_1(self, folder: Folder) -> None:
        processor = folder.read().processor
        assert (processor.prompt_format, processor.resize) == ("state", "lerobot-bilinear-pad")

    def test_0_4_4_or_0_5_0(self, folder: Folder) -> None:
        self.without_relative(folder)
        source = folder.read()
        assert (source.processor.prompt_format, source.processor.resize) == ("state32", "lerobot-0.4-bilinear-pad")
        assert any("cannot be told apart" in note and "--prompt_format state" in note for note in source.notes)
        asked = folder.read(prompt_format="state")
        assert (asked.processor.prompt_format, asked.processor.resize) == ("state", "lerobot-bilinear-pad")
        assert base_prompt_format(folder.path)[0] == "state32"

    def test_up_to_0_4_3(self, folder: Folder) -> None:
        self.without_relative(folder)
        folder.forget("use_peft", "freeze_vision_encoder", "train_expert_only")
        source = folder.read()
        assert source.processor.prompt_format == "state32"
        assert any("0.4.3 or earlier" in note for note in source.notes)

    def test_an_unknown_format(self, folder: Folder) -> None:
        with pytest.raises(CheckpointError, match="prompt format is unknown"):
            folder.read(prompt_format="words")


class TestCameras:
    """LeRobot's order of visual features, the robot's names."""

    def test_order_of_the_features_not_their_names(self, folder: Folder) -> None:
        folder.edit("config.json", lambda v: v.update(input_features=dict(reversed(v["input_features"].items()))))
        assert folder.read().processor.slots.by_slot == {"scene": WRIST, "left_wrist": BASE, "right_wrist": None}

    def test_stored_renames_give_the_robots_names(self, folder: Folder) -> None:
        folder.step(PRE, 0, rename_map={"observation.images.front": BASE, "observation.images.hand": WRIST})
        slots = folder.read().processor.slots
        assert slots.keys == ("observation.images.front", "observation.images.hand")

    @pytest.mark.parametrize("target", [BASE, "base", "scene", "base_0_rgb", "observation.images.base_0_rgb"])
    def test_renames_of_the_caller(self, folder: Folder, target: str) -> None:
        slots = folder.read(rename_map={"front": target}).processor.slots
        assert slots.keys == ("observation.images.front", WRIST)

    def test_the_callers_renames_win_over_the_stored_ones(self, folder: Folder) -> None:
        folder.step(PRE, 0, rename_map={"observation.images.front": BASE})
        slots = folder.read(rename_map={"top": BASE, "phone": "drop"}).processor.slots
        assert slots.keys == ("observation.images.top", WRIST)
        assert slots.dropped == ("observation.images.phone",)

    @pytest.mark.parametrize("rename_map", [{"front": "side"}, {"front": BASE, "top": "scene"}])
    def test_impossible_renames(self, folder: Folder, rename_map: dict[str, str]) -> None:
        with pytest.raises(CheckpointError, match="--rename_map"):
            folder.read(rename_map=rename_map)

    def test_a_camera_without_statistics_was_never_there(self, folder: Folder) -> None:
        """As after `--rename_map` onto a base with three cameras and a robot with two."""
        third = "observation.images.right_wrist_0_rgb"
        feature = {"type": "VISUAL", "shape": [3, 224, 224]}
        folder.edit("config.json", lambda values: values["input_features"].update({third: feature}))
        source = folder.read()
        assert source.processor.slots.right_wrist is None
        assert any(third in note and "left empty" in note for note in source.notes)
        assert folder.read(rename_map={"right": "right_wrist"}).processor.slots.right_wrist is not None

    def test_statistics_go_by_the_data_sets_names(self, folder: Folder) -> None:
        folder.as_from_a_base()
        source = folder.read()
        assert source.processor.slots.by_slot == {"scene": FRONT, "left_wrist": HAND, "right_wrist": None}
        assert any(THIRD in note and "left empty" in note for note in source.notes)

    @pytest.mark.parametrize("name", [HAND, "hand", WRIST, "left_wrist"])
    def test_a_dropped_camera_frees_its_slot(self, folder: Folder, name: str) -> None:
        folder.as_from_a_base()
        slots = folder.read(rename_map={name: "drop"}).processor.slots
        assert slots.by_slot == {"scene": FRONT, "left_wrist": None, "right_wrist": None}
        assert HAND in slots.dropped

    def test_a_slot_that_was_freed_takes_another(self, folder: Folder) -> None:
        slots = folder.read(rename_map={"wrist": "drop", "arm": "wrist"}).processor.slots
        assert slots.keys == (BASE, "observation.images.arm")
        assert slots.dropped == (WRIST,)

    def test_a_camera_that_is_sent_elsewhere_leaves_its_slot(self, folder: Folder) -> None:
        slots = folder.read(rename_map={"base": "wrist"}).processor.slots
        assert slots.by_slot == {"scene": None, "left_wrist": BASE, "right_wrist": None}

    def test_two_cameras_may_change_places(self, folder: Folder) -> None:
        slots = folder.read(rename_map={"base": "wrist", "wrist": "base"}).processor.slots
        assert slots.by_slot == {"scene": WRIST, "left_wrist": BASE, "right_wrist": None}
        assert slots.dropped == ()

    def test_the_last_camera_stays(self, folder: Folder) -> None:
        with pytest.raises(CheckpointError, match="leaves the policy no camera"):
            folder.read(rename_map={"base": "drop", "wrist": "drop"})

    def test_more_than_three(self, folder: Folder) -> None:
        more = {f"observation.images.c{i}": {"type": "VISUAL", "shape": [3, 64, 64]} for i in range(2)}
        folder.edit("config.json", lambda values: values["input_features"].update(more))
        folder.statistics(lambda tensors: tensors.update({f"{name}.mean": torch.zeros(3) for name in more}))
        with pytest.raises(CheckpointError, match="number of cameras"):
            folder.read()


class TestTokenizer:
    """Where the tokenizer is looked for; never on a hub."""

    def test_absolute_and_given_paths(self, folder: Folder, tmp_path: Path) -> None:
        moved = tmp_path / "elsewhere"
        shutil.move(folder.path / "tokenizer", moved)
        folder.step(PRE, 5, tokenizer_name=str(moved))
        assert folder.read().processor.tokenizer.path.parent == moved
        folder.step(PRE, 5, tokenizer_name="google/paligemma-3b-pt-224")
        assert folder.read(tokenizer_path=moved).processor.tokenizer.path.parent == moved

    def test_the_folder_itself(self, folder: Folder) -> None:
        folder.step(PRE, 5, tokenizer_name="google/paligemma-3b-pt-224")
        assert folder.read().processor.tokenizer.path.parent.name == "tokenizer"

    def test_none_at_all(self, folder: Folder) -> None:
        folder.step(PRE, 5, tokenizer_name="google/paligemma-3b-pt-224")
        shutil.rmtree(folder.path / "tokenizer")
        with pytest.raises(CheckpointError, match="google/paligemma-3b-pt-224 is not in reach") as error:
            folder.read()
        assert "pi05 fetch tokenizer" in str(error.value)
        assert "--policy.tokenizer_path" in str(error.value)

    def test_of_another_network(self, folder: Folder) -> None:
        with pytest.raises(CheckpointError, match="does not belong"):
            read_lerobot(folder.path, ModelConfig(vocab_size=100), PolicyOptions())
