"""What changes the actions is told when it was edited; what does not, and how JSON is written, is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_policies import make_policy, save_policy

import pi05
from pi05 import Policy
from pi05.checkpoint.inspection import inspect_checkpoint
from pi05.checkpoint.locate import locate
from pi05.checkpoint.own.fingerprint import (
    EDITED,
    FINGERPRINT,
    edited_fields,
    fingerprint_of,
    require_unedited,
    with_fingerprint,
)
from pi05.checkpoint.policy_options import PolicyOptions
from pi05.data.statistics import DimStats, Statistics
from pi05.errors import CheckpointError
from pi05.export.export import export_policy
from pi05.train.config import TINY_BASE

CONFIG: dict[str, Any] = {
    "format": "pi05",
    "pi05_version": "0.1.0",
    "step": 7,
    "fps": 10,
    "n_action_steps": 5,
    "model": {"horizon": 10},
    "base": {"path": "somewhere"},
    "processor": {
        "resize": "openpi",
        "fps": 10.0,
        "slots": {"scene": "observation.images.front", "left_wrist": None, "dropped": []},
        "action_stats": {"q01": [-1.0, 0.25], "q99": [1.0, 0.5], "widened": [1]},
        "relative_mask": [True, False],
    },
}


def edited(path: str, value: Any) -> dict[str, Any]:
    config = json.loads(json.dumps(with_fingerprint(CONFIG)))
    *parents, last = path.split(".")
    place = config
    for name in parents:
        place = place[name]
    place[last] = value
    return config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("processor.resize", "lerobot"),
        ("processor.fps", 20.0),
        ("fps", 20),
        ("n_action_steps", 10),
        ("model.horizon", 20),
        ("processor.slots.left_wrist", "observation.images.front"),
        ("processor.action_stats.q99", [2.0, 0.5]),
        ("processor.relative_mask", [True, True]),
        ("processor.formula", "lerobot"),
    ],
)
def test_every_edit_that_changes_actions_is_named(field: str, value: Any) -> None:
    config = edited(field, value)
    assert edited_fields(config) == [field]
    with pytest.raises(CheckpointError, match=field) as refusal:
        require_unedited(config, Path("config.json"))
    assert f"--accept_edited='[{field}]'" in str(refusal.value)
    assert any(field in note for note in require_unedited(config, Path("config.json"), [field]))


def test_one_accepted_edit_does_not_hide_another() -> None:
    config = edited("processor.resize", "lerobot")
    config["processor"]["fps"] = 20
    with pytest.raises(CheckpointError, match=r"another value of processor\.fps") as refusal:
        require_unedited(config, Path("config.json"), ["processor.resize"])
    assert "processor.fps, processor.resize" in str(refusal.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("step", 8), ("base", {"path": "elsewhere"}), ("pi05_version", "9.9"), ("fps", 10.0), ("processor.fps", 10)],
)
def test_what_changes_no_action_may_be_edited(field: str, value: Any) -> None:
    assert edited_fields(edited(field, value)) == []
    assert require_unedited(edited(field, value), Path("config.json")) == []


def test_a_field_that_was_removed_is_named() -> None:
    config = with_fingerprint(CONFIG)
    config["processor"] = {name: value for name, value in config["processor"].items() if name != "resize"}
    assert edited_fields(config) == ["processor.resize"]


def test_weights_alone_and_old_checkpoints_have_none() -> None:
    assert FINGERPRINT not in with_fingerprint({"format": "pi05", "model": {"horizon": 10}})
    assert edited_fields(CONFIG) is None
    assert require_unedited(CONFIG, Path("config.json")) == []


def test_writing_it_again_renews_it() -> None:
    config = edited("processor.resize", "lerobot")
    assert edited_fields(with_fingerprint(config)) == []
    assert with_fingerprint(config)[FINGERPRINT] == fingerprint_of(config)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    policy = make_policy(TINY_BASE / "tokenizer.json")
    return save_policy(tmp_path / "policy", policy, n_action_steps=5)


def change(checkpoint: Path, **values: Any) -> None:
    path = checkpoint / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_policy_with_an_edited_config_is_refused_until_it_is_accepted(checkpoint: Path) -> None:
    assert Policy.load(checkpoint).notes == []
    assert inspect_checkpoint(checkpoint, hash_files=False)["fingerprint"] == "config.json is as it was written"
    processor = json.loads((checkpoint / "config.json").read_text())["processor"]
    processor["action_stats"]["q99"] = [2 * value for value in processor["action_stats"]["q99"]]
    change(checkpoint, processor=processor)
    with pytest.raises(CheckpointError, match=r"processor\.action_stats\.q99"):
        Policy.load(checkpoint)
    facts = inspect_checkpoint(checkpoint, hash_files=False)
    assert "processor.action_stats.q99" in facts["fingerprint"]
    assert "was edited after training" in facts["unknown"]["policy"]
    policy = Policy.load(checkpoint, accept_edited=["processor.action_stats.q99"])
    assert any("edited after training" in note for note in policy.notes)


def test_another_version_of_pi05_is_told(checkpoint: Path) -> None:
    change(checkpoint, pi05_version="9.9.9")
    assert any("written by pi05 9.9.9" in note for note in Policy.load(checkpoint).notes)


def test_an_untouched_checkpoint_of_this_version_loads_without_a_word(checkpoint: Path) -> None:
    assert json.loads((checkpoint / "config.json").read_text())["pi05_version"] == pi05.__version__
    assert Policy.load(checkpoint).notes == []


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [("max", -1e6, "min at most max"), ("q99", -1e6, "q01 at most q99"), ("std", -1.0, "std from 0")],
)
def test_statistics_that_no_data_can_have_are_refused(checkpoint: Path, name: str, value: float, word: str) -> None:
    """Also where the fingerprint is theirs: such a file was written so."""
    config = json.loads((checkpoint / "config.json").read_text())
    config["processor"]["state_stats"][name][0] = value
    (checkpoint / "config.json").write_text(json.dumps(with_fingerprint(config)))
    with pytest.raises(CheckpointError, match="none that data can have") as refused:
        Policy.load(checkpoint)
    assert word in str(refused.value)
    assert "none that data can have" in inspect_checkpoint(checkpoint, hash_files=False)["unknown"]["policy"]


def test_a_checkpoint_of_before_there_were_fingerprints_loads_with_a_word_in_inspect(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    del config[FINGERPRINT]
    stats = [DimStats.from_dict(config["processor"][f"{kind}_stats"]) for kind in ("state", "action")]
    config["statistics"] = Statistics(*stats, []).sha256
    (checkpoint / "config.json").write_text(json.dumps(config))
    assert Policy.load(checkpoint).notes == []
    told = inspect_checkpoint(checkpoint, hash_files=False)["fingerprint"]
    assert told.startswith("none")
    assert "not those of the training data" not in told
    config["processor"]["state_stats"]["q99"][0] *= 2
    (checkpoint / "config.json").write_text(json.dumps(config))
    assert "not those of the training data" in inspect_checkpoint(checkpoint, hash_files=False)["fingerprint"]


def test_an_export_renews_the_fingerprint_and_tells_what_was_edited(checkpoint: Path, tmp_path: Path) -> None:
    change(checkpoint, n_action_steps=7)
    with pytest.raises(CheckpointError, match="n_action_steps"):
        export_policy(locate(checkpoint), tmp_path / "refused", to="pi05")
    out = tmp_path / "out"
    export_policy(locate(checkpoint), out, to="pi05", options=PolicyOptions(accept_edited=("n_action_steps",)))
    written = json.loads((out / "config.json").read_text())
    assert (edited_fields(written), written[EDITED]) == ([], ["n_action_steps"])
    assert any("before it was exported: n_action_steps" in note for note in Policy.load(out).notes)


def test_lerobots_folders_have_nothing_to_accept(exported: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match="no fingerprint"):
        Policy.load(exported["lerobot"], accept_edited=["fps"])
