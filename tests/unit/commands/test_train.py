"""From the words after `pi05 train` to a configuration that can run."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from pi05 import presets
from pi05.commands.earlier_run import run_config_file
from pi05.commands.train import TrainRequest, read_command, what_was_saved
from pi05.errors import CheckpointError, ConfigError, DataError, UserError
from pi05.train.config import PolicyConfig, TrainConfig
from pi05.train.resume import compare


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with `data`, `base` and a run in `run`."""
    monkeypatch.chdir(tmp_path)
    for name in ("data", "base", "run/checkpoints/000010"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "run/checkpoints/last").symlink_to("000010")
    policy = PolicyConfig(path="base", optimizer_lr=1e-4)
    stored = TrainConfig(policy=policy, steps=500, batch_size=7, output_dir="somewhere", resume=True, preset="real")
    plain = stored.to_dict()
    plain["dataset"]["root"] = "data"
    (tmp_path / "run/config.json").write_text(json.dumps(plain))
    return tmp_path


def read(*arguments: str) -> TrainRequest:
    return read_command(["--dataset.root=data", "--policy.path=base", *arguments])


def test_an_output_folder_that_cannot_be_made_is_told_before_anything_else(place: Path) -> None:
    (place / "taken").write_text("")
    for folder in ("taken", "taken/run"):
        with pytest.raises(ConfigError, match="nothing can be written to --output_dir") as refusal:
            read(f"--output_dir={folder}")
        assert refusal.value.found == f"{place / 'taken'} is a file"


def test_an_output_folder_without_permission(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != place)  # tests may run as root, who may all
    with pytest.raises(ConfigError, match="nothing can be written") as refusal:
        read("--output_dir=runs/new")
    assert refusal.value.found == f"no permission to write in {place}"


def test_an_output_folder_in_one_that_may_not_be_looked_into(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "closed").mkdir()
    stat = os.stat

    def closed(path: Any, **options: Any) -> os.stat_result:
        if "closed/" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", closed)  # tests may run as root, who may all
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != place / "closed")
    with pytest.raises(ConfigError, match="nothing can be written") as refusal:
        read("--output_dir=closed/runs/new")
    assert refusal.value.found == f"no permission to write in {place / 'closed'}"


def test_a_line_of_lerobot_train_works(place: Path) -> None:
    # The line of LeRobot's documentation for π₀.₅, with local folders.
    request = read_command(
        [
            "--dataset.repo_id=lerobot/libero",
            "--dataset.root=data",
            "--policy.type=pi05",
            "--policy.pretrained_path=base",
            '--policy.normalization_mapping={"ACTION": "MEAN_STD", "STATE": "MEAN_STD", "VISUAL": "IDENTITY"}',
            "--policy.n_action_steps=10",
            "--policy.empty_cameras=1",
            "--policy.freeze_vision_encoder=true",
            "--policy.train_expert_only=true",
            "--policy.gradient_checkpointing=true",
            "--policy.dtype=bfloat16",
            "--policy.device=cuda",
            "--policy.push_to_hub=false",
            "--output_dir=./outputs/pi05_libero_expert",
            "--job_name=pi05_libero_expert",
            "--batch_size=64",
            "--num_workers=8",
            "--steps=30000",
            "--save_freq=5000",
            "--seed=1000",
        ]
    )
    config = request.config
    assert config.policy.path == "base"
    assert config.policy.normalization_mapping["STATE"] == "MEAN_STD"
    assert (config.method, config.precision, config.seed) == ("expert", "mixed", 1000)
    assert config.run_dir == Path("outputs/pi05_libero_expert")
    assert not config.policy.push_to_hub
    assert len(request.notices) == 1


def test_lerobots_flags_of_the_hub(place: Path) -> None:
    wish = ["--policy.push_to_hub=true", "--policy.repo_id=me/cubes", "--policy.private=true", "--policy.tags=[arm]"]
    policy = read(*wish, "--policy.license=mit").config.policy
    assert (policy.push_to_hub, policy.repo_id, policy.private) == (True, "me/cubes", True)
    assert (policy.tags, policy.license) == (("arm",), "mit")
    nothing = read("--policy.repo_id=null", "--policy.private=null", "--policy.tags=null").config.policy
    assert (nothing.push_to_hub, nothing.repo_id, nothing.private, nothing.tags) == (False, None, None, None)
    with pytest.raises(ConfigError, match="repo_id"):
        read("--policy.push_to_hub")


def test_the_wish_to_publish_may_change_on_resume(place: Path) -> None:
    config = read_command(["--resume", "run", "--policy.push_to_hub", "--policy.repo_id=me/cubes"]).config
    assert compare(TrainConfig.from_dict(json.loads((place / "run/config.json").read_text())), config) == (
        "policy.push_to_hub False → True",
        "policy.repo_id None → me/cubes",
    )


def test_flags_override_the_preset(place: Path) -> None:
    config = read("--preset=real", "--policy.optimizer_lr=1e-3", "--steps=10").config
    assert (config.preset, config.policy.optimizer_lr, config.steps) == ("real", 1e-3, 10)
    assert config.policy.chunk_size == presets.real().policy.chunk_size


def test_the_tiny_preset_brings_its_base(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "TINY_BASE", place / "base")
    config = read_command(["--policy.type=pi05", "--preset", "tiny", "--dataset.root=data"]).config
    assert config.policy.path == str(place / "base")


def test_the_packaged_base_can_be_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "assets/pi05-tiny").mkdir(parents=True)
    monkeypatch.setattr(presets, "TINY_BASE", place / "assets/pi05-tiny")
    config = read_command(["--dataset.root=data", "--policy.path=pi05-tiny"]).config
    assert config.policy.path == str(place / "assets/pi05-tiny")


def test_a_run_gets_a_folder_with_name_and_time(place: Path) -> None:
    folder = read("--job_name=arm").config.output_dir
    assert folder is not None
    assert re.fullmatch(r"runs/arm-\d{8}-\d{6}", folder)
    assert read("--output_dir=x").config.output_dir == "x"


@pytest.mark.parametrize(
    "given", ["run", "run/config.json", "run/checkpoints/last", "run/checkpoints/000010/config.json"]
)
def test_an_earlier_run_is_found_by_any_of_its_paths(given: str, place: Path) -> None:
    assert run_config_file(given) == Path("run/config.json")


def test_an_earlier_configuration_starts_a_new_run(place: Path) -> None:
    config = read_command(["--config_path=run", "--steps=600"]).config
    assert (config.steps, config.batch_size, config.policy.optimizer_lr) == (600, 7, 1e-4)
    assert not config.resume
    assert str(config.output_dir).startswith("runs/real-")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--resume", "run"],
        ["--resume=run"],
        ["--resume", "run/checkpoints/last"],
        ["--resume=true", "--config_path=run/config.json"],
        ["--config_path=run", "--resume"],
        ["--resume=true", "--output_dir=run"],
        ["--resume", "true", "--output_dir=run"],
    ],
)
def test_resume_continues_in_the_folder_it_names(arguments: list[str], place: Path) -> None:
    config = read_command([*arguments, "--steps=600"]).config
    assert config.resume
    assert config.output_dir == "run"
    assert (config.steps, config.batch_size) == (600, 7)


@pytest.mark.parametrize("arguments", [["--resume", "runs/gone"], ["--resume=runs/gone"]])
def test_resume_of_a_run_that_is_not_there(arguments: list[str], place: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration at runs/gone") as refusal:
        read_command(arguments)
    assert "the run's folder" in refusal.value.remedy


@pytest.mark.parametrize(
    "arguments",
    [
        ["--policy.use_peft=true", "--peft.method_type=lora", "--peft.r=16", "--peft.target_modules=[q_proj,v_proj]"],
        ["--peft.method_type=LORA", "--peft.target_modules", "[q_proj,v_proj]"],
        ["--method=lora", '--peft.target_modules=["q_proj", "v_proj"]'],
        ["--peft.r=16", "--peft.target_modules=[q_proj, v_proj]", "--method", "lora"],
    ],
)
def test_lora_is_asked_for_in_any_of_its_ways(arguments: list[str], place: Path) -> None:
    config = read(*arguments).config
    assert config.method == "lora"
    assert config.peft.targets == ("q_proj", "v_proj")
    assert (config.peft.r, config.peft.alpha) == (16, 16.0)
    assert config.learning_rate == 2.5e-4


def test_lora_takes_ten_times_the_rate_of_a_preset_and_says_so(place: Path) -> None:
    request = read("--preset=sim", "--method=lora")
    assert (request.config.learning_rate, request.config.decay_lr) == (5e-4, 5e-4)
    assert "--policy.optimizer_lr=0.0005" in request.notices[0]
    given = read("--preset=sim", "--method=lora", "--policy.optimizer_lr=1e-4")
    assert given.config.learning_rate == 1e-4
    assert given.notices == ()
    assert read("--method=expert").config.learning_rate == 2.5e-5


def test_a_full_run_with_the_settings_of_a_lora_run_gets_its_rate_back(place: Path) -> None:
    (place / "run/config.json").write_text(read("--method=lora", "--output_dir=run").config.to_json())
    assert read_command(["--config_path=run"]).config.learning_rate == 2.5e-4
    config = read_command(["--config_path=run", "--method=full"]).config
    assert (config.learning_rate, config.method) == (2.5e-5, "full")


def test_a_rate_that_a_file_names_is_changed_with_the_method(place: Path) -> None:
    """Files of version 0.1 name every rate."""
    flags = ["--output_dir=run", "--policy.optimizer_lr=1e-4", "--policy.scheduler_decay_lr=1e-5"]
    (place / "run/config.json").write_text(read("--method=full", *flags).config.to_json())
    request = read_command(["--config_path=run", "--method=lora"])
    assert (request.config.learning_rate, request.config.decay_lr) == (1e-3, 1e-4)
    assert "--policy.optimizer_lr=0.001, --policy.scheduler_decay_lr=0.0001" in request.notices[0]


def test_a_lora_run_is_continued_as_it_is(place: Path) -> None:
    plain = read("--method=lora", "--output_dir=run").config.to_json()
    (place / "run/config.json").write_text(plain)
    request = read_command(["--resume", "run"])
    assert (request.config.method, request.config.learning_rate) == ("lora", 2.5e-4)
    assert request.notices == ()


@pytest.mark.parametrize(("method", "expert"), [("full", False), ("expert", True), ("lora", False)])
def test_the_method_replaces_that_of_an_earlier_run(method: str, expert: bool, place: Path) -> None:
    plain = read("--method=expert", "--output_dir=run").config.to_json()
    (place / "run/config.json").write_text(plain)
    policy = read_command(["--config_path=run", f"--method={method}"]).config.policy
    assert (policy.train_expert_only, policy.use_peft) == (expert, method == "lora")


@pytest.mark.parametrize(
    ("arguments", "one", "other"),
    [
        (["--method=lora", "--policy.use_peft=false"], "--method=lora", "--policy.use_peft=false"),
        (["--method=full", "--policy.use_peft"], "--method=full", "--policy.use_peft=true"),
        (["--method=full", "--policy.train_expert_only"], "--method=full", "--policy.train_expert_only=true"),
        (["--peft.r=8", "--policy.use_peft=false"], "--peft.r", "--policy.use_peft=false"),
        (["--peft.r=8", "--method=expert"], "--peft.r", "--method=expert"),
    ],
)
def test_contradictions_are_refused(arguments: list[str], one: str, other: str, place: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(*arguments)
    assert caught.value.problem == f"{one} and {other} contradict each other"


def test_lora_from_random_weights_is_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match="from_scratch cannot be True"):
        read_command(["--dataset.root=data", "--from_scratch", "--method=lora"])


def test_a_batch_size_replaces_the_other_kind(place: Path) -> None:
    config = read("--preset=sim", "--batch_size=4").config
    assert (config.global_batch_size, config.batch_size) == (None, 4)
    assert read("--preset=sim", "--global_batch_size=64").config.samples_per_step() == 64


def test_from_scratch_drops_the_presets_base(place: Path) -> None:
    config = read_command(["--preset=tiny", "--from_scratch", "--dataset.root=data"]).config
    assert config.policy.path is None


@pytest.mark.parametrize(
    ("arguments", "kind", "problem", "remedy"),
    [
        (["--policy.path=base"], DataError, "no data set was given", "--dataset.root=FOLDER"),
        (
            ["--policy.path=base", "--dataset.repo_id=me/data"],
            DataError,
            "me/data is not in reach",
            "pi05 fetch me/data --repo-type=dataset",
        ),
        (["--policy.path=base", "--dataset.root=nowhere"], DataError, "no data set at nowhere", "correct"),
        (["--dataset.root=data"], CheckpointError, "no base checkpoint was given", "--preset=tiny"),
        (
            ["--dataset.root=data", "--policy.path=no/base"],
            CheckpointError,
            "no/base is not in reach",
            "pi05 fetch no/base",
        ),
        (["--dataset.root=data", "--policy.path=./no"], CheckpointError, "at ./no", "correct --policy.path"),
        (["--resume=true"], ConfigError, "which run", "--resume RUN"),
        (["--resume", "data"], ConfigError, "no configuration at data/config.json", "run's folder"),
        (["--config_path=nowhere.json"], ConfigError, "no configuration at nowhere.json", "run's folder"),
        (["--config_path=run", "--preset=tiny"], ConfigError, "--preset cannot be combined", "drop --preset"),
        (["--batch_size=1", "--global_batch_size=1"], ConfigError, "both given", "--batch_size"),
        (["word"], ConfigError, "'word' is no flag", "--name=value"),
        (["--method=qlora", "--peft.quantize=none"], ConfigError, "contradict", "remove one"),
        (["--peft.quantize=nf4", "--peft.use_dora"], ConfigError, "--peft.use_dora", "DoRA"),
        (["--method=half"], ConfigError, "--method cannot be half", "full or frozen-vision or expert or lora or qlora"),
        (["--policy.type=act"], ConfigError, "π₀.₅ only", "pi05"),
    ],
)
def test_what_is_missing_is_named(
    arguments: list[str],
    kind: type[UserError],
    problem: str,
    remedy: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(kind) as caught:
        read_command(arguments)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be"),
        ('{"stepz": 3}', "stepz"),
        ('{"use_policy_training_preset": true}', "written by LeRobot"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(text: str, problem: str, place: Path) -> None:
    (place / "run/config.json").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        read_command(["--config_path=run"])


def test_a_resumed_run_needs_no_base_any_more(place: Path) -> None:
    (place / "base").rmdir()
    assert read_command(["--resume", "run"]).config.resume


def test_what_was_saved(place: Path) -> None:
    assert "pi05 train --resume run" in what_was_saved(Path("run"))
    assert "000010" in what_was_saved(Path("run"))
    assert what_was_saved(Path("data")) == "No checkpoint was saved in data."


def test_the_resolved_configuration_gives_the_same_run(place: Path) -> None:
    config: Any = read("--preset=real", "--steps=90", "--output_dir=again").config
    (place / "saved.json").write_text(config.to_json())
    assert read_command(["--config_path=saved.json", "--output_dir=again"]).config == config


def test_lerobots_degrees_of_parallelism(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = "--parallelism.dp_shard=4"
    with pytest.raises(ConfigError, match="this is one process"):
        read(shard)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert read(shard).config.parallel == "fsdp"
    assert read(shard, "--parallel=fsdp").config.parallel == "fsdp"
    with pytest.raises(ConfigError, match="contradict each other"):
        read(shard, "--parallel=ddp")
