"""What a push is made of: which run, which settings, which command continues it. Uploads are in test_upload and e2e."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pi05.cli import main
from pi05.errors import CheckpointError, ConfigError, HubError
from pi05.hub.config import PushConfig
from pi05.hub.publish import command_line, find_run, publish_after_training, shorten, wish_of, with_wish_of_run
from pi05.hub.upload import OURS
from pi05.settings.flags import overlay, parse_flags
from pi05.settings.schema import from_plain
from pi05.train.config import PolicyConfig, TrainConfig


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return the frame of a run that was started with a wish."""
    folder = tmp_path / "run"
    for step in ("000002", "000004"):
        (folder / "checkpoints" / step).mkdir(parents=True)
        (folder / "checkpoints" / step / "config.json").write_text('{"format": "pi05", "format_version": 1}')
        (folder / "checkpoints" / step / "model.safetensors").write_bytes(b"weights")
    (folder / "checkpoints" / "best").symlink_to("000002")
    policy = PolicyConfig(repo_id="ada/cubes", private=True, license="mit", tags=("arm",))
    (folder / "config.json").write_text(TrainConfig(policy=policy).to_json())
    return folder


def test_a_run_means_its_last_checkpoint(run: Path) -> None:
    assert find_run(run) == (run, (run / "checkpoints/000004").resolve())
    assert find_run(run / "checkpoints/000002")[1].name == "000002"
    assert find_run(run / "checkpoints/best")[1].name == "000002"


def test_what_is_no_run(run: Path, tmp_path: Path) -> None:
    for path in (tmp_path, run / "checkpoints", run / "checkpoints/000099", run / "config.json"):
        with pytest.raises(CheckpointError):
            find_run(path)


def test_what_the_command_does_not_say_the_run_does(run: Path) -> None:
    config = with_wish_of_run(run, PushConfig())
    assert (config.repo_id, config.private, config.license, config.tags) == ("ada/cubes", True, "mit", ("arm",))
    other = with_wish_of_run(run, PushConfig(repo_id="ada/other", private=False, license="gemma", tags=("leg",)))
    assert (other.repo_id, other.private, other.license, other.tags) == ("ada/other", False, "gemma", ("leg",))


def test_a_repository_is_needed(run: Path) -> None:
    plain = json.loads((run / "config.json").read_text())
    plain["policy"]["repo_id"] = None
    (run / "config.json").write_text(json.dumps(plain))
    with pytest.raises(ConfigError, match="--repo_id"):
        with_wish_of_run(run, PushConfig())


@pytest.mark.parametrize(
    "config",
    [
        PushConfig(repo_id="ada/cubes"),
        PushConfig(repo_id="ada/cubes", private=True, adapter_only=True, base_model="lerobot/pi05_base"),
        PushConfig(repo_id="ada/cubes", private=False, tags=("arm", "leg"), message="it's done", revision="v1/x"),
        PushConfig(repo_id="ada/cubes", dtype="bfloat16", endpoint="http://127.0.0.1:8", license="mit", dry_run=True),
    ],
)
def test_the_command_that_continues_means_the_same(config: PushConfig) -> None:
    import shlex

    words = shlex.split(command_line(Path("my runs/cubes"), config))
    assert words[:2] == ["pi05", "push"]
    flags = parse_flags(PushConfig, words[2:])
    assert flags.words == ["my runs/cubes"]
    assert from_plain(PushConfig, overlay({}, flags.values)) == config


def test_local_paths_are_shortened_wherever_they_are() -> None:
    values: dict[str, Any] = {"source": {"path": "/home/ada/runs/x", "step": 3}, "notes": ["a/b", "/tmp"], "fps": 10.0}
    assert shorten(values) == {"source": {"path": "x", "step": 3}, "notes": ["a/b", "tmp"], "fps": 10.0}


def test_the_wish_of_a_training_run() -> None:
    policy = PolicyConfig(push_to_hub=True, repo_id="cubes", private=True, tags=("arm",), license="mit")
    config = wish_of(TrainConfig(policy=policy))
    assert config == PushConfig(repo_id="cubes", private=True, tags=("arm",), license="mit")
    assert wish_of(TrainConfig(policy=PolicyConfig(repo_id="cubes"))).tags == ()


def test_nothing_is_published_unless_asked_for(tmp_path: Path) -> None:
    publish_after_training(TrainConfig(output_dir=str(tmp_path / "nothing")))


def test_a_run_that_cannot_be_published_says_that_training_is_done(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(run / "no token"))
    policy = PolicyConfig(push_to_hub=True, repo_id="ada/cubes")
    with pytest.raises(HubError, match="training is done and saved") as caught:
        publish_after_training(TrainConfig(policy=policy, output_dir=str(run)), say=lambda line: None)
    assert f"pi05 push {run} --repo_id=ada/cubes" in caught.value.remedy


def test_settings_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--endpoint=hub", "--revision=-x", "--base_model=a b", "--dtype=int8", "--repo_id=a/b/c"):
        assert main(["push", "run", flag]) == 2
        assert flag.partition("=")[0] in capsys.readouterr().err
    assert main(["push"]) == 2
    assert "takes one run" in capsys.readouterr().err


def test_files_that_an_upload_may_remove() -> None:
    ours = ("model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "pi05.json")
    ours += ("adapter_config.json", "adapter_model.safetensors", "tokenizer/tokenizer.json", "tokenizer_config.json")
    ours += ("policy_postprocessor_step_0_unnormalizer_processor.safetensors", "config.json", "pi05_probe.safetensors")
    theirs = (
        "README.md",
        "LICENSE",
        "demo.mp4",
        ".gitattributes",
        "eval/config.json",
        "my_model.safetensors",
        "a.json",
    )
    assert all(OURS.fullmatch(name) for name in ours)
    assert not any(OURS.fullmatch(name) for name in theirs)
