"""The `train_config.json` of a LeRobot run, 0.6 or 0.7, as settings of ours: the run that it describes, trained here.

Every field has one of four fates. It is a setting of ours (LeRobot's default included, since ours may differ). It is a
record of what happened, or a matter of speed only, and is passed over. It is LeRobot's default of something that does
not exist here. Or it asks for something that does not exist here, and is refused with the reason; all such at once. A
flag of the command line overrides the file, and so also decides what would be refused. Facts: LeRobot
`configs/train.py`, `configs/default.py`, `optim/schedulers.py`; of 0.7 the release notes.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from typing import Any

from pi05.errors import ConfigError
from pi05.settings.lerobot_flags import refuse_value, translate_training_flag
from pi05.settings.lerobot_parallel import REPLICATE, SHARD, Degrees, Processes

MARK = "use_policy_training_preset"
"""The field that LeRobot's runs of all versions have, and ours have not."""

RECORDS = (
    *("output_dir", "resume", "checkpoint_path", "wandb.run_id", "trackio.run_id"),
    *("policy.input_features", "policy.output_features", "policy.action_feature_names"),
)
"""Facts about LeRobot's run: where it lay, its tracker's id, and what the data set told it."""
WITHOUT_EFFECT = (
    *("prefetch_factor", "persistent_workers", "dataloader_multiprocessing_context"),
    *("cudnn_deterministic", "dataset.video_backend", "policy.optimizer_fused", "policy.compile_mode"),
    *("wandb.add_tags", "wandb.disable_artifact", "trackio.disable_artifact"),
    *("accelerator.ddp.", "accelerator.fsdp.", "accelerator.compile."),
)
"""How LeRobot's loader, decoder, compiler and trackers do their work; no number depends on it. A name that ends in a
dot stands for all below it."""
DEFAULTS: dict[str, Any] = {
    "dataset.use_imagenet_stats": True,
    "dataset.return_uint8": False,
    "dataset.depth_output_unit": "mm",
    "tolerance_s": 1e-4,
    "wandb.mode": None,
    "policy.empty_cameras": 0,
    "env_eval_freq": 20_000,
    "eval_freq": 20_000,
    "job.image": "huggingface/lerobot-gpu:latest",
    "job.timeout": "2d",
    "job.detach": False,
    "job.tags": [],
    "job.target": None,
}
"""LeRobot's defaults of fields that mean nothing here, or something else."""
PEFT_ALPHA = 8
"""PEFT's default, which LeRobot leaves in place."""

_OPTIMIZER = {name: f"policy.optimizer_{name}" for name in ("lr", "weight_decay", "grad_clip_norm", "betas", "eps")}
_SCHEDULER = {
    "num_warmup_steps": "policy.scheduler_warmup_steps",
    "num_decay_steps": "policy.scheduler_decay_steps",
    "peak_lr": "policy.optimizer_lr",
    "decay_lr": "policy.scheduler_decay_lr",
}
_WARMUP, _DECAY = "policy.scheduler_warmup_steps", "policy.scheduler_decay_steps"
_WHOLE = ("policy.normalization_mapping", "policy.rtc_config", "rename_map", "env", "reward_model", "sample_weighting")
"""Fields whose value is a dictionary."""


def is_lerobot_run(plain: Any) -> bool:
    """Tell whether a parsed configuration is one of LeRobot's runs."""
    return isinstance(plain, dict) and MARK in plain


def read_lerobot_run(
    plain: Mapping[str, Any],
    file: str,
    known: Container[str],
    given: Mapping[str, Any],
    processes: Processes | None,
) -> tuple[dict[str, Any], list[str]]:
    """Return a LeRobot run as values of our settings by dotted path, and what to tell the user.

    `known` are the paths of our settings, `given` the values of the command line. Raises ConfigError that names every
    field that is refused.
    """
    kind = (plain.get("policy") or {}).get("type")
    if kind != "pi05":
        raise ConfigError(
            f"{file} was written by LeRobot for another policy",
            wanted="policy.type pi05",
            found=f"{kind}",
            remedy="use LeRobot for it",
        )
    run = _Run(_leaves(plain), known, given)
    run.read_schedule()
    run.read_adapters()
    run.read_average()
    run.read_augmentation()
    run.read_split(processes)
    run.read_records()
    run.read_rest()
    if run.refused:
        lines = "".join(f"\n    {field}: {reason}; {remedy}" for field, (reason, remedy) in run.refused.items())
        raise ConfigError(
            f"{file} was written by LeRobot and asks for what does not exist here",
            found=f"{len(run.refused)} of its fields{lines}",
            remedy="change a copy of the file, or give its other settings as flags",
        )
    notice = f"{file} is a run of LeRobot's: its settings are taken, LeRobot's defaults included"
    return run.values, [notice, *run.notices]


class _Run:
    """The fields that are still to be read, and what has come of the others."""

    def __init__(self, leaves: dict[str, Any], known: Container[str], given: Mapping[str, Any]) -> None:
        self._left = leaves
        self._known = known
        self._given = given
        self.values: dict[str, Any] = {}
        self.notices: list[str] = []
        self.refused: dict[str, tuple[str, str]] = {}

    def _section(self, prefix: str) -> dict[str, Any]:
        """Take the fields below `prefix`; a section that is null has none."""
        self._left.pop(prefix.removesuffix("."), None)
        names = [name for name in self._left if name.startswith(prefix)]
        return {name.removeprefix(prefix): self._left.pop(name) for name in names}

    def _refuse(self, field: str, value: Any, reason: str, remedy: str, *, decided_by: str) -> None:
        if decided_by not in self._given:
            self.refused[f"{field} = {_text(value)}"] = (reason, remedy)

    def read_schedule(self) -> None:
        """Optimizer and schedule: those of the policy, or their own sections; LeRobot fits the schedule to the run."""
        own = self._left.pop(MARK) is False
        sections = (("optimizer", "adamw", _OPTIMIZER), ("scheduler", "cosine_decay_with_warmup", _SCHEDULER))
        for name, kind, paths in sections:
            section = self._section(f"{name}.")
            if not own or not section:
                continue
            if (found := section.pop("type", kind)) != kind:
                self._refuse(f"{name}.type", found, f"π₀.₅ trains with {kind}", "change it", decided_by="")
            for field, value in section.items():
                if field in paths:
                    self._left[paths[field]] = value
                else:
                    self._refuse(f"{name}.{field}", value, "it does not exist here", "remove it", decided_by="")
        steps = self._given.get("steps", self._left.get("steps"))
        warmup, decay = self._left.get(_WARMUP), self._left.get(_DECAY)
        if steps and warmup is not None and decay and steps < decay:
            self._left |= {_WARMUP: int(warmup * steps / decay), _DECAY: steps}
            self.notices.append(
                f"its schedule is fitted to {steps:,} steps, as LeRobot does: warm-up {self._left[_WARMUP]}"
            )

    def read_adapters(self) -> None:
        """LoRA, with LeRobot's and PEFT's defaults: alpha 8, query and value maps of the expert, nothing in full."""
        section = self._section("peft.")
        if not section and not self._left.get("policy.use_peft"):
            return
        targets = section.pop("target_modules", None)
        full = section.pop("full_training_modules", None)
        alpha = section.pop("lora_alpha", None)
        self.values |= {
            "policy.use_peft": True,
            "peft.method_type": str(section.pop("method_type", "LORA")).lower(),
            "peft.r": section.pop("r", 16),
            "peft.lora_alpha": PEFT_ALPHA if alpha is None else alpha,
            "peft.target_modules": "lerobot"
            if targets is None
            else targets
            if isinstance(targets, str)
            else _text(targets),
            "peft.full_training_modules": [] if full is None else full,
            "peft.init_type": section.pop("init_type", None) or "default",
        }
        self._left |= {f"peft.{name}": value for name, value in section.items()}
        self._left.pop("policy.use_peft", None)

    def read_average(self) -> None:
        """The average of the weights: here it has a constant decay."""
        section = self._section("ema.")
        if not section.pop("enable", False):
            return
        self.values["ema.enable"] = True
        if section.get("decay") is None:
            reason, remedy = "the average has a constant decay here, as openpi's", "give --ema.decay=0.99"
            self._refuse("ema.decay", None, reason, remedy, decided_by="ema.decay")
        else:
            self.values["ema.decay"] = section["decay"]
        if section.get("update_after_step"):
            value = section["update_after_step"]
            self._refuse("ema.update_after_step", value, "the average starts at once", "set it to 0", decided_by="")

    def read_augmentation(self) -> None:
        """Image transforms: LeRobot's are others than openpi's, which are the only ones here."""
        section = self._section("dataset.image_transforms.")
        if section.get("enable"):
            reason = "images are augmented as openpi does it, not with LeRobot's transforms"
            remedy = "give --augment=true (openpi's) or --augment=false"
            self._refuse("dataset.image_transforms.enable", True, reason, remedy, decided_by="augment")
        else:
            self.values["augment"] = False

    def read_split(self, processes: Processes | None) -> None:
        """Degrees of parallelism and precision, which 0.7 moved."""
        degrees = Degrees()
        for path in (REPLICATE, SHARD):
            if path in self._left:
                degrees.translate(path, _text(self._left.pop(path)))
        if "parallel" not in self._given and (split := degrees.split(processes)) is not None:
            self.values["parallel"] = split
        mixed = self._left.pop("accelerator.mixed_precision", "no")
        dtype = self._left.pop("policy.dtype", "float32")
        if self._left.pop("accelerator.activation_checkpointing.mode", "none") == "full":
            self.values["activation_checkpointing"] = "full"
        if mixed in ("fp16", "fp8"):
            reason = "π₀.₅ is computed in bfloat16 or float32"
            self._refuse("accelerator.mixed_precision", mixed, reason, "give --precision=mixed", decided_by="precision")
        elif mixed == "bf16" or dtype == "bfloat16":
            self.values["precision"] = "mixed"
            self.notices.append(
                "its bfloat16 is taken as the compute type: the weights stay float32 (--precision=mixed)"
            )
        else:
            self.values["precision"] = "float32"

    def read_records(self) -> None:
        """What has no effect, and numbers that mean the same under another name."""
        if self._left.get("env") is None:
            self._section("eval.")
            for name in ("env", "eval_freq", "env_eval_freq"):
                self._left.pop(name, None)
        if not any(self._left.get(f"policy.use_{kind}_memory") for kind in ("visual", "proprioceptive")):
            self._section("policy.memory_")
        frames = self._left.pop("max_eval_samples", 0)
        if frames:
            self.values["eval_frames"] = frames
        if self._left.get("save_freq", 1) <= 0:  # only at the end
            self._left["save_freq"] = self._given.get("steps", self._left.get("steps"))
        for name in [*self._left]:
            if name in RECORDS or any(_covers(one, name) for one in WITHOUT_EFFECT):
                del self._left[name]

    def read_rest(self) -> None:
        """Everything else: a setting of ours, LeRobot's default of something else, or refused."""
        for path, value in self._left.items():
            if path in self._given or (path in DEFAULTS and value == DEFAULTS[path]):
                continue
            try:
                if path in self._known:
                    refuse_value(path, _text(value))
                    self.values |= {} if value is None else {path: value}
                    continue
                meaning = translate_training_flag(path, _text(value))
            except ConfigError as error:
                reason = error.problem.partition(" cannot be used: ")[2] or error.problem
                self.refused[f"{path} = {_text(value)}"] = (reason, error.remedy)
                continue
            if meaning is None:
                self.refused[f"{path} = {_text(value)}"] = ("no version that this program knows has it", "remove it")
            elif meaning.path is not None and value is not None:
                self.values[meaning.path] = value


def _covers(one: str, name: str) -> bool:
    return name == one or (one.endswith(".") and name.startswith(one))


def _leaves(values: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """Return a nested configuration by dotted paths; some fields are dictionaries themselves."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        path = start + name
        if isinstance(value, dict) and path not in _WHOLE and path not in RECORDS:
            found |= _leaves(value, f"{path}.")
        else:
            found[path] = value
    return found


def _text(value: Any) -> str:
    """Return a value as a flag would have it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
