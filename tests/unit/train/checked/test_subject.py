"""What is checked of a run: what its base tells, what could be opened of its data, and its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from broken import data_file
from fake_policies import make_policy, save_policy
from fakes import write_dataset, write_tokenizer
from rich.console import Console

from pi05.check.subject import Base, Subject
from pi05.checkpoint.locate import locate
from pi05.data.config import DatasetConfig
from pi05.errors import ConfigError
from pi05.finding import Finding
from pi05.model.config import ModelConfig
from pi05.train.checked.subject import base_of, leave_out, open_subject
from pi05.train.config import TINY_BASE, PolicyConfig, TrainConfig

GOLDEN = Path(__file__).resolve().parents[3] / "golden"
LEROBOT, OPENPI = GOLDEN / "lerobot_checkpoints" / "full", GOLDEN / "openpi" / "ckpt" / "ema" / "6"
RUNS = GOLDEN / "saved_runs"
SIZES = ModelConfig(vocab_size=1024, horizon=10, max_prompt_tokens=48)


def told_by(path: Path | None) -> Base | None:
    return base_of(TrainConfig(), SIZES, None if path is None else locate(path))


def test_no_base_tells_nothing() -> None:
    assert told_by(None) is None


def test_a_lerobot_base_tells_statistics_and_processing() -> None:
    base = told_by(LEROBOT)
    assert base is not None
    assert base.state_stats is not None
    assert base.settings["resize"] == "lerobot-bilinear-pad"
    assert not {"state_stats", "action_stats"} & set(base.settings)


def test_an_openpi_base_tells_statistics_alone() -> None:
    base = told_by(OPENPI)
    assert base is not None
    assert base.action_stats is not None
    assert base.settings == {}


def test_one_of_pi05_tells_its_processor(tmp_path: Path) -> None:
    policy = make_policy(write_tokenizer(tmp_path / "tokenizer.json"), prompt_format="none")
    base = told_by(save_policy(tmp_path / "own", policy))
    assert base is not None
    assert base.settings["prompt_format"] == "none"
    assert base.state_stats is not None
    assert base.trained_on == {}


def test_a_run_of_pi05_tells_what_it_was_trained_on() -> None:
    folder = next(path.parent.parent for path in sorted(RUNS.rglob("training_state/state.json")))
    base = told_by(folder)
    assert base is not None
    assert {"train_episodes", "held_out", "frames"} <= set(base.trained_on)


def test_a_file_of_weights_tells_nothing_of_itself(tmp_path: Path) -> None:
    base = told_by(LEROBOT / "model.safetensors")
    assert base is not None
    assert (base.state_stats, base.settings) == (None, {})


# --- the data ---------------------------------------------------------------------------------------------------------


def opened(root: Path, dataset: dict[str, Any] | None = None, **settings: Any) -> tuple[Subject | None, list[Finding]]:
    chosen = {"policy": PolicyConfig(path=str(TINY_BASE)), **settings}
    config = TrainConfig(dataset=DatasetConfig(root=str(root), **(dataset or {})), **chosen)
    return open_subject(config, Console(quiet=True))


def test_a_sound_set_has_a_recipe_and_a_base(tmp_path: Path) -> None:
    subject, findings = opened(write_dataset(tmp_path, episodes=(12, 9, 7, 8, 8)).root)
    assert findings == []
    assert subject is not None
    assert subject.recipe is not None
    assert subject.recipe.tokenizer_known
    assert (
        sorted([*subject.recipe.train_episodes, *subject.recipe.held_out]) == list(subject.episodes) == [0, 1, 2, 3, 4]
    )
    assert subject.base is not None


def test_broken_episodes_are_left_out_of_the_recipe_too(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path, "v2.1", episodes=(12, 9, 7, 8))
    data_file(fake, 2).unlink()
    subject, (finding,) = opened(fake.root)
    assert finding.name == "structure.files"
    assert subject is not None
    assert list(subject.episodes) == [0, 1, 3]
    assert subject.recipe is not None
    assert 2 not in subject.recipe.train_episodes


def test_a_set_without_a_whole_episode_has_no_subject(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path, "v2.1", episodes=(12, 9))
    for number in (0, 1):
        data_file(fake, number).write_bytes(b"")
    subject, findings = opened(fake.root)
    assert subject is None
    assert {finding.name for finding in findings} == {"structure.files"}


def test_a_recipe_that_does_not_fit_is_a_finding_and_the_data_are_checked(tmp_path: Path) -> None:
    subject, (finding,) = opened(write_dataset(tmp_path, action_dim=40).root)
    assert (finding.name, finding.status) == ("recipe.contents", "error")
    assert "at most 32" in finding.text
    assert subject is not None
    assert subject.recipe is None


def test_wrong_flags_are_no_findings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="episodes that the data set has not"):
        opened(write_dataset(tmp_path).root, {"episodes": (99,)})


def test_without_a_base_nobody_counts_tokens_of_a_strange_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no paligemma_model/ here
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    subject, findings = opened(write_dataset(tmp_path / "set").root, policy=PolicyConfig())
    assert subject is not None
    assert subject.recipe is not None
    assert subject.recipe.tokenizer_known == (not findings)
    assert {finding.name for finding in findings} <= {"recipe.tokenizer"}


def test_what_is_left_out_adds_to_what_the_user_leaves_out() -> None:
    config = TrainConfig(dataset=DatasetConfig(exclude_episodes=(1,)), drop_cameras=("a",))
    left = leave_out(config, [3, 1], ["b"])
    assert (left.dataset.exclude_episodes, left.drop_cameras) == ((1, 3), ("a", "b"))
    assert leave_out(TrainConfig(), [], []) == TrainConfig()
