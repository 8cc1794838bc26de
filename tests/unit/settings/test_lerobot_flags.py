"""LeRobot's flags: translated, taken as said, or refused with the reason; never ignored."""

from __future__ import annotations

import pytest

from pi05 import cli
from pi05.errors import ConfigError
from pi05.settings.flags import parse_flags
from pi05.settings.lerobot_flags import FATES, RENAMED, SPELLINGS, refuse_value, spellings, translate_training_flag
from pi05.settings.schema import walk
from pi05.train.config import TrainConfig

# Every flag of lerobot-train 0.4 to 0.7 and of accelerate launch that a π₀.₅ run can carry, with a value that asks for
# something.
LEROBOT_FLAGS = """
policy.use_amp=true policy.pretrained_revision=abc policy.paligemma_variant=gemma_300m
policy.action_expert_variant=gemma_2b policy.n_obs_steps=2 policy.max_state_dim=16 policy.max_action_dim=16
policy.num_inference_steps=5 policy.time_sampling_beta_alpha=2 policy.time_sampling_beta_beta=2
policy.time_sampling_scale=1 policy.time_sampling_offset=0 policy.min_period=1 policy.max_period=1
policy.rtc_config.enabled=true policy.rtc_training_max_delay=2 policy.image_resolution=[112,112]
policy.compile_mode=max-autotune policy.optimizer_fused=true policy.use_visual_memory=true
policy.use_proprioceptive_memory=true policy.memory_frames=6 policy.memory_stride=30
policy.input_features={} policy.output_features={} policy.action_feature_names=[a]
dataset.repo_type=bucket dataset.revision=v3.0 dataset.streaming=true dataset.use_imagenet_stats=true
policy.pretrained_revision=v2
dataset.return_uint8=false dataset.depth_output_unit=mm dataset.image_transforms.enable=true
dataset.image_transforms.max_num_transforms=3 env.type=libero env.task=libero_object eval.n_episodes=10
eval.batch_size=10 eval_freq=100 env_eval_freq=100 max_eval_samples=10 tolerance_s=0.1 save_checkpoint=false
checkpoint_format=dcp prefetch_factor=2 persistent_workers=false
dataloader_multiprocessing_context=fork use_policy_training_preset=false optimizer.type=adamw optimizer.lr=1
scheduler.type=cosine scheduler.peak_lr=1 peft.bias=all peft.alpha=4 peft.rank=8 peft.dropout=0.1
peft.modules_to_save=[a] ema.power=0.7
ema.use_for_eval=false wandb.add_tags=true wandb.disable_artifact=false sample_weighting.type=rabc use_rabc=true
rabc_kappa=1 reward_model.type=x job.target=a100 save_checkpoint_to_hub=true
trackio.entity=lab trackio.mode=offline trackio.disable_artifact=false trackio.add_tags=true
parallelism.context_parallel.ring_degree=2 parallelism.cfg_parallel=2 parallelism.tensor=2
accelerator.fsdp.cpu_offload=true accelerator.fsdp.min_num_params=1 accelerator.ddp.static_graph=true
accelerator.compile.mode=max-autotune accelerator.compile.regional=false accelerator.dispatch=true
accelerator.gradient_accumulation.sync=true num_processes=2 num_machines=2 machine_rank=0 main_process_port=1
multi_gpu=true use_fsdp=true fsdp_sharding_strategy=1 use_deepspeed=true dynamo_backend=inductor config_file=x.yaml
""".split()  # noqa: SIM905


@pytest.mark.parametrize("flag", LEROBOT_FLAGS)
def test_a_flag_without_meaning_here_is_refused_with_reason_and_remedy(flag: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_flags(TrainConfig, [f"--{flag}"], foreign=translate_training_flag)
    assert caught.value.problem.startswith(f"--{flag} cannot be used: ")
    assert caught.value.remedy


def test_the_list_above_reaches_every_fate() -> None:
    for name in FATES:
        covered = any(
            flag.split("=")[0] == name or (name[-1] in "._" and flag.startswith(name)) for flag in LEROBOT_FLAGS
        )
        assert covered or name in ("peft", "env", "policy.rtc_config", "sample_weighting", "reward_model"), name


def test_no_flag_of_ours_is_refused() -> None:
    assert not {setting.path for setting in walk(TrainConfig)} & set(FATES)


@pytest.mark.parametrize(
    "flag",
    [
        "save_checkpoint_to_hub=false",
        "save_checkpoint_to_hub=False",
        "peft=null",
        "dataset.streaming=false",
        "use_policy_training_preset=true",
        "use_policy_training_preset",
        "save_checkpoint=true",
        "eval_freq=0",
        "wandb.disable_artifact=true",
        "policy.max_action_dim=32",
        "env=null",
    ],
)
def test_a_flag_that_asks_for_what_happens_anyway_is_taken_and_said(flag: str) -> None:
    flags = parse_flags(TrainConfig, [f"--{flag}"], foreign=translate_training_flag)
    assert flags.values == {}
    assert len(flags.notices) == 1
    assert "asks for what happens anyway" in flags.notices[0]


def test_other_names_for_our_settings() -> None:
    arguments = ["--policy.pretrained_path=base", "--policy.dtype=bfloat16"]
    flags = parse_flags(TrainConfig, arguments, foreign=translate_training_flag)
    assert flags.values == {"policy.path": "base", "precision": "mixed"}
    assert flags.notices == [
        "--policy.dtype=bfloat16 is taken as the compute type: the weights stay float32 (--precision=mixed)"
    ]


@pytest.mark.parametrize(
    ("flag", "path", "value"),
    [
        ("accelerator.mixed_precision=bf16", "precision", "mixed"),
        ("accelerator.mixed_precision=no", "precision", "float32"),
        ("mixed_precision=bf16", "precision", "mixed"),
        ("accelerator.gradient_accumulation.steps=2", "gradient_accumulation_steps", 2),
        ("accelerator.compile.enabled=true", "policy.compile_model", True),
        ("accelerator.activation_checkpointing.mode=full", "activation_checkpointing", "full"),
        ("cudnn_deterministic=true", "deterministic", True),
    ],
)
def test_names_that_lerobot_moved(flag: str, path: str, value: object) -> None:
    assert parse_flags(TrainConfig, [f"--{flag}"], foreign=translate_training_flag).values == {path: value}


def test_float32_needs_no_notice() -> None:
    flags = parse_flags(TrainConfig, ["--policy.dtype=float32"], foreign=translate_training_flag)
    assert (flags.values, flags.notices) == ({"precision": "float32"}, [])


@pytest.mark.parametrize("flag", ["policy.dtype=float16", "policy.dtype", "accelerator.mixed_precision=fp16"])
def test_a_wrong_value_for_another_name_is_refused(flag: str) -> None:
    with pytest.raises(ConfigError, match="cannot be"):
        parse_flags(TrainConfig, [f"--{flag}"], foreign=translate_training_flag)


def test_contradicting_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="contradict each other"):
        parse_flags(TrainConfig, ["--policy.dtype=bfloat16", "--precision=float32"], foreign=translate_training_flag)


@pytest.mark.parametrize(
    "flag",
    [
        *("precision=bfloat16", "precision=bf16", "policy.type=smolvla", "dataset.video_backend=torchcodec"),
        "peft.method_type=LOHA",
    ],
)
def test_values_whose_capability_is_missing_are_refused_with_the_reason(flag: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used: "):
        parse_flags(
            TrainConfig,
            [f"--{flag}"],
            foreign=translate_training_flag,
            refuse_value=refuse_value,
            extra={"method": str},
        )


@pytest.mark.parametrize("flag", ["prefetch_factor", "dataloader_multiprocessing_context"])
def test_workers_are_called_the_threads_that_they_are(flag: str) -> None:
    with pytest.raises(ConfigError) as error:
        translate_training_flag(flag, "spawn")
    assert "threads" in error.value.problem
    assert "processes" not in str(error.value)


def test_a_flag_that_nobody_knows_stays_unknown() -> None:
    with pytest.raises(ConfigError, match=r"there is no flag --policy\.bogus"):
        parse_flags(TrainConfig, ["--policy.bogus=1"], foreign=translate_training_flag)


@pytest.mark.parametrize(
    ("flag", "remedy"),
    [
        ("accelerator.compile.mode=x", "use --policy.compile_model"),
        ("accelerator.fsdp.cpu_offload=true", "use --optimizer_offload, on one GPU or with ddp"),
        (
            "accelerator.fsdp.wrap_modules=x",
            "torchrun --nproc-per-node=GPUS -m pi05 train --parallel=ddp, fsdp or hsdp",
        ),
    ],
)
def test_the_most_specific_advice_is_given(flag: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        translate_training_flag(*flag.split("="))
    assert caught.value.remedy == remedy


def test_every_other_name_is_in_the_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in ("train", "plan"):
        assert cli.main([command, "--help"]) == 0
        printed = capsys.readouterr().out
        words = printed.split()
        assert {f"--{name}" for name in SPELLINGS} <= set(words)
        assert "another name of --policy.path" in printed
        for spelling, _ in spellings()[len(SPELLINGS) :]:
            assert set(spelling.split()) <= set(words)


def test_what_the_help_lists_is_understood() -> None:
    for name in SPELLINGS:
        precisions = {"policy.dtype": "float32", "mixed_precision": "no", "accelerator.mixed_precision": "no"}
        given = precisions.get(name, "some/where")
        meaning = translate_training_flag(name, given)
        assert meaning is not None
        assert meaning.path is not None
    for spelling in spellings()[-1][0].split():
        name, _, value = spelling.removeprefix("--").partition("=")
        meaning = translate_training_flag(name, value)
        assert meaning is not None
        assert "happens anyway" in (meaning.notice or "")


def test_no_other_name_is_missing_from_the_help() -> None:
    assert set(SPELLINGS) == set(RENAMED)
