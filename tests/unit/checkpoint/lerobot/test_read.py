"""LeRobot's processor files as a policy: each rule of reading them, on copies of a folder that LeRobot wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot_folder import BASE, POST, PRE, WRIST, Edit, Folder

from pi05.checkpoint.lerobot.read import base_prompt_format, read_lerobot
from pi05.checkpoint.policy_options import PolicyOptions
from pi05.errors import CheckpointError, DataError
from pi05.model.config import ModelConfig


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "pretrained_model")


def relative(folder: Folder, name: str = "relative_actions_processor", **settings: Any) -> None:
    """Switch relative actions on in both files."""
    folder.step(PRE, 2, **({"enabled": True} | settings))
    folder.edit(PRE, lambda values: values["steps"][2].update(registry_name=name))
    folder.step(POST, 1, enabled=True)
    folder.config(use_relative_actions=True)


def test_a_folder_of_todays_lerobot(folder: Folder) -> None:
    source = folder.read()
    processor = source.processor
    assert processor.slots.keys == (BASE, WRIST), "the empty camera has no slot"
    assert processor.normalization == {"STATE": "QUANTILES", "ACTION": "QUANTILES"}
    assert processor.state_stats.known == ["mean", "std", "min", "max", "q01", "q99"]
    assert processor.state_stats.count == 120
    assert (source.n_action_steps, processor.max_prompt_tokens, processor.fps) == (10, 48, None)
    assert source.notes == ["control rate: the folder does not tell it"]


@pytest.mark.parametrize(("drawn", "below"), [(0, 0), (None, 0), (10, 11)])
def test_the_delays_of_lerobot_s_training(folder: Folder, drawn: int | None, below: int) -> None:
    """LeRobot, from 0.6.2 on, draws 0 to its number; ours are below it."""
    folder.edit("config.json", lambda config: config.update(rtc_training_max_delay=drawn))
    assert folder.read().max_delay == below


def test_what_no_lerobot_file_tells_comes_from_the_sidecar(folder: Folder) -> None:
    slots = {"scene": None, "left_wrist": BASE, "right_wrist": WRIST, "dropped": []}
    sidecar = {
        "format": "pi05-export", "format_version": 1, "fps": 10, "prompt_format": "none", "slots": slots,
        "state_names": list("abcdefgh"),
    }  # fmt: skip
    (folder.path / "pi05.json").write_text(json.dumps(sidecar))
    source = folder.read()
    assert source.processor.slots.by_slot == {"scene": None, "left_wrist": BASE, "right_wrist": WRIST}
    assert source.processor.state_names == tuple("abcdefgh")
    assert (source.processor.fps, source.processor.prompt_format, source.notes) == (10.0, "none", [])
    assert folder.read(prompt_format="state").processor.prompt_format == "state"


@pytest.mark.parametrize("name", ["relative_actions_processor", "delta_actions_processor"])
def test_relative_actions_under_both_names(folder: Folder, name: str) -> None:
    relative(folder, name)
    assert folder.read().processor.relative_mask == (*[True] * 6, False)


@pytest.mark.parametrize(
    ("settings", "mask"),
    [
        ({"exclude_joints": ["GRIP", "a1"]}, [True, False, True, True, True, True, False]),
        ({"exclude_joints": []}, [True] * 7),
        ({"exclude_joints": ["elbow"]}, [True] * 7),
        ({"action_names": None}, [True] * 7),
        ({"exclude_joints": ["a0"], "action_names": ["a0", "a00", "b"]}, [False, False, *[True] * 5]),
    ],
)
def test_which_dimensions_are_relative_is_lerobots_rule(folder: Folder, settings: Any, mask: list[bool]) -> None:
    relative(folder, **settings)
    assert folder.read().processor.relative_mask == tuple(mask)


def test_relative_actions_need_both_halves(folder: Folder) -> None:
    relative(folder)
    folder.step(POST, 1, enabled=False)
    with pytest.raises(CheckpointError, match="relative actions"):
        folder.read()


def test_relative_actions_beyond_the_state_are_refused(folder: Folder) -> None:
    relative(folder, exclude_joints=[])
    folder.edit("config.json", lambda values: values["input_features"]["observation.state"].update(shape=[5]))
    folder.statistics(lambda tensors: _shorten(tensors, "observation.state", 5))
    with pytest.raises(CheckpointError, match="relative actions"):
        folder.read()


def _shorten(tensors: dict[str, torch.Tensor], feature: str, length: int) -> None:
    for key in [key for key in tensors if key.startswith(feature + ".") and not key.endswith("count")]:
        tensors[key] = tensors[key][:length].clone()


def test_mean_and_deviation(folder: Folder) -> None:
    """As pi05_libero_finetuned: MEAN_STD in the processors counts, config.json's mapping is only noted."""
    modes = {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
    folder.step(PRE, 3, norm_map=modes)
    folder.step(POST, 0, norm_map=modes)
    source = folder.read()
    assert source.processor.normalization == {"STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
    assert any("MEAN_STD" in note and "config.json says" in note for note in source.notes)
    stats = source.processor.action_stats
    one = source.processor.action_normalizer.unnormalize(np.ones(7, np.float32))
    np.testing.assert_array_equal(one, (stats.value("std") + stats.value("mean")).astype(np.float32))


def test_missing_quantiles_are_an_error_not_an_identity(folder: Folder) -> None:
    folder.statistics(lambda tensors: [tensors.pop(f"{name}.q01") for name in ("observation.state", "action")])
    with pytest.raises(CheckpointError, match=r"statistics of observation\.state do not serve QUANTILES") as error:
        folder.read()
    assert "no q01" in str(error.value)


def test_statistics_that_the_mode_does_not_need_may_be_absent(folder: Folder) -> None:
    kept = (".q01", ".q99")
    folder.statistics(lambda tensors: [tensors.pop(key) for key in list(tensors) if not key.endswith(kept)])
    processor = folder.read().processor
    assert processor.state_stats.known == ["q01", "q99"]
    assert processor.state_stats.range is not None
    with pytest.raises(DataError, match="lack mean"):
        processor.state_stats.value("mean")


@pytest.mark.parametrize("bad", [torch.full((8,), torch.nan), torch.zeros(7)])
def test_damaged_statistics(folder: Folder, bad: torch.Tensor) -> None:
    folder.statistics(lambda tensors: tensors.update({"observation.state.q01": bad}))
    with pytest.raises(CheckpointError, match="8 finite numbers"):
        folder.read()


def test_the_statistics_tell_how_long_the_state_is(folder: Folder) -> None:
    """LeRobot leaves its base's shape in config.json, 32 numbers of lerobot/pi05_base; its prompt has the data's."""
    folder.edit("config.json", lambda values: values["input_features"]["observation.state"].update(shape=[32]))
    source = folder.read()
    assert source.processor.state_dim == 8
    assert any("8 numbers" in note and "config.json says 32" in note for note in source.notes)


def test_actions_of_another_length_than_config_says(folder: Folder) -> None:
    """LeRobot always writes their shape anew, so the files are of two checkpoints; it is not the quantiles' fault."""
    folder.edit("config.json", lambda values: values["output_features"]["action"].update(shape=[6]))
    with pytest.raises(CheckpointError, match="not of one checkpoint") as error:
        folder.read()
    assert "6 finite numbers" in str(error.value)
    assert "quantiles" not in error.value.remedy


def test_numbers_that_are_not_finite_are_not_a_matter_of_quantiles(folder: Folder) -> None:
    folder.statistics(lambda tensors: tensors.update({"observation.state.q01": torch.full((8,), torch.inf)}))
    with pytest.raises(CheckpointError, match="not finite") as error:
        folder.read()
    assert "quantiles" not in error.value.remedy


def test_both_halves_must_use_the_same_statistics(folder: Folder) -> None:
    folder.statistics(lambda tensors: tensors.update({"action.q99": tensors["action.q99"] + 1}), "unnormalizer")
    with pytest.raises(CheckpointError, match=r"statistics of action \(q99\)"):
        folder.read()


def test_both_halves_must_use_the_same_mode(folder: Folder) -> None:
    folder.step(POST, 0, norm_map={"ACTION": "MEAN_STD"})
    with pytest.raises(CheckpointError, match="normalisation of actions"):
        folder.read()


def test_a_range_of_zero_is_told(folder: Folder) -> None:
    folder.statistics(lambda tensors: tensors.update({"action.q99": tensors["action.q01"].clone()}))
    assert any("action dimensions [0, 1, 2, 3, 4, 5, 6] have q01 = q99" in note for note in folder.read().notes)


def test_a_state_that_the_normaliser_leaves_out(folder: Folder) -> None:
    folder.step(PRE, 3, normalize_observation_keys=[BASE])
    source = folder.read()
    assert source.processor.normalization["STATE"] == "IDENTITY"
    assert any("state is not normalised" in note for note in source.notes)


def test_weights_without_statistics_are_no_policy(folder: Folder) -> None:
    """As lerobot/pi05_base is published: no features, no state file."""
    for name, number in ((PRE, 3), (POST, 0)):
        folder.step(name, number, features={})
        folder.edit(name, lambda values, number=number: values["steps"][number].pop("state_file"))  # type: ignore[misc]
    with pytest.raises(CheckpointError, match="no statistics") as error:
        folder.read()
    assert "fine-tune it first" in str(error.value)
    assert base_prompt_format(folder.path)[0] == "state"


def test_the_published_base_is_no_policy(shared: Path, tmp_path: Path) -> None:
    published = shared / "checkpoint_json" / "pi05_base_hub_copy"
    with pytest.raises(CheckpointError, match="no statistics"):
        read_lerobot(published, ModelConfig(), PolicyOptions())
    assert base_prompt_format(published)[0] == "state"


@pytest.mark.parametrize(
    ("edit", "part"),
    [
        (lambda v: v["steps"].insert(0, {"registry_name": "voxel_processor", "config": {}}), "voxel_processor"),
        (lambda v: v["steps"].append({"class": "lab.MyStep"}), "lab.MyStep"),
        (lambda v: v["steps"].append(v["steps"][1]), "twice"),
        (lambda v: v["steps"][2]["config"].update(mode="pose"), "mode='pose'"),
        (lambda v: v["steps"].pop(3), "no normalizer_processor"),
        (lambda v: v["steps"].reverse(), "the order"),
        (lambda v: v.update(steps={}), "steps: a list"),
        (lambda v: v["steps"][3].update(state_file="gone.safetensors"), "gone.safetensors"),
        (lambda v: v["steps"][3].update(state_file="../" + v["steps"][3]["state_file"]), "outside its folder"),
        (lambda v: v["steps"][3].update(state_file="/dev/zero"), "outside its folder"),
        (lambda v: v["steps"][3].update(state_file=""), "outside its folder"),
        (lambda v: v["steps"][3]["config"].update(eps=1e-6), "eps"),
        (lambda v: v["steps"][3]["config"]["norm_map"].update(VISUAL="MEAN_STD"), "pictures"),
        (lambda v: v["steps"][3]["config"]["norm_map"].update(STATE="MIN_MAX"), "MIN_MAX"),
    ],
)
def test_a_step_that_is_not_known_is_never_passed_over(folder: Folder, edit: Edit, part: str) -> None:
    folder.edit(PRE, edit)
    with pytest.raises(CheckpointError) as error:
        folder.read()
    assert part in str(error.value), str(error.value)


def test_a_missing_file(folder: Folder) -> None:
    (folder.path / POST).unlink()
    with pytest.raises(CheckpointError, match=r"policy_postprocessor\.json is missing"):
        folder.read()


@pytest.mark.parametrize("switch", ["use_visual_memory", "use_proprioceptive_memory"])
def test_memory_is_refused(folder: Folder, switch: str) -> None:
    folder.config(**{switch: True})
    with pytest.raises(CheckpointError, match="memory"):
        folder.read()


def test_pictures_of_another_size_than_the_weights(folder: Folder) -> None:
    folder.config(image_resolution=[112, 112])
    with pytest.raises(CheckpointError, match="size of pictures"):
        folder.read()


def test_the_processor_counts_for_the_longest_prompt(folder: Folder) -> None:
    folder.config(tokenizer_max_length=100)
    source = folder.read()
    assert source.processor.max_prompt_tokens == 48
    assert any("48 tokens and counts; config.json says 100" in note for note in source.notes)
