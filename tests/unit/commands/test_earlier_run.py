"""Which file `--config_path` and `--resume` mean, and a LeRobot run as the start of one of ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pi05.commands.earlier_run import run_config_file
from pi05.commands.train import read_training_settings
from pi05.errors import ConfigError

WRITTEN = Path(__file__).parents[2] / "golden/lerobot_checkpoints/full/train_config.json"


@pytest.fixture
def lerobot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder as LeRobot leaves it; the policy's config.json lies beside the run's."""
    place = tmp_path / "outputs/checkpoints/000008/pretrained_model"
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    shutil.copy(WRITTEN, place / "train_config.json")
    (tmp_path / "outputs/checkpoints/last").symlink_to("000008")
    monkeypatch.chdir(tmp_path)
    return place


@pytest.mark.parametrize(
    "given",
    [
        *("outputs", "outputs/checkpoints/last", "outputs/checkpoints/000008"),
        *("outputs/checkpoints/last/pretrained_model", "outputs/checkpoints/last/pretrained_model/train_config.json"),
    ],
)
def test_a_lerobot_run_is_found_by_any_of_its_paths(lerobot_run: Path, given: str) -> None:
    assert run_config_file(given).resolve() == lerobot_run / "train_config.json"


def test_a_lerobot_run_starts_one_of_ours_and_flags_override_it(lerobot_run: Path) -> None:
    request, _ = read_training_settings(["--config_path=outputs", "--batch_size=2", "--steps=20"])
    config = request.config
    assert (config.seed, config.batch_size, config.steps) == (1000, 2, 20)
    assert (config.decay_steps, config.policy.optimizer_weight_decay) == (20, 0.01)
    assert config.output_dir is not None
    assert config.output_dir.startswith("runs/")
    assert any("is a run of LeRobot's" in notice for notice in request.notices)


def test_a_lerobot_run_is_not_resumed(lerobot_run: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be continued here"):
        read_training_settings(["--resume", "outputs"])
