"""LeRobot's train_config.json, of both generations: each field understood, passed over, or refused with the reason.

`golden/lerobot_checkpoints/*/train_config.json` are of 0.6.2-dev, `golden/lerobot_configs/train_config_0.6.1.json` of
0.6.1, both as LeRobot wrote them. A file of 0.7 is the former with the section that its release notes tell of: 0.7
itself could not be installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pi05.errors import ConfigError
from pi05.settings.lerobot_parallel import Processes
from pi05.settings.lerobot_run import is_lerobot_run, read_lerobot_run
from pi05.settings.schema import walk
from pi05.train.config import TrainConfig

GOLDEN = Path(__file__).parents[2] / "golden"
FILES = {
    "0.6.1": GOLDEN / "lerobot_configs/train_config_0.6.1.json",
    "0.6.2-dev": GOLDEN / "lerobot_checkpoints/full/train_config.json",
    "0.7": GOLDEN / "lerobot_checkpoints/full/train_config.json",
}
KNOWN = {setting.path for setting in walk(TrainConfig)}


def written(version: str = "0.7", **changes: Any) -> dict[str, Any]:
    """Return a run as LeRobot wrote it, with some fields changed (section__field)."""
    plain: dict[str, Any] = json.loads(FILES[version].read_text())
    if version == "0.7":
        del plain["wandb"]
        plain["trackio"] = {"enable": False, "project": "lerobot", "space_id": None, "notes": None, "run_id": None}
        plain["trackio"] |= {"disable_artifact": True}
    for path, value in changes.items():
        place = plain
        *sections, name = path.split("__")
        for section in sections:
            place = place[section]
        place[name] = value
    return plain


def read(plain: dict[str, Any], processes: Processes | None = None, **given: Any) -> dict[str, Any]:
    decided = {path.replace("__", "."): value for path, value in given.items()}
    return read_lerobot_run(plain, "train_config.json", KNOWN, decided, processes)[0]


def refused(plain: dict[str, Any], **given: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read(plain, **given)
    assert "was written by LeRobot and asks for what does not exist here" in caught.value.problem
    assert caught.value.found is not None
    return caught.value.found


@pytest.mark.parametrize("version", FILES)
def test_a_file_as_lerobot_writes_it_is_understood_whole(version: str) -> None:
    plain = written(version)
    values = read(plain)
    assert is_lerobot_run(plain)
    for path in ("seed", "steps", "batch_size", "num_workers", "log_freq", "save_freq", "eval_steps"):
        assert values[path] == plain[path], path
    for name in ("optimizer_lr", "optimizer_weight_decay", "chunk_size", "n_action_steps", "normalization_mapping"):
        assert values[f"policy.{name}"] == plain["policy"][name], name
    assert values["policy.path"] == plain["policy"]["pretrained_path"]
    assert values["dataset.repo_id"] == plain["dataset"]["repo_id"]
    assert values["precision"] == "float32"
    assert values["augment"] is False
    assert not {"output_dir", "resume", "policy.input_features"} & values.keys()


def test_the_two_generations_describe_the_same_run() -> None:
    old, new = read(written("0.6.2-dev")), read(written("0.7"))
    assert {path: value for path, value in old.items() if not path.startswith("wandb.")} == {
        path: value for path, value in new.items() if not path.startswith("trackio.")
    }


def test_trackers_of_both_generations() -> None:
    old = read(written("0.6.2-dev", wandb__enable=True, wandb__mode="offline", wandb__run_id="x", wandb__entity="lab"))
    assert {k: v for k, v in old.items() if k.startswith("wandb.")} == {
        "wandb.enable": True, "wandb.project": "lerobot", "wandb.mode": "offline", "wandb.entity": "lab",
    }  # fmt: skip
    new = read(written("0.7", trackio__enable=True, trackio__space_id="lab/metrics", trackio__run_id="x"))
    assert {k: v for k, v in new.items() if k.startswith("trackio.")} == {
        "trackio.enable": True, "trackio.project": "lerobot", "trackio.space_id": "lab/metrics",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "mixed", "precision"),
    [("float32", "no", "float32"), ("bfloat16", "no", "mixed"), ("float32", "bf16", "mixed")],
)
def test_precision_of_both_generations(dtype: str, mixed: str, precision: str) -> None:
    plain = written(policy__dtype=dtype, accelerator__mixed_precision=mixed)
    assert read(plain)["precision"] == precision


def test_how_several_gpus_share_the_work() -> None:
    plain = written(parallelism__dp_shard=4, accelerator__gradient_accumulation__steps=2)
    values = read(plain, Processes(4, 4))
    assert (values["parallel"], values["gradient_accumulation_steps"]) == ("fsdp", 2)
    with pytest.raises(ConfigError, match="asks for 4 GPUs, and this is one process"):
        read(plain, Processes(1, 1))
    assert "parallel" not in read(plain, Processes(1, 1), parallel="auto")


def test_the_schedule_is_fitted_to_the_run_as_lerobot_does() -> None:
    plain = written(steps=3_000)
    values = read(plain)
    assert (values["policy.scheduler_warmup_steps"], values["policy.scheduler_decay_steps"]) == (100, 3_000)
    values = read(plain, steps=40_000)
    assert (values["policy.scheduler_warmup_steps"], values["policy.scheduler_decay_steps"]) == (1_000, 30_000)


def test_an_optimizer_of_its_own_is_that_of_the_policy_here() -> None:
    plain = written(use_policy_training_preset=False, optimizer__lr=1e-4, scheduler__num_warmup_steps=7, steps=50_000)
    plain["scheduler"]["peak_lr"] = 1e-4
    values = read(plain)
    assert (values["policy.optimizer_lr"], values["policy.scheduler_warmup_steps"]) == (1e-4, 7)
    plain["optimizer"]["type"] = "sgd"
    assert "optimizer.type = sgd: π₀.₅ trains with adamw" in refused(plain)


def test_adapters_keep_the_defaults_of_lerobot_and_peft() -> None:
    plain = written(policy__use_peft=True)
    expected = {
        "policy.use_peft": True, "peft.r": 16, "peft.lora_alpha": 8, "peft.target_modules": "lerobot",
        "peft.full_training_modules": [], "peft.init_type": "default", "peft.method_type": "lora",
    }  # fmt: skip
    assert expected.items() <= read(plain).items()
    plain["peft"] = {
        "r": 4,
        "lora_alpha": 4,
        "target_modules": ["q_proj", "v_proj"],
        "full_training_modules": ["dense"],
    }
    values = read(plain)
    assert (values["peft.r"], values["peft.lora_alpha"]) == (4, 4)
    assert values["peft.target_modules"] == '["q_proj", "v_proj"]'
    assert values["peft.full_training_modules"] == ["dense"]


def test_few_checkpoints_and_few_held_out_frames() -> None:
    values = read(written(save_freq=0, max_eval_samples=64))
    assert (values["save_freq"], values["eval_frames"]) == (8, 64)


@pytest.mark.parametrize(
    ("changes", "said", "decided"),
    [
        ({"ema__enable": True}, "ema.decay = null: the average has a constant decay here", {"ema__decay": 0.99}),
        (
            {"dataset__image_transforms__enable": True},
            "dataset.image_transforms.enable = true: images are augmented as openpi does it",
            {"augment": True},
        ),
        ({"accelerator__mixed_precision": "fp16"}, "accelerator.mixed_precision = fp16", {"precision": "mixed"}),
        ({"policy__rtc_config": {"enabled": True}}, "policy.rtc_config = ", None),
        ({"dataset__streaming": True}, "dataset.streaming = true: training reads frames at random", None),
        ({"env": {"type": "libero"}}, "env = ", None),
        ({"policy__use_visual_memory": True}, "policy.use_visual_memory = true: observation memory", None),
        ({"job__target": "a100-large"}, "job.target = a100-large", None),
        ({"tolerance_s": 1.0}, "tolerance_s = 1.0", None),
        ({"parallelism__cfg_parallel": 2}, "parallelism.cfg_parallel = 2", None),
        ({"something_new": 1}, "something_new = 1: no version that this program knows has it", None),
    ],
)  # fmt: skip
def test_what_does_not_exist_here_is_refused_by_field(
    changes: dict[str, Any], said: str, decided: dict[str, Any] | None
) -> None:
    plain = written()
    plain |= {name: changes.pop(name) for name in [*changes] if "__" not in name}
    for path, value in changes.items():
        place = plain
        *sections, name = path.split("__")
        for section in sections:
            place = place[section]
        place[name] = value
    assert said in refused(plain)
    if decided is not None:  # a flag of the command line settles it
        read(plain, **decided)


def test_all_that_is_refused_is_named_at_once() -> None:
    found = refused(written(dataset__streaming=True, save_checkpoint=False))
    assert found.startswith("2 of its fields")


@pytest.mark.parametrize("policy", [None, {"type": "act"}])
def test_another_policy_is_refused(policy: Any) -> None:
    plain = written() | {"policy": policy}
    with pytest.raises(ConfigError, match="for another policy"):
        read(plain)


def test_every_field_makes_a_configuration() -> None:
    from pi05.settings.flags import overlay

    for version in FILES:
        plain = written(version)
        config = TrainConfig.from_dict(overlay(TrainConfig().to_dict(), read(plain)))
        assert config.learning_rate == plain["policy"]["optimizer_lr"]
