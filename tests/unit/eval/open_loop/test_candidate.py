from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recorded_cases import HELD_OUT, TRAINED, Recorded, write_record

from pi05.checkpoint.locate import locate
from pi05.data.lerobot.identity import is_data_of
from pi05.errors import ConfigError, EvaluationError
from pi05.eval.config import EvalConfig, EvalDatasetConfig
from pi05.eval.open_loop.candidate import open_recordings, read_candidates, read_record, require_fits
from pi05.policy import Policy
from pi05.policy_choice import ChosenPolicy


def config_of(case: Recorded, **settings: Any) -> EvalConfig:
    return EvalConfig(dataset=EvalDatasetConfig(root=str(case.data)), **settings)


def test_a_checkpoint_tells_what_its_run_has_seen(case: Recorded) -> None:
    config = config_of(case, policy=ChosenPolicy(n_action_steps=3))
    only, again = read_candidates(config, [str(case.checkpoint), str(case.checkpoint.parent.parent)])
    assert (only.name, again.name) == ("A", "B")
    assert only.n_action_steps == 3
    assert only.record is not None
    assert only.record == again.record
    assert (list(only.record.train), list(only.record.held_out)) == (TRAINED, HELD_OUT)
    assert is_data_of(open_recordings(config, [only, again]), only.record.data)


@pytest.mark.parametrize("fps", [2.0, 10.0, 50.0])
def test_a_policy_looks_again_when_it_would_on_a_robot(case: Recorded, tmp_path: Path, fps: float) -> None:
    """Of a checkpoint that does not tell after how many actions: a second at the most."""
    folder = shutil.copytree(case.checkpoint, tmp_path / "policy")
    config = json.loads((folder / "config.json").read_text())
    config["n_action_steps"], config["processor"]["fps"] = None, fps
    config.pop("fingerprint", None)
    (folder / "config.json").write_text(json.dumps(config))
    (candidate,) = read_candidates(config_of(case), [str(folder)])
    assert candidate.n_action_steps == Policy.load(folder).n_action_steps <= max(1, fps)


@pytest.mark.parametrize("changes", [{"held_out": None}, {"train_episodes": ["0"]}])
def test_a_record_that_does_not_tell_is_none(case: Recorded, tmp_path: Path, changes: dict[str, Any]) -> None:
    copied = replace(locate(case.checkpoint), path=tmp_path)
    assert read_record(copied) is None
    write_record(tmp_path, case.data)
    assert read_record(copied) is not None
    write_record(tmp_path, case.data, **changes)
    assert read_record(copied) is None


@pytest.mark.parametrize(
    ("changes", "allow", "match"),
    [
        ({"fps": 20.0}, (), r"control rate(.|\n)*--allow=control-rate"),
        ({"fps": 20.0}, ("control-rate",), None),
        ({"fps": None}, (), None),
        ({"action_names": ("action_1", "action_0", "action_2")}, (), r"in another order(.|\n)*--allow=action-names"),
        ({"action_names": ("a", "b", "c")}, ("action-names",), None),
        ({"action_names": ("action_0", "action_1", "action_2")}, (), None),
        ({"slots": {"scene": "observation.images.front"}}, (), r'--rename_map .*"observation.images.scene": "observ'),
        ({"slots": {"left_wrist": None}}, (), r'--rename_map .*"observation.images.wrist": "drop"'),
        ({"slots": {"left_wrist": None, "dropped": ("observation.images.wrist",)}}, (), None),
        ({"slots": {"right_wrist": "observation.images.third"}}, (), "evaluate it on data with its cameras"),
        ({"state_stats": 2}, (), "2 numbers in the state"),
        ({"action_stats": 2}, (), "2 numbers in the action"),
    ],
)
def test_a_policy_of_other_data_is_refused(
    case: Recorded, changes: dict[str, Any], allow: tuple[str, ...], match: str | None
) -> None:
    config = config_of(case, allow=allow)
    [whole] = read_candidates(config, [str(case.checkpoint)])
    dataset, processor = open_recordings(config, [whole]), whole.processor
    for name, value in changes.items():
        if name == "slots":
            value = replace(processor.slots, **value)
        elif name.endswith("stats"):
            stats = getattr(processor, name)
            value = replace(stats, **{field: getattr(stats, field)[:value] for field in stats.known})
        processor = replace(processor, **{name: value})
    candidate = replace(whole, processor=processor)
    if match is None:
        require_fits(candidate, dataset, allow)
    else:
        with pytest.raises(EvaluationError, match=match):
            require_fits(candidate, dataset, allow)


def test_what_cannot_be_is_told_before_anything_is_read(case: Recorded) -> None:
    with pytest.raises(ConfigError, match="--allow cannot be mujoco-version"):
        open_recordings(config_of(case, allow=("mujoco-version",)), [])
    with pytest.raises(EvaluationError, match="does not predict as many"):
        read_candidates(config_of(case, policy=ChosenPolicy(n_action_steps=11)), [str(case.checkpoint)])


def test_policies_that_read_other_columns_are_not_compared(case: Recorded) -> None:
    from pi05.data.lerobot.vectors import Column

    config = config_of(case)
    first, second = read_candidates(config, [str(case.checkpoint)] * 2)
    joined = replace(second.processor, state_columns=(Column("arm", 2), Column("gripper", 1)))
    with pytest.raises(EvaluationError, match="reads other columns"):
        open_recordings(config, [first, replace(second, processor=joined)])
