"""What LeRobot's training flags mean here, where the name or the meaning is not the same.

A flag has one of three fates. It is another name of a setting of ours, or it asks for what happens anyway, and a notice
says so. Or it is refused, with the reason and with what to use instead. None is ignored. The list of LeRobot's flags is
that of its 0.4 to 0.6 (`configs/train.py`, `configs/default.py`, `policies/pi05/configuration_pi05.py`) with what its
release notes tell of 0.7, and those of `accelerate launch`, by which 0.6 started several GPUs. Degrees of parallelism,
which mean something together only, are in `lerobot_parallel.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pi05.errors import ConfigError
from pi05.settings.flags import Translation


@dataclass(frozen=True)
class Fate:
    """Why a flag is refused, what to use instead, and the values that ask for nothing else than what happens anyway."""

    reason: str
    instead: str
    harmless: tuple[str, ...] = ()


_LATER = "is not in this version yet"
_HUB = "a run is published once, when it is done"
_UPLOAD = "use --policy.push_to_hub, or for one checkpoint: pi05 push RUN/checkpoints/NNNNNN"
_NO_SIMULATOR = "training runs no simulator: it measures the action error on held-out episodes (--eval_steps)"
_EVALUATE = "remove it; afterwards run: pi05 eval --policy.path RUN --env tabletop"
_FROM_BASE = "the base checkpoint brings it"
_GUIDANCE = "guidance belongs to inference, and any policy can have it"
_GUIDED = "remove it; to measure it: pi05 eval --chunking=guided --delay=N; on a robot: pi05 serve --chunking=guided"
_MEMORY = f"observation memory {_LATER}"
_REMOVE = "remove it"
_PARALLEL = "torchrun --nproc-per-node=GPUS -m pi05 train --parallel=ddp, fsdp or hsdp"
_MACHINES = "torchrun --nnodes=MACHINES --nproc-per-node=GPUS --rdzv-endpoint=HOST:PORT -m pi05 train --parallel=hsdp"
_SPLIT = "several GPUs are started by torchrun, and how they share the work has one flag"
_LAUNCH = "it belongs to accelerate launch, and several GPUs are started by torchrun here"

FATES: dict[str, Fate] = {
    # the hub
    "save_checkpoint_to_hub": Fate(_HUB, _UPLOAD, ("false",)),
    "policy.pretrained_revision": Fate(
        "a revision stands behind the name", "write --policy.path=OWNER/NAME@REVISION", ("null", "main")
    ),
    "dataset.revision": Fate(
        "a revision stands behind the name", "write --dataset.repo_id=OWNER/NAME@REVISION", ("null", "main")
    ),
    # LoRA
    "peft": Fate("LoRA's settings have a flag each", "use --peft.r, --peft.target_modules and the like", ("null",)),
    "peft.alpha": Fate("it has another name", "use --peft.lora_alpha"),
    "peft.rank": Fate("it has another name", "use --peft.r"),
    "peft.dropout": Fate("it has another name", "use --peft.lora_dropout"),
    "peft.modules_to_save": Fate("it has another name", "use --peft.full_training_modules"),
    "peft.": Fate("LoRA has no such setting here", "pi05 train --help lists --peft.*; leave this one out"),
    # the policy
    "policy.compile_mode": Fate("torch.compile's default mode is used", "use --policy.compile_model", ("default",)),
    "policy.optimizer_fused": Fate("AdamW's implementation follows the device", _REMOVE),
    "policy.use_amp": Fate("the precision has one switch", "use --precision=mixed or --precision=float32", ("false",)),
    "policy.n_obs_steps": Fate("π₀.₅ sees one observation", _REMOVE, ("1",)),
    "policy.input_features": Fate("cameras and state are found in the data set", "use --rename_map, --drop_cameras"),
    "policy.output_features": Fate("the actions are found in the data set", _REMOVE),
    "policy.action_feature_names": Fate("the actions' names are found in the data set", _REMOVE),
    "policy.max_state_dim": Fate("the state goes into the prompt", "use --prompt_format=state32 for padding", ("32",)),
    "policy.max_action_dim": Fate(_FROM_BASE, _REMOVE, ("32",)),
    "policy.image_resolution": Fate(_FROM_BASE, _REMOVE, ("[224, 224]", "[224,224]")),
    "policy.paligemma_variant": Fate(_FROM_BASE, _REMOVE, ("gemma_2b",)),
    "policy.action_expert_variant": Fate(_FROM_BASE, _REMOVE, ("gemma_300m",)),
    "policy.num_inference_steps": Fate(
        "it belongs to evaluation", "give it to pi05 eval: --policy.num_inference_steps", ("10",)
    ),
    "policy.time_sampling_beta_alpha": Fate("the flow's times are those of π₀.₅", _REMOVE, ("1.5",)),
    "policy.time_sampling_beta_beta": Fate("the flow's times are those of π₀.₅", _REMOVE, ("1.0", "1")),
    "policy.time_sampling_scale": Fate("the flow's times are those of π₀.₅", _REMOVE, ("0.999",)),
    "policy.time_sampling_offset": Fate("the flow's times are those of π₀.₅", _REMOVE, ("0.001",)),
    "policy.min_period": Fate("the time embedding is that of π₀.₅", _REMOVE, ("0.004", "4e-3")),
    "policy.max_period": Fate("the time embedding is that of π₀.₅", _REMOVE, ("4.0", "4")),
    "policy.rtc_config": Fate(_GUIDANCE, _GUIDED, ("null",)),
    "policy.rtc_config.": Fate(_GUIDANCE, _GUIDED),
    "policy.rtc_training_max_delay": Fate(
        "it has another name, and LeRobot draws the largest delay itself too", "use --rtc_max_delay, one more", ("0",)
    ),
    "policy.use_visual_memory": Fate(_MEMORY, _REMOVE, ("false",)),
    "policy.use_proprioceptive_memory": Fate(_MEMORY, _REMOVE, ("false",)),
    "policy.memory_": Fate(_MEMORY, _REMOVE),
    # optimizer and schedule
    "use_policy_training_preset": Fate(
        "optimizer and schedule have one place each", "use --policy.optimizer_* and --policy.scheduler_*", ("true",)
    ),
    "optimizer.": Fate("π₀.₅ trains with AdamW", "use --policy.optimizer_lr and the other --policy.optimizer_*"),
    "scheduler.": Fate("π₀.₅ trains with warm-up and cosine", "use --policy.scheduler_*"),
    "ema.": Fate("the average has a constant decay, as openpi's", "use --ema.enable and --ema.decay"),
    # data
    "dataset.streaming": Fate(
        "training reads frames at random from a local folder", "use --dataset.root=FOLDER", ("false",)
    ),
    "dataset.repo_type": Fate("training reads a local folder", "use --dataset.root=FOLDER", ("dataset",)),
    "dataset.image_transforms.": Fate(
        "images are augmented as openpi does it, on by default", "use --augment=true or --augment=false"
    ),
    "dataset.use_imagenet_stats": Fate("π₀.₅ sees pixels scaled to [-1, 1]", _REMOVE, ("false",)),
    "dataset.return_uint8": Fate("images stay bytes until they are augmented", _REMOVE, ("true",)),
    "dataset.depth_output_unit": Fate("π₀.₅ sees no depth images", _REMOVE),
    "tolerance_s": Fate("frames are found by index, and timestamps that disagree are an error", _REMOVE),
    "prefetch_factor": Fate("batches are prepared ahead by --num_workers threads", "use --num_workers"),
    "persistent_workers": Fate("workers live as long as the run", _REMOVE, ("true",)),
    "dataloader_multiprocessing_context": Fate("workers are threads of this process", _REMOVE),
    "sample_weighting": Fate("samples have equal weight", _REMOVE, ("null",)),
    "sample_weighting.": Fate("samples have equal weight", _REMOVE),
    "use_rabc": Fate("samples have equal weight", _REMOVE, ("false",)),
    "rabc_": Fate("samples have equal weight", _REMOVE),
    # evaluation
    "env": Fate(_NO_SIMULATOR, _EVALUATE, ("null",)),
    "env.": Fate(_NO_SIMULATOR, _EVALUATE),
    "eval.": Fate(_NO_SIMULATOR, _EVALUATE),
    "eval_freq": Fate(_NO_SIMULATOR, _EVALUATE, ("0",)),
    "env_eval_freq": Fate(_NO_SIMULATOR, _EVALUATE, ("0",)),
    "max_eval_samples": Fate("held-out frames are limited by another flag", "use --eval_frames=N"),
    # the run
    "save_checkpoint": Fate("a run always saves", "use --save_freq and --keep_checkpoints", ("true",)),
    "checkpoint_format": Fate("checkpoints are safetensors", _REMOVE, ("safetensors",)),
    "wandb.disable_artifact": Fate(
        "checkpoints stay in the run folder and are not uploaded to WandB", "set it to true, or remove it", ("true",)
    ),
    "wandb.add_tags": Fate("WandB gets the configuration, not tags", _REMOVE, ("false",)),
    "trackio.entity": Fate("Trackio has no teams", "use --trackio.space_id=OWNER/NAME"),
    "trackio.mode": Fate("Trackio keeps a run on this machine, or in a space", "use --trackio.space_id, or remove it"),
    "trackio.disable_artifact": Fate(
        "checkpoints stay in the run folder and are not uploaded to Trackio", "set it to true, or remove it", ("true",)
    ),
    "trackio.": Fate("Trackio has no such setting here", "pi05 train --help lists --trackio.*; leave this one out"),
    # several GPUs: LeRobot 0.7, and accelerate's launcher before it
    "accelerator.gradient_accumulation.": Fate(_SPLIT, "use --gradient_accumulation_steps=N"),
    "accelerator.compile.": Fate(
        "each layer is compiled with torch.compile's defaults", "use --policy.compile_model", ("inductor", "null")
    ),
    "accelerator.compile.regional": Fate("each layer is compiled by itself", _REMOVE, ("true",)),
    "accelerator.fsdp.": Fate(_SPLIT, _PARALLEL),
    "accelerator.fsdp.cpu_offload": Fate(_SPLIT, "use --optimizer_offload, on one GPU or with ddp", ("false",)),
    "accelerator.ddp.": Fate(_SPLIT, _PARALLEL),
    "accelerator.": Fate(_SPLIT, _PARALLEL),
    "parallelism.context_parallel.": Fate("a sample is not split over GPUs", _REMOVE, ("1",)),
    "parallelism.cfg_parallel": Fate("π₀.₅ has no classifier-free guidance", _REMOVE, ("1",)),
    "parallelism.": Fate(_SPLIT, _PARALLEL),
    "num_processes": Fate(_LAUNCH, _PARALLEL),
    "num_machines": Fate(_LAUNCH, _MACHINES),
    "machine_rank": Fate(_LAUNCH, _MACHINES),
    "main_process_": Fate(_LAUNCH, _MACHINES),
    "multi_gpu": Fate(_LAUNCH, _PARALLEL),
    "use_fsdp": Fate(_LAUNCH, "use --parallel=fsdp with torchrun", ("false",)),
    "fsdp_": Fate(_LAUNCH, "use --parallel=fsdp with torchrun"),
    "use_deepspeed": Fate(_LAUNCH, "use --parallel=fsdp with torchrun", ("false",)),
    "dynamo_": Fate(_LAUNCH, "use --policy.compile_model"),
    "config_file": Fate(_LAUNCH, "give a run's configuration with --config_path, and GPUs with torchrun"),
    "job.": Fate("training runs on this machine", _REMOVE),
    "reward_model": Fate("this program trains π₀.₅ policies", _REMOVE, ("null",)),
    "reward_model.": Fate("this program trains π₀.₅ policies", _REMOVE),
}
"""By flag; a name that ends in a dot or an underscore stands for all flags that begin with it."""

_PLAIN_BFLOAT16 = ("bfloat16", "bf16", "bf16-true", "pure-bf16")
_STANDS_STILL = (
    "bfloat16 weights under AdamW stand still: 70 % of them do not move in a step at a learning rate of 2.5e-5, and "
    "96 % at 2.5e-6, the end of the schedule (benchmarks/optimizer_precision.py)"
)

_PRECISIONS = {
    "policy.dtype": {"bfloat16": "mixed", "float32": "float32"},
    "accelerator.mixed_precision": {"bf16": "mixed", "no": "float32"},
    "mixed_precision": {"bf16": "mixed", "no": "float32"},
}
"""LeRobot's flags for the precision → their value → ours."""
_OTHER_NAMES = {
    "policy.pretrained_path": "policy.path",
    "policy.tokenizer_name": "policy.tokenizer_path",
    "cudnn_deterministic": "deterministic",
    "accelerator.gradient_accumulation.steps": "gradient_accumulation_steps",
    "accelerator.compile.enabled": "policy.compile_model",
    "accelerator.activation_checkpointing.mode": "activation_checkpointing",
}
"""LeRobot's name → ours, of settings that mean the same."""
RENAMED = (*_PRECISIONS, *_OTHER_NAMES)

SPELLINGS: dict[str, str] = {
    **{name: f"another name of --{ours}" for name, ours in _OTHER_NAMES.items()},
    **{
        name: ", ".join(f"{value} means --precision={precision}" for value, precision in meant.items())
        for name, meant in _PRECISIONS.items()
    },
}
"""Flags of LeRobot's that set something here under another name, and what: `--help` lists them."""


def spellings() -> list[tuple[str, str]]:
    """Return what is understood besides the flags of `TrainConfig`: other names, then what happens anyway."""
    anyway = dict.fromkeys(
        f"--{name}={value.replace(' ', '')}" for name, fate in FATES.items() for value in fate.harmless
    )
    other = [(f"--{name}", meaning) for name, meaning in SPELLINGS.items()]
    return [*other, (" ".join(anyway), "ask for what happens anyway")]


def translate_training_flag(path: str, text: str | None) -> Translation | None:
    """Return what a flag that `TrainConfig` does not have means; None if LeRobot does not have it either."""
    if path in _OTHER_NAMES:
        return Translation(_OTHER_NAMES[path], text)
    if path in _PRECISIONS:
        precision = _choose(path, text, _PRECISIONS[path])
        notice = f"--{path}={text} is taken as the compute type: the weights stay float32 (--precision=mixed)"
        return Translation("precision", precision, notice if precision == "mixed" else None)
    fate = _find(path)
    if fate is None:
        return None
    value = "true" if text is None else text
    if value in fate.harmless or value.lower() in fate.harmless:
        return Translation(notice=f"--{path}={value} asks for what happens anyway: {fate.reason}")
    raise refuse_flag(path, text, fate)


def refuse_flag(path: str, text: str | None, fate: Fate) -> ConfigError:
    """Return the error for a flag that has no meaning here."""
    shown = f"--{path}" if text is None else f"--{path}={text}"
    return ConfigError(f"{shown} cannot be used: {fate.reason}", remedy=fate.instead)


def refuse_value(path: str, text: str) -> None:
    """Raise ConfigError for values of our own flags whose capability comes later."""
    if path == "precision" and text.lower() in _PLAIN_BFLOAT16:
        raise refuse_flag(path, text, Fate(_STANDS_STILL, "use --precision=mixed, or bf16-sr for half the memory"))
    if path == "peft.method_type" and text.lower() != "lora":
        reason = "the adapters here are low-rank ones, with rsLoRA and DoRA as variants"
        remedy = "use --peft.method_type=lora, with --peft.use_rslora or --peft.use_dora"
        raise refuse_flag(path, text, Fate(reason, remedy))
    if path == "policy.type" and text != "pi05":
        raise refuse_flag(path, text, Fate("this program trains π₀.₅ only", "use --policy.type=pi05, or LeRobot"))
    if path == "dataset.video_backend" and text != "pyav":
        reason = "videos are decoded once, by PyAV, into a cache of frames"
        raise refuse_flag(path, text, Fate(reason, "remove the flag: no other decoder has to be installed"))


def _choose(path: str, text: str | None, meanings: dict[str, str]) -> str:
    if text not in meanings:
        allowed = " or ".join(meanings)
        raise ConfigError(f"--{path} cannot be {text}", wanted=allowed, found=repr(text), remedy=f"use {allowed}")
    return meanings[text]


def _find(path: str) -> Fate | None:
    if path in FATES:
        return FATES[path]
    prefixes = [name for name in FATES if name[-1] in "._" and path.startswith(name)]
    return FATES[max(prefixes, key=len)] if prefixes else None
