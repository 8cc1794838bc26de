"""Settings of `pi05 eval`. Torch-free; the path of a field is its flag (`policy.path` is `--policy.path`).

Leaves out what a checkpoint of pi05 knows: cameras, statistics, prompt format, control rate. Folders of LeRobot and
openpi do not tell all of it; the settings for those have no effect on others, or are refused there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pi05.settings.schema import Checked, to_plain

FIRST_EVALUATION_SEED = 1_000_000_000
"""Layouts are evaluated from this seed on, far above those that demonstrations are collected from."""
SEEDS_PER_EVALUATION = 100_000


@dataclass(frozen=True, kw_only=True)
class EvalPolicyConfig(Checked):
    """Which policy, and how it is run."""

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
class EvalConfig(Checked):
    """One evaluation: a policy in an environment, over a list of seeds."""

    policy: EvalPolicyConfig = field(default_factory=EvalPolicyConfig)
    prompt_format: Literal["state", "state32", "none"] | None = None
    """State in the prompt, for a LeRobot or openpi folder that does not tell: as it is, padded to 32 numbers, or not at
    all."""
    rename_map: dict[str, str] = field(default_factory=dict)
    """Camera of the environment → camera of the policy, or its slot: scene, left_wrist, right_wrist."""
    asset_id: str | None = None
    """Which statistics of an openpi folder that holds several."""
    adapt_to_pi: bool | None = None
    """Of an openpi folder with ALOHA's 14 numbers: false when it was trained without openpi's joint flip and gripper
    map, which pi05 does not have."""
    env: Literal["tabletop"] = "tabletop"
    """The simulator."""
    family: Literal["base", "demo"] = "demo"
    """Objects and instructions in the simulator: base, which pi05-tiny was pre-trained on, or demo, which it has not
    seen."""
    episodes: int = 50
    """Episodes, each with its own layout, 1 to 100,000."""
    num_envs: int = 50
    """Environments side by side with one batched inference for all, 1 or more; the result does not depend on it."""
    seed: int = 0
    """Chooses layouts and noise, 0 or more; the same seed gives the same evaluation."""
    swap_instruction: bool = False
    """Give the policy another valid instruction of the same layout and measure success at the original goal: a policy
    that listens to its instruction scores low."""
    films: int = 4
    """Successes, and failures, that the report shows as films, 0 or more of each."""
    output_dir: str | None = None
    """Folder for results.json and report.html; when not given RUN/eval-ENV-N with the first N that is free."""
    threads: int | None = None
    """CPU threads of the network, 1 or more; PyTorch's choice when not given."""

    def _limits(self) -> None:
        self._at_least(1, "episodes", "num_envs", "threads")
        self._at_least(0, "seed", "films")
        self._require(self.episodes <= SEEDS_PER_EVALUATION, "episodes", f"at most {SEEDS_PER_EVALUATION:,}")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return dict(to_plain(self))

    def episode_seed(self, episode: int) -> int:
        """Return the seed of an episode's layout; evaluations with different seeds share none."""
        return FIRST_EVALUATION_SEED + self.seed * SEEDS_PER_EVALUATION + episode
