"""Which policy a command runs, and how: the settings that `pi05 eval` and `pi05 serve` share. No torch.

Leaves out what a checkpoint of pi05 knows: cameras, statistics, prompt format, control rate. Folders of LeRobot and
openpi do not tell all of it; the settings for those have no effect on others, or are refused there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pi05.settings.schema import Checked


@dataclass(frozen=True, kw_only=True)
class ChosenPolicy(Checked):
    """One policy, and how it is run: the group `policy`."""

    FLAG_PREFIX: ClassVar[str] = "policy."

    path: str | None = None
    """A checkpoint folder, or a run folder, which means its last checkpoint; RUN/checkpoints/best is its best one.
    Folders of LeRobot and openpi are policies too."""
    tokenizer_path: str | None = None
    """Tokenizer file or folder, for a LeRobot or openpi folder that holds none."""
    chunk_size: int | None = None
    """Actions predicted at once, for an openpi folder, which does not tell it."""
    device: str = "auto"
    """Where the network runs: cpu, cuda, cuda:N, or auto, which is CUDA where there is a GPU."""
    n_action_steps: int | None = None
    """Actions of each chunk that are executed before the policy looks again, 1 or more; as trained when not given."""
    num_inference_steps: int = 10
    """Euler steps from noise to actions, 1 or more."""

    def _limits(self) -> None:
        device = re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device)
        self._require(device is not None, "device", "auto, cpu, cuda or cuda:N")
        self._at_least(1, "n_action_steps", "num_inference_steps", "chunk_size")


@dataclass(frozen=True, kw_only=True)
class PolicyChoice(Checked):
    """One policy, and what its folder does not tell: what the settings of such a command extend."""

    policy: ChosenPolicy = field(default_factory=ChosenPolicy)
    prompt_format: Literal["state", "state32", "none"] | None = None
    """State in the prompt, for a LeRobot or openpi folder that does not tell: as it is, padded to 32 numbers, or not at
    all."""
    rename_map: dict[str, str] = field(default_factory=dict)
    """Camera of the robot, of the environment or of the data set → camera of the policy, or its slot: scene,
    left_wrist, right_wrist; or drop."""
    asset_id: str | None = None
    """Which statistics of an openpi folder that holds several."""
    adapt_to_pi: bool | None = None
    """Of an openpi folder with ALOHA's 14 numbers: false when it was trained without openpi's joint flip and gripper
    map, which pi05 does not have."""
    accept_edited: tuple[str, ...] = ()
    """Fields of a policy's config.json that were edited after training and are to be used as they are, by name."""

    @property
    def told(self) -> dict[str, Any]:
        """What the user tells of a policy where its folder does not, by the names of `Policy.load`."""
        return {
            "prompt_format": self.prompt_format,
            "rename_map": self.rename_map or None,
            "asset_id": self.asset_id,
            "horizon": self.policy.chunk_size,
            "adapt_to_pi": self.adapt_to_pi,
            "tokenizer_path": self.policy.tokenizer_path,
            "accept_edited": self.accept_edited,
        }
