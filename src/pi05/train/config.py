"""Everything that defines a training run. Torch-free; the docstring under a field is its `--help` text.

The dotted path of a field is its flag, and names are LeRobot's where LeRobot has the setting. Defaults are those of
openpi (`training/config.py`) and LeRobot (`configuration_pi05.py`); what is derived from other settings is a property,
so that it cannot go stale. A value that training does not honour does not exist here: `settings/lerobot_flags.py`
refuses such flags by name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pi05.check.config import ALLOWANCE_OF, REFUSING
from pi05.data.config import DatasetConfig
from pi05.errors import ConfigError
from pi05.settings.schema import from_plain, to_plain
from pi05.train.exclusions import require_compatible
from pi05.train.lora_config import PeftConfig
from pi05.train.memory_config import Degree, MemorySettings
from pi05.train.method import Method, Part, Rates, name_method, name_part, usual_rates
from pi05.train.optim.config import EmaConfig
from pi05.train.policy_config import PolicyConfig
from pi05.train.records.config import TrackioConfig, WandbConfig

TINY_BASE = Path(__file__).parents[1] / "assets" / "pi05-tiny"
"""The base checkpoint that ships in the package; `--policy.path=pi05-tiny` means it too."""

ALLOW_MEMORY, ALLOW_TOKENIZER, ALLOW_ATTENTION = "memory", "tokenizer", "slow_attention"
"""Pass over the prediction of memory, over another tokenizer, and over attention without a fast kernel."""
OWN_ALLOWANCES = (ALLOW_MEMORY, ALLOW_TOKENIZER, ALLOW_ATTENTION)
"""Values of `--allow` that belong to the run; the others are findings on the data and the base
(`check/config.py`)."""
ALLOW_EDITED, ALLOW_BASE_LOSS = "base.edited", "base.loss"
"""The finding on a base, or on the checkpoint of a resumed run, whose config.json was edited; that on a base whose
first loss is worse than nothing."""

LONGEST_DECAY = 30_000
"""Steps after which the cosine ends when neither the run nor the user ends it earlier (openpi and LeRobot)."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(MemorySettings):
    """One training run; `memory_config.py` holds the fields on precision and memory."""

    HEADINGS: ClassVar[dict[str, str]] = {
        "steps, batch, GPUs": "steps batch_size global_batch_size gradient_accumulation_steps parallel "
        "num_workers threads deterministic",
        "precision and memory": "precision optimizer_state optimizer_offload gradient_release "
        "activation_checkpointing activation_offload cache_prefix",
        "objective": "loss flow_samples rtc_max_delay",
        "what the network sees": "rename_map drop_cameras augment prompt_format resize stats range_floor asset_id",
        "records, checkpoints, held-out error": "log_freq save_freq keep_checkpoints eval_steps eval_frames",
    }
    """Where flags stand in `--help`; those that are not named here come first."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    peft: PeftConfig = field(default_factory=PeftConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    trackio: TrackioConfig = field(default_factory=TrackioConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)

    preset: Literal["tiny", "demo", "sim", "real"] | None = None
    """Named set of defaults that the run starts from; every flag overrides it."""
    job_name: str | None = None
    """Name of the run in its folder and in trackers."""
    output_dir: str | None = None
    """Folder of the run; runs/NAME-DATE-TIME when not given."""
    resume: bool = False
    """Continue a run from its last checkpoint: `--resume RUN`, or the one in `--output_dir` or `--config_path`."""
    seed: int = 42
    """Seed of data order, noise and augmentation, 0 or more."""
    steps: int = 30_000
    """Optimizer steps, 1 or more."""
    batch_size: int = 32
    """Samples per GPU and forward pass, 1 or more."""
    global_batch_size: int | None = None
    """Samples per optimizer step over all GPUs and accumulation steps; replaces `--batch_size`."""
    gradient_accumulation_steps: int = 1
    """Forward passes whose gradients are added up for one optimizer step, 1 or more."""
    num_workers: int = 2
    """Threads that prepare batches ahead, 0 or more; 0 prepares them between the steps."""
    log_freq: int = 100
    """Steps between console lines and metrics, 1 or more."""
    save_freq: int = 5_000
    """Steps between checkpoints, 1 or more; the last step is always saved."""
    keep_checkpoints: int = 3
    """Newest checkpoints that are kept besides the best one, 1 or more."""
    eval_steps: int = 1_000
    """Steps between measurements of the action error on the held-out episodes; 0 switches them off."""
    eval_frames: int = 256
    """Most held-out frames in one measurement, spread evenly, 1 or more."""
    rename_map: dict[str, str] = field(default_factory=dict)
    """Camera of the data set → slot: scene, left_wrist, right_wrist (or openpi's and LeRobot's names for them)."""
    drop_cameras: tuple[str, ...] = ()
    """Cameras of the data set that the policy shall not see."""
    allow: tuple[str, ...] = ()
    """Checks to pass over: timestamps (frames go by number), index (frame numbers are wrong), tasks (the episode
    list names other tasks than the frames, which count), memory (the run is predicted not to fit the GPU), tokenizer
    (another one than that of the base), slow_attention (the GPU has no fast kernel of attention), or an error of
    `pi05 check` by its name, such as numbers.units."""
    augment: bool = True
    """Crop, rotate and recolour training images as openpi does; wrist cameras are only recoloured."""
    parallel: Literal["auto", "ddp", "fsdp", "hsdp"] = "auto"
    """How several GPUs, started with torchrun, share the network.
    - auto: ddp while weights, gradients and moments take less than half of a GPU, else fsdp or, over machines, hsdp.
    - ddp: all of the network on each GPU; the fastest where it fits.
    - fsdp: weights, gradients and moments split over all GPUs; for what one GPU cannot hold.
    - hsdp: split inside each machine, copied between machines; for several machines."""
    deterministic: bool = False
    """Take only kernels that give the same bits each time, so that on a GPU, too, a resumed run is the uninterrupted
    one bit for bit; attention's backward pass becomes slower there. A CPU's runs are exact without it."""
    prompt_format: Literal["state", "state32", "none"] | None = None
    """The robot's state in the prompt; when not given as the base checkpoint has it, else state.
    - state: as it is.
    - state32: padded to 32 numbers (LeRobot up to 0.4.4).
    - none: not at all (openpi on LIBERO)."""
    resize: Literal["auto", "openpi", "lerobot"] = "auto"
    """How pictures are made smaller.
    - auto: as the base checkpoint has it.
    - openpi: antialiased, as openpi's client does it.
    - lerobot: as LeRobot does it."""
    loss: Literal["masked", "lerobot", "openpi"] = "masked"
    """What the loss is a mean over.
    - masked: the robot's own action dimensions, and steps that lie inside the episode.
    - lerobot: its own dimensions, steps past the episode's end too.
    - openpi: all 32 dimensions and all steps."""
    flow_samples: int = 1
    """Draws of noise and flow time per observation, 1 or more; they share one pass through vision and language: more
    than 1 for a less noisy gradient at 1 to 2 % more arithmetic each."""
    rtc_max_delay: int = 0
    """Train for real-time chunking: the first actions of a chunk are given, as those that the robot carries out while
    the chunk is computed, and the rest is learned. Their number is drawn for each sample, from 0 to one less than this;
    2 or more, at most the chunk size. 0 is off."""
    stats: Literal["recompute", "checkpoint"] = "recompute"
    """Normalisation statistics: computed from the training episodes, or those stored in the base checkpoint."""
    range_floor: Literal["lasting", "none"] = "lasting"
    """How narrow a dimension's quantile range may be before it is divided by.
    - lasting: at least a tenth of what happens in the dimension, glitches left out.
    - none: plain 1 % and 99 % quantiles as openpi and LeRobot take them, whatever a constant or rare value becomes."""
    asset_id: str | None = None
    """With `--stats checkpoint` and an openpi base that holds statistics of several robots: which of them."""
    from_scratch: bool = False
    """Train from random weights; without it a base checkpoint is required."""
    network: Literal["pi05", "tiny"] = "pi05"
    """Sizes of the network that `--from_scratch` builds; a base checkpoint brings its own."""
    threads: int | None = None
    """CPU threads of the training process, 1 or more; PyTorch's choice when not given."""

    def _limits(self) -> None:
        super()._limits()
        positive = ("steps", "batch_size", "global_batch_size", "gradient_accumulation_steps", "log_freq", "save_freq")
        self._at_least(1, *positive, "flow_samples", "keep_checkpoints", "eval_frames", "threads")
        self._at_least(0, "seed", "num_workers", "eval_steps", "rtc_max_delay")
        allowed = "0, or 2 and more: delays of 0 to one less than this are drawn, and 1 would draw nothing but 0"
        self._require(self.rtc_max_delay != 1, "rtc_max_delay", allowed)
        if self.policy.chunk_size is not None:
            self.require_delay_within(self.policy.chunk_size)
        if self.global_batch_size is not None:
            whole = self.global_batch_size % self.gradient_accumulation_steps == 0
            passes = f"a multiple of --gradient_accumulation_steps={self.gradient_accumulation_steps}"
            self._require(whole, "global_batch_size", passes)
        known = (*ALLOWANCE_OF.values(), *OWN_ALLOWANCES, *REFUSING)
        self._require(set(self.allow) <= set(known), "allow", f"some of {', '.join(known)}")
        require_compatible(self)
        for last, what in ((self.decay_steps, "decay steps"), (self.steps, "steps of the run")):
            if self.warmup_steps >= last:
                raise ConfigError(
                    f"--policy.scheduler_warmup_steps={self.warmup_steps} is as long as the {what} or longer",
                    wanted=f"fewer than the {last:,} {what}",
                    found=f"{self.warmup_steps:,}",
                    remedy="lower --policy.scheduler_warmup_steps, or raise --policy.scheduler_decay_steps or --steps",
                )

    @property
    def recomputed(self) -> Degree:
        """How much of the layers is recomputed in the backward pass: a share of them, or all but what is expensive.

        Of `auto` it is 0 until a GPU's memory has settled it (`plan/require_memory.py`).
        """
        return self.recomputed_where(asked=self.policy.gradient_checkpointing)

    @property
    def decay_steps(self) -> int:
        """Step at which the cosine ends, warm-up included."""
        return self.policy.scheduler_decay_steps or min(self.steps, LONGEST_DECAY)

    @property
    def warmup_steps(self) -> int:
        """Steps of linear warm-up."""
        given = self.policy.scheduler_warmup_steps
        return min(1_000, self.decay_steps // 30) if given is None else given

    @property
    def learning_rate(self) -> float:
        """Peak learning rate: as given, else that of the preset; for adapters ten times it."""
        given = self.policy.optimizer_lr
        return self._usual_rates.peak if given is None else given

    @property
    def decay_lr(self) -> float:
        """Learning rate at the cosine's end."""
        given = self.policy.scheduler_decay_lr
        return self.learning_rate / self._usual_rates.peak_over_end if given is None else given

    @property
    def _usual_rates(self) -> Rates:
        return usual_rates(self.preset, adapters=self.uses_adapters)

    @property
    def method(self) -> Method:
        """What is trained, in one word."""
        return name_method(self.part, use_peft=self.uses_adapters, quantize=self.peft.quantize)

    @property
    def part(self) -> Part:
        """What of the network may change, by itself or by its adapters."""
        policy = self.policy
        return name_part(train_expert_only=policy.train_expert_only, freeze_vision_encoder=policy.freeze_vision_encoder)

    @property
    def uses_adapters(self) -> bool:
        """Whether low-rank adapters are trained on a frozen base."""
        return self.policy.use_peft

    @property
    def quantised_base(self) -> bool:
        """Whether the frozen base is held in 4 or 8 bits."""
        return self.uses_adapters and self.peft.quantize != "none"

    @property
    def lora_rank(self) -> int:
        """Rank of the adapters; 0 without any."""
        return self.peft.r if self.uses_adapters else 0

    @property
    def draws_dropout(self) -> bool:
        """Whether the network draws random numbers of its own in training."""
        return self.uses_adapters and self.peft.lora_dropout > 0

    @property
    def needs_whole_network(self) -> bool:
        """Whether each GPU has to hold the whole network."""
        return bool(self.memory_saving_flags) or self.quantised_base or self.cache_prefix

    def require_delay_within(self, horizon: int) -> None:
        """Raise ConfigError where a whole chunk could be given, with nothing left to learn."""
        possible = self.rtc_max_delay <= horizon
        self._require(possible, "rtc_max_delay", f"at most {horizon}, the actions of one chunk")

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.job_name or self.preset or "pi05"

    @property
    def run_dir(self) -> Path:
        """Folder of the run."""
        return Path(self.output_dir) if self.output_dir is not None else Path("runs") / self.name

    def micro_batch_size(self, world_size: int = 1) -> int:
        """Return the samples per GPU and forward pass. Raises ConfigError where `global_batch_size` does not divide."""
        if self.global_batch_size is None:
            return self.batch_size
        passes = world_size * self.gradient_accumulation_steps
        if self.global_batch_size % passes:
            raise self._refuse("global_batch_size", f"a multiple of {passes} (GPUs × accumulation steps)")
        return self.global_batch_size // passes

    def samples_per_step(self, world_size: int = 1) -> int:
        """Return the samples that one optimizer step sees in total."""
        return self.micro_batch_size(world_size) * world_size * self.gradient_accumulation_steps

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain data."""
        return dict(to_plain(self))

    @classmethod
    def from_dict(cls, values: Any) -> TrainConfig:
        """Build from plain data. Raises ConfigError for a name or a value that does not fit."""
        return from_plain(cls, values)

    def to_json(self) -> str:
        """Return the configuration as the text of `config.json`."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
