"""The settings of the network: where it starts from, and how its parameters move. Torch-free.

Names and defaults are LeRobot's (`configuration_pi05.py`) where LeRobot has the setting; see `config.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pi05.model.config import usual_steps
from pi05.settings.schema import Checked


@dataclass(frozen=True, kw_only=True)
class PolicyConfig(Checked):
    """The network, where it starts from, and how its parameters move."""

    FLAG_PREFIX: ClassVar[str] = "policy."

    type: Literal["pi05"] = "pi05"
    """Kind of policy; this program knows π₀.₅."""
    path: str | None = None
    """Base checkpoint to start from, in pi05, LeRobot or openpi layout: a folder, a file, or OWNER/NAME (@REVISION) on
    the hub."""
    tokenizer_path: str | None = None
    """Tokenizer file (tokenizer.json or SentencePiece .model), folder, or OWNER/NAME on the hub, for a base checkpoint
    that holds none and names none."""
    device: str = "auto"
    """Where to train: cpu, cuda, cuda:N, or auto, which is CUDA where there is a GPU."""
    compile_model: bool | None = None
    """Compile each layer with torch.compile: slower to start. When not given, on a GPU where it is predicted to pay for
    this method and length of run, which no GPU has measured yet; on a CPU not."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: LeRobot's name for `--activation_checkpointing=full`."""
    freeze_vision_encoder: bool = False
    """Leave the vision tower as it is and train the rest; with LoRA no adapter goes into it."""
    train_expert_only: bool = False
    """Train the action expert and the action and time projections only; with LoRA all adapters go there."""
    use_peft: bool = False
    """Train low-rank adapters (LoRA) on a frozen base, as --peft.* say; any of those flags does the same."""
    chunk_size: int | None = None
    """Actions predicted at once, 1 or more; that of the base checkpoint when not given."""
    n_action_steps: int | None = None
    """Actions executed before the next prediction, from 1 to the chunk size; when not given half of the chunk,
    and no more than one second of it."""
    empty_cameras: int | None = None
    """Camera slots that you expect to stay empty, 0 to 3; another number is an error. Empty slots are always masked."""
    use_relative_actions: bool = False
    """Train on actions relative to the state at the chunk's start, except for the excluded dimensions."""
    relative_exclude_joints: tuple[str, ...] | None = None
    """Action dimensions that stay absolute with relative actions: every dimension whose name contains one of these;
    when not given gripper, which a robot need not have."""
    normalization_mapping: dict[str, str] = field(
        default_factory=lambda: {"VISUAL": "IDENTITY", "STATE": "QUANTILES", "ACTION": "QUANTILES"}
    )
    """Normalisation of STATE and ACTION: QUANTILES, MEAN_STD or IDENTITY each; VISUAL is always IDENTITY."""
    tokenizer_max_length: int | None = None
    """Longest prompt in tokens, 1 or more; a longer one is an error; that of the base checkpoint when not given."""
    optimizer_lr: float | None = None
    """Peak learning rate of AdamW, above 0; when not given 2.5e-5 or the preset's, and ten times that for LoRA."""
    optimizer_betas: tuple[float, float] = (0.9, 0.95)
    """Decay rates of AdamW's first and second moment, each from 0 to below 1."""
    optimizer_eps: float = 1e-8
    """AdamW's epsilon, above 0."""
    optimizer_weight_decay: float = 1e-10
    """Decoupled weight decay of AdamW, 0 or more."""
    optimizer_grad_clip_norm: float = 1.0
    """Largest global gradient norm, above 0; a larger gradient is scaled down to it."""
    scheduler_warmup_steps: int | None = None
    """Steps of linear warm-up, 0 or more; when not given a thirtieth of the decay steps, at most 1,000."""
    scheduler_decay_steps: int | None = None
    """Steps until the cosine reaches its end, warm-up included; the run's steps, at most 30,000, when not given."""
    scheduler_decay_lr: float | None = None
    """Learning rate at the cosine's end and after it, 0 or more; a tenth of the peak when not given (sim: the peak)."""
    push_to_hub: bool = False
    """Publish the policy on the hub when training is done; whether that is possible is found out before it starts."""
    repo_id: str | None = None
    """Repository on the hub, OWNER/NAME, or NAME alone for your own."""
    private: bool | None = None
    """Make a new repository private; the hub's default for you when not given."""
    tags: tuple[str, ...] | None = None
    """More tags for the card of the published policy."""
    license: str | None = None
    """Licence of the published weights, such as apache-2.0 or gemma; the card says "not stated" without it."""

    def _limits(self) -> None:
        named = not self.push_to_hub or self.repo_id is not None
        self._require(named, "push_to_hub", "true only with --policy.repo_id=OWNER/NAME", "add --policy.repo_id")
        device = re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device)
        self._require(device is not None, "device", "auto, cpu, cuda or cuda:N")
        self._at_least(1, "chunk_size", "n_action_steps", "tokenizer_max_length", "scheduler_decay_steps")
        self._at_least(0, "scheduler_warmup_steps", "scheduler_decay_lr", "optimizer_weight_decay")
        for name in ("optimizer_lr", "optimizer_eps", "optimizer_grad_clip_norm"):
            value = getattr(self, name)
            self._require(value is None or value > 0, name, "a number above 0")
        self._require(all(0 <= beta < 1 for beta in self.optimizer_betas), "optimizer_betas", "two numbers in [0, 1)")
        self._require(self.empty_cameras is None or 0 <= self.empty_cameras <= 3, "empty_cameras", "0 to 3")
        if self.chunk_size is not None and self.n_action_steps is not None:
            fits = self.n_action_steps <= self.chunk_size
            self._require(fits, "n_action_steps", f"at most --policy.chunk_size={self.chunk_size}")
        modes = {"VISUAL": ("IDENTITY",), **dict.fromkeys(("STATE", "ACTION"), ("QUANTILES", "MEAN_STD", "IDENTITY"))}
        mapping = self.normalization_mapping
        complete = {"STATE", "ACTION"} <= set(mapping) <= set(modes)
        possible = complete and all(mode in modes[kind] for kind, mode in mapping.items())
        allowed = "{STATE: QUANTILES|MEAN_STD|IDENTITY, ACTION: QUANTILES|MEAN_STD|IDENTITY}"
        self._require(possible, "normalization_mapping", allowed)

    def steps_to_execute(self, horizon: int, fps: float | None = None) -> int:
        """Return how many actions of a chunk are executed: as set, or half of the chunk, a second of it at most.

        openpi executes 5 of 10, 8 of 15 and 25 of 50, each about half a second.
        """
        possible = self.n_action_steps is None or self.n_action_steps <= horizon
        self._require(possible, "n_action_steps", f"at most {horizon}, the actions of one chunk")
        return self.n_action_steps or usual_steps(horizon, fps)
