"""What a run takes over from its base: pi05's own, LeRobot's, openpi's; and from scratch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_policies import make_policy, save_policy
from fakes import write_byte_tokenizer, write_tokenizer

from pi05.checkpoint.locate import locate
from pi05.errors import CheckpointError, ConfigError
from pi05.model.config import ModelConfig
from pi05.train.config import PolicyConfig, TrainConfig
from pi05.train.inputs.inherit import Inherited, base_statistics, inherit, open_tokenizer
from pi05.train.network import locate_start

LEROBOT = Path(__file__).resolve().parents[3] / "golden" / "lerobot_checkpoints" / "full"
OPENPI = Path(__file__).resolve().parents[3] / "golden" / "openpi" / "ckpt" / "ema" / "6"
SIZES = ModelConfig(vocab_size=1024, horizon=10)
QUANTILES = {"STATE": "QUANTILES", "ACTION": "QUANTILES"}


def config(path: Path | None, **settings: Any) -> TrainConfig:
    policy = PolicyConfig(path=None if path is None else str(path))
    return TrainConfig(policy=policy, from_scratch=path is None, **settings)


def inherited(path: Path | None, **settings: Any) -> Inherited:
    chosen = config(path, **settings)
    return inherit(chosen, locate_start(chosen))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A checkpoint of pi05 that itself came from an old LeRobot base."""
    tokenizer = write_tokenizer(tmp_path / "tokenizer.json")
    policy = make_policy(tokenizer, prompt_format="none", resize="lerobot-bilinear-pad", formula="lerobot")
    return save_policy(tmp_path / "own", policy)


def test_from_scratch_has_the_defaults() -> None:
    found = inherited(None)
    assert (found.prompt_format, found.resize, found.formula) == ("state", "pil-bilinear-antialias-pad", "openpi")
    assert found.notes == []


def test_of_a_lerobot_base() -> None:
    found = inherited(LEROBOT)
    assert (found.prompt_format, found.resize, found.formula) == ("state", "lerobot-bilinear-pad", "lerobot")
    assert found.notes == ["resize and normalisation: LeRobot's, as in the base (--resize)"]


def test_what_is_asked_wins_and_is_told() -> None:
    found = inherited(LEROBOT, resize="openpi", prompt_format="none")
    assert (found.prompt_format, found.resize, found.formula) == ("none", "pil-bilinear-antialias-pad", "lerobot")
    assert any("openpi's as asked" in note for note in found.notes)
    assert any("format none as asked; the base has state" in note for note in found.notes)


def test_of_an_old_lerobot_base(tmp_path: Path) -> None:
    shutil.copytree(LEROBOT, tmp_path / "old")
    path = tmp_path / "old" / "config.json"
    values = json.loads(path.read_text())
    for name in ("use_relative_actions", "relative_exclude_joints", "action_feature_names"):
        del values[name]
    path.write_text(json.dumps(values))
    path = tmp_path / "old" / "policy_preprocessor.json"
    values = json.loads(path.read_text())
    del values["steps"][2]
    path.write_text(json.dumps(values))
    found = inherited(tmp_path / "old")
    assert (found.prompt_format, found.resize) == ("state32", "lerobot-bilinear-pad")
    assert any("state32" in note and "0.4.4 or 0.5.0" in note for note in found.notes)


def test_of_a_checkpoint_of_our_own(own: Path) -> None:
    found = inherited(own)
    assert (found.prompt_format, found.resize, found.formula) == ("none", "lerobot-bilinear-pad", "lerobot")
    assert any("as the base was trained" in note for note in found.notes)


def test_of_an_openpi_base() -> None:
    found = inherited(OPENPI)
    assert (found.prompt_format, found.resize, found.formula) == ("state", "pil-bilinear-antialias-pad", "openpi")
    assert any("openpi's folders do not tell" in note for note in found.notes)
    assert inherited(OPENPI, prompt_format="none").prompt_format == "none"


def test_statistics_of_each_kind_of_base(own: Path) -> None:
    state, action = base_statistics(config(LEROBOT), SIZES, locate(LEROBOT), QUANTILES, None)
    assert (state.dim, action.dim, action.count) == (8, 7, 120)
    state, action = base_statistics(config(OPENPI), SIZES, locate(OPENPI), QUANTILES, None)
    assert (state.dim, action.dim) == (8, 7)
    assert action.value("q01")[0] == pytest.approx(-1.27797751)
    state, action = base_statistics(config(own), SIZES, locate(own), {**QUANTILES, "VISUAL": "IDENTITY"}, None)
    np.testing.assert_array_equal(state.value("max"), [0.2, 0.2, 1])


@pytest.mark.parametrize("path", [LEROBOT, OPENPI])
def test_statistics_for_another_mode_do_not_fit(path: Path) -> None:
    with pytest.raises(ConfigError, match="normalisation") as error:
        base_statistics(config(path), SIZES, locate(path), {"STATE": "MEAN_STD", "ACTION": "QUANTILES"}, None)
    assert "--policy.normalization_mapping" in str(error.value)


def test_statistics_of_absolute_actions_do_not_fit_relative_ones(own: Path) -> None:
    for path in (LEROBOT, own):
        with pytest.raises(ConfigError, match="relative actions"):
            base_statistics(config(path), SIZES, locate(path), QUANTILES, (True, False))


def test_a_file_of_weights_has_no_statistics() -> None:
    with pytest.raises(CheckpointError, match="no statistics"):
        base_statistics(
            config(LEROBOT / "model.safetensors"), SIZES, locate(LEROBOT / "model.safetensors"), QUANTILES, None
        )


def test_the_tokenizer_of_the_base(own: Path, tmp_path: Path) -> None:
    assert open_tokenizer(config(LEROBOT), SIZES, locate(LEROBOT)).path.parent.name == "tokenizer"
    assert open_tokenizer(config(own), SIZES, locate(own)).path.parent == own
    with pytest.raises(CheckpointError, match="no tokenizer"):
        open_tokenizer(config(OPENPI), SIZES, locate(OPENPI))
    given = write_byte_tokenizer(tmp_path / "bytes" / "tokenizer.json")
    chosen = TrainConfig(policy=PolicyConfig(path=str(OPENPI), tokenizer_path=str(given)))
    assert open_tokenizer(chosen, SIZES, locate(OPENPI)).path == given


def test_a_given_tokenizer_numbers_text_as_that_of_the_base(own: Path, tmp_path: Path) -> None:
    """The same pieces under other numbers fit by size, and would train from a language that the base never saw."""
    file = own / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    same, other = tmp_path / "same.json", tmp_path / "other.json"
    same.write_text(json.dumps(content, indent=2), encoding="utf-8")
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    other.write_text(json.dumps(content), encoding="utf-8")

    def chosen(path: Path, *allow: str) -> TrainConfig:
        return TrainConfig(policy=PolicyConfig(path=str(own), tokenizer_path=str(path)), allow=allow)

    assert open_tokenizer(chosen(same), SIZES, locate(own)).path == same
    with pytest.raises(ConfigError, match="not the one that the base was trained with") as refusal:
        open_tokenizer(chosen(other), SIZES, locate(own))
    assert "--allow=tokenizer" in refusal.value.remedy
    assert open_tokenizer(chosen(other, "tokenizer"), SIZES, locate(own)).path == other


def test_a_network_of_full_size_speaks_as_paligemma(tmp_path: Path) -> None:
    """openpi's folders hold no tokenizer: what is known of the only one there is decides."""
    given = write_byte_tokenizer(tmp_path / "tokenizer.json")
    chosen = TrainConfig(policy=PolicyConfig(path=str(OPENPI), tokenizer_path=str(given)))
    with pytest.raises(ConfigError, match="to it these numbers mean other words"):
        open_tokenizer(chosen, ModelConfig(), locate(OPENPI))
