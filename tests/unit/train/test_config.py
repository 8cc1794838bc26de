"""A training run's settings: round trips, limits, and everything that is derived."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi05.commands.train import METHOD
from pi05.errors import ConfigError
from pi05.settings.schema import describe, walk
from pi05.train.config import PolicyConfig, TrainConfig

counts = st.integers(min_value=1, max_value=10**6)
rates = st.floats(min_value=1e-12, max_value=1.0)
texts = st.text(min_size=1)

policies = {
    "path": st.none() | texts,
    "device": st.sampled_from(["auto", "cpu", "cuda", "cuda:3"]),
    "optimizer_lr": st.none() | rates,
    "optimizer_betas": st.lists(st.floats(0, 0.999), min_size=2, max_size=2),
    "chunk_size": st.none() | counts,
    "relative_exclude_joints": st.lists(texts, max_size=3),
    "train_expert_only": st.booleans(),
}
settings = {
    "policy": st.fixed_dictionaries({}, optional=policies),
    "ema": st.fixed_dictionaries({}, optional={"enable": st.booleans(), "decay": st.floats(0.01, 0.99)}),
    "wandb": st.fixed_dictionaries({}, optional={"enable": st.booleans(), "notes": st.none() | texts}),
    "steps": counts,
    "seed": st.integers(0, 2**62),
    "rename_map": st.dictionaries(texts, texts, max_size=3),
    "drop_cameras": st.lists(texts, max_size=3),
    "output_dir": st.none() | texts,
    "threads": st.none() | counts,
}


@given(st.fixed_dictionaries({}, optional=settings))
def test_a_configuration_survives_its_file(values: dict[str, Any]) -> None:
    config = TrainConfig.from_dict(values)
    plain = json.loads(config.to_json())
    assert TrainConfig.from_dict(plain) == config
    for name, value in values.items():
        assert plain[name] == value if not isinstance(value, dict) else plain[name].items() >= value.items()


def test_the_defaults_are_those_of_openpi_and_lerobot() -> None:
    config = TrainConfig()
    policy = config.policy
    assert (config.learning_rate, config.decay_lr) == (2.5e-5, 2.5e-6)
    assert (config.warmup_steps, config.decay_steps, config.steps) == (1_000, 30_000, 30_000)
    assert (policy.optimizer_betas, policy.optimizer_eps) == ((0.9, 0.95), 1e-8)
    assert (policy.optimizer_weight_decay, policy.optimizer_grad_clip_norm) == (1e-10, 1.0)
    assert (config.ema.enable, config.ema.decay) == (False, 0.99)
    assert (config.batch_size, config.dataset.eval_split) == (32, 0.05)
    assert (config.loss, config.stats, config.augment) == ("masked", "recompute", True)
    assert (policy.gradient_checkpointing, config.recomputed, config.flow_samples) == (False, 0.0, 1)
    assert (config.precision, config.optimizer_state, config.parallel) == ("mixed", "float32", "auto")
    savings = (config.gradient_release, config.optimizer_offload, config.activation_offload, config.cache_prefix)
    assert savings == (False,) * 4
    assert (config.prompt_format, config.resize) == (None, "auto"), "as the base has it"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("gradient_accumulation_steps", 0),
        ("log_freq", 0),
        ("save_freq", 0),
        ("keep_checkpoints", 0),
        ("eval_frames", 0),
        ("threads", 0),
        ("global_batch_size", 0),
        ("flow_samples", 0),
        ("optimizer_state", "16bit"),
        ("parallel", "tensor"),
        ("seed", -1),
        ("num_workers", -1),
        ("eval_steps", -1),
        ("preset", "huge"),
        ("loss", "l2"),
        ("precision", "float16"),
        ("policy.type", "smolvla"),
        ("policy.device", "gpu"),
        ("policy.device", "cuda:x"),
        ("policy.optimizer_lr", 0.0),
        ("policy.optimizer_eps", 0.0),
        ("policy.optimizer_grad_clip_norm", 0.0),
        ("policy.optimizer_weight_decay", -1.0),
        ("policy.optimizer_betas", [0.9, 1.0]),
        ("policy.scheduler_warmup_steps", -1),
        ("policy.scheduler_decay_steps", 0),
        ("policy.scheduler_decay_lr", -1e-9),
        ("policy.chunk_size", 0),
        ("policy.n_action_steps", 0),
        ("policy.tokenizer_max_length", 0),
        ("policy.empty_cameras", 4),
        ("policy.normalization_mapping", {"STATE": "QUANTILES"}),
        ("policy.normalization_mapping", {"STATE": "QUANTILE", "ACTION": "QUANTILES"}),
        ("policy.normalization_mapping", {"STATE": "QUANTILES", "ACTION": "QUANTILES", "VISUAL": "MEAN_STD"}),
        ("policy.normalization_mapping", {"STATE": "QUANTILES", "ACTION": "QUANTILES", "DEPTH": "IDENTITY"}),
        ("ema.decay", 1.0),
        ("ema.decay", 0.0),
        ("wandb.mode", "later"),
        ("dataset.eval_split", 1.0),
        ("dataset.eval_split", -0.1),
        ("dataset.episodes", []),
        ("dataset.episodes", [1, 1]),
        ("dataset.episodes", [-1]),
        ("dataset.exclude_episodes", [-1]),
        ("dataset.video_backend", "torchcodec"),
    ],
)
def test_an_impossible_value_names_flag_value_allowed_and_remedy(path: str, value: Any) -> None:
    group, _, name = path.rpartition(".")
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_dict({group: {name: value}} if group else {name: value})
    assert caught.value.problem.startswith(f"--{path} cannot be ")
    assert caught.value.found
    assert caught.value.wanted
    assert caught.value.remedy


def test_more_actions_than_a_chunk_holds_cannot_be_executed() -> None:
    with pytest.raises(ConfigError, match="n_action_steps cannot be 11"):
        PolicyConfig(chunk_size=10, n_action_steps=11)
    assert PolicyConfig(chunk_size=10, n_action_steps=10).steps_to_execute(10) == 10
    with pytest.raises(ConfigError, match="n_action_steps cannot be 11"):
        PolicyConfig(n_action_steps=11).steps_to_execute(10)


@pytest.mark.parametrize(("horizon", "executed"), [(50, 25), (10, 5), (1, 1)])
def test_half_of_a_chunk_is_executed_by_default(horizon: int, executed: int) -> None:
    assert PolicyConfig().steps_to_execute(horizon) == executed


def test_derived_values_follow_their_sources() -> None:
    config = TrainConfig(steps=3_000)
    assert (config.decay_steps, config.warmup_steps) == (3_000, 100)
    assert replace(config, steps=100_000).decay_steps == 30_000
    faster = replace(config, policy=PolicyConfig(optimizer_lr=1e-3))
    assert faster.decay_lr == pytest.approx(1e-4)
    given_all = PolicyConfig(scheduler_warmup_steps=7, scheduler_decay_steps=90, scheduler_decay_lr=0.0)
    fixed = replace(config, policy=given_all)
    assert (fixed.warmup_steps, fixed.decay_steps, fixed.decay_lr) == (7, 90, 0.0)


@pytest.mark.parametrize(("warmup", "decay", "steps"), [(100, 100, 200), (200, 1_000, 200)])
def test_a_warmup_that_never_ends_is_refused(warmup: int, decay: int, steps: int) -> None:
    policy = PolicyConfig(scheduler_warmup_steps=warmup, scheduler_decay_steps=decay)
    with pytest.raises(ConfigError, match=f"scheduler_warmup_steps={warmup} is as long as"):
        TrainConfig(policy=policy, steps=steps)


@given(counts)
def test_the_default_warmup_fits_every_run(steps: int) -> None:
    config = TrainConfig(steps=steps)
    assert 0 <= config.warmup_steps < config.decay_steps


def test_batch_sizes_per_gpu_and_in_total() -> None:
    per_gpu = TrainConfig(batch_size=4, gradient_accumulation_steps=2)
    assert (per_gpu.micro_batch_size(8), per_gpu.samples_per_step(8)) == (4, 64)
    total = TrainConfig(global_batch_size=64, gradient_accumulation_steps=2)
    assert (total.micro_batch_size(8), total.samples_per_step(8)) == (4, 64)
    with pytest.raises(ConfigError, match="global_batch_size cannot be 64"):
        total.micro_batch_size(3)
    with pytest.raises(ConfigError, match="global_batch_size cannot be 65"):
        TrainConfig(global_batch_size=65, gradient_accumulation_steps=2)


def test_a_run_from_scratch_has_no_base() -> None:
    with pytest.raises(ConfigError, match="from_scratch"):
        TrainConfig(from_scratch=True, policy=PolicyConfig(path="base"))
    with pytest.raises(ConfigError, match="stats"):
        TrainConfig(from_scratch=True, stats="checkpoint")


def test_ways_to_save_memory_that_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="gradient_release") as refusal:
        TrainConfig(gradient_release=True, gradient_accumulation_steps=2)
    assert "cannot wait for those of the next pass" in refusal.value.remedy
    with pytest.raises(ConfigError, match="precision") as refusal:
        TrainConfig(precision="bf16-sr", policy=PolicyConfig(use_peft=True))
    assert "holds the frozen base in bfloat16 already" in refusal.value.remedy


def test_help_explains_every_precision() -> None:
    (setting,) = (setting for setting in walk(TrainConfig) if setting.path == "precision")
    for word in ("mixed: ", "bf16-sr: ", "float32: ", "refused: 70 %"):
        assert word in setting.help


def test_the_run_folder() -> None:
    assert TrainConfig(output_dir="x/y").run_dir == Path("x/y")
    assert TrainConfig(preset="real").run_dir == Path("runs/real")
    assert TrainConfig(preset="real", job_name="arm").name == "arm"


def test_every_setting_is_explained_in_a_sentence_or_two() -> None:
    for setting in walk(TrainConfig):
        sentence, *choices = setting.help.split("\n")
        assert re.match(r"[A-Z`].{8,}[.]$", sentence), setting.path
        assert all(re.match(r"- [\w -]+: .{8,}[.]$", choice) for choice in choices), setting.path


def test_where_choices_are_explained_one_by_one_all_are() -> None:
    explained = 0
    for setting in (*walk(TrainConfig), METHOD):
        names = [line.partition(": ")[0].removeprefix("- ") for line in setting.help.split("\n")[1:]]
        if names and setting.path != "activation_checkpointing":
            assert " or ".join(names) == describe(setting.kind), setting.path
            explained += 1
    assert explained >= 8
