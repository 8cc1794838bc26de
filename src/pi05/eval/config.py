"""Settings of `pi05 eval`. Torch-free; the path of a field is its flag (`policy.path` is `--policy.path`).

Which policy, and which simulator, are settings of `policy_choice.py` and `sim/config.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pi05.policy_choice import PolicyChoice
from pi05.settings.schema import Checked, to_plain
from pi05.sim.config import EnvironmentChoice

Chunking = Literal["synchronous", "naive", "guided", "trained"]
"""How a chunk takes over from the one before it."""
FIRST_EVALUATION_SEED = 1_000_000_000
"""Layouts are evaluated from this seed on, far above those that demonstrations are collected from."""
SEEDS_PER_EVALUATION = 100_000
SIMULATORS = (
    *("env", "family", "suite", "tasks", "protocol", "hold", "episodes_per_task", "half_width", "max_steps", "workers"),
    *("num_envs", "timeout_s", "swap_instruction", "blank_pictures", "films", "resume"),
    *("delay", "chunking"),
)
"""Settings that mean nothing on recorded episodes."""
RECORDINGS = ("draws", "sensitivity_frames", "batch_size")
"""Settings that mean nothing in a simulator."""


@dataclass(frozen=True, kw_only=True)
class EvalDatasetConfig(Checked):
    """Recorded episodes in the place of a simulator."""

    FLAG_PREFIX: ClassVar[str] = "dataset."

    root: str | None = None
    """Folder of a LeRobot data set: evaluate without a simulator, by what the policy predicts in recorded episodes
    (docs/evaluation.md)."""
    repo_id: str | None = None
    """The data set as OWNER/NAME on the hub, with @REVISION or not, instead of --dataset.root."""

    def _limits(self) -> None:
        both = self.root is not None and self.repo_id is not None
        self._require(not both, "repo_id", "left out", "give --dataset.root or --dataset.repo_id, not both")

    @property
    def place(self) -> str | None:
        """The folder or the name; None: a simulator is wanted."""
        return self.root or self.repo_id


@dataclass(frozen=True, kw_only=True)
class EvalConfig(PolicyChoice, EnvironmentChoice):
    """One evaluation: a policy in an environment, over a list of seeds; or on the recorded episodes of a data set."""

    dataset: EvalDatasetConfig = field(default_factory=EvalDatasetConfig)
    episodes: int | Literal["auto", "held-out", "all"] | tuple[int, ...] | None = None
    """In a simulator: how many, 1 to 100,000, taking turns among the tasks; auto: until the success rate is known to
    --half_width; when not given 50, in LIBERO --episodes_per_task of each task. With --dataset.root: which, as numbers
    such as [3, 17], or all; when not given held-out, those that the policy's own run has kept out of training."""
    episodes_per_task: int | None = None
    """Episodes of each task, 1 or more, instead of --episodes; when not given in LIBERO the protocol's 50 or 10."""
    half_width: float | None = None
    """Half of the width that the Wilson 95 % interval may have with --episodes=auto, 0.005 to 0.5; 0.05 when not
    given."""
    max_steps: int | None = None
    """Steps after which an episode has failed, 1 or more; the environment's own limit is the most, and the default."""
    workers: int | None = None
    """Processes with one environment each; 0: all in this process. When not given 0 for tabletop, and in LIBERO one for
    each CPU core. Memory may allow fewer. The result does not depend on it."""
    num_envs: int = 50
    """Environments side by side in this process where there are no --workers, 1 or more; the result does not depend on
    it."""
    timeout_s: float = 600.0
    """Seconds without an answer after which an environment's process counts as hung, more than 0."""
    delay: int = 0
    """Control steps from an observation to the chunk for it, 0 or more: what inference takes on the robot, injected."""
    chunking: Chunking = "synchronous"
    """What the robot does until a chunk is there.
    - synchronous: it stands still.
    - naive: it goes on with the previous chunk, and then jumps to the new one.
    - guided: the same, with the new chunk steered to continue the previous one; for any policy.
    - trained: the same, with the policy told what is carried out meanwhile; for a policy of --rtc_max_delay."""
    swap_instruction: bool = False
    """Give the policy another valid instruction of the same layout and measure success at the original goal: a policy
    that listens to its instruction scores low."""
    blank_pictures: bool = False
    """Give the policy black pictures from every camera: one that looks scores low."""
    films: int = 4
    """Successes, and failures, that the report shows as films, 0 or more; spread over the tasks, of each task at least
    one."""
    output_dir: str | None = None
    """Folder for results.json and report.html; when not given RUN/eval-ENV-N with the first N that is free."""
    resume: bool = False
    """Go on with the evaluation that was interrupted in --output_dir, or in the newest RUN/eval-ENV-N."""
    threads: int | None = None
    """CPU threads of the network, 1 or more; PyTorch's choice when not given."""
    compare: str | None = None
    """Compare two over the same episodes: --compare A B. Each is a policy, which is evaluated, or the folder of an
    evaluation. With --dataset.root two or more policies: --compare A B C."""
    draws: int = 0
    """With --dataset.root: how often each chunk is predicted, each time from other noise out of --seed, 0 to 100; their
    spread is shown. 0: once, from noise that is zero, the centre of its distribution, as training measures."""
    sensitivity_frames: int = 32
    """With --dataset.root: frames that are predicted again without each camera, the state and the instruction, 0 or
    more; 0 leaves that out."""
    batch_size: int = 16
    """With --dataset.root: frames that are predicted at once, 1 or more."""

    def _limits(self) -> None:
        self._at_least(1, "episodes_per_task", "num_envs", "threads", "max_steps", "batch_size")
        self._at_least(0, "films", "workers", "sensitivity_frames", "delay")
        self._require(self.timeout_s > 0, "timeout_s", "more than 0")
        self._require(0 <= self.draws <= 100, "draws", "0 to 100")
        alone = self.compare is None or self.policy.path is None
        self._require(alone, "compare", "given without --policy.path", "write --compare A B")
        if self.dataset.place is None:
            self._limits_of_a_simulator()
        else:
            self._limits_of_recordings()

    def _limits_of_recordings(self) -> None:
        for name in SIMULATORS:
            default = type(self).__dataclass_fields__[name].default
            self._require(
                getattr(self, name) == default,
                name,
                "left out",
                "it is for a simulator: recorded episodes are evaluated without one",
            )
        self._at_least(0, "seed")
        if isinstance(self.episodes, int):
            written = f"write --episodes='[{self.episodes}]' for that episode, or held-out, or all"
            self._require(False, "episodes", "held-out, all, or numbers of episodes such as [3, 17]", written)
        self._require(self.episodes != "auto", "episodes", "held-out, all, or numbers of episodes such as [3, 17]")
        if isinstance(self.episodes, tuple):
            distinct = len(set(self.episodes)) == len(self.episodes) > 0 and min(self.episodes) >= 0
            self._require(distinct, "episodes", "distinct whole numbers from 0 up, at least one")

    def _limits_of_a_simulator(self) -> None:
        super()._limits()
        for name in RECORDINGS:
            default = type(self).__dataclass_fields__[name].default
            self._require(
                getattr(self, name) == default, name, "left out", "it is for recorded episodes: add --dataset.root=DATA"
            )
        if self.episodes in ("held-out", "all") or isinstance(self.episodes, tuple):
            self._require(False, "episodes", "a number, or auto", "these are recorded ones: add --dataset.root=DATA")
        if isinstance(self.episodes, int):
            self._require(1 <= self.episodes <= SEEDS_PER_EVALUATION, "episodes", f"1 to {SEEDS_PER_EVALUATION:,}")
        both = self.episodes is not None and self.episodes_per_task is not None
        self._require(not both, "episodes_per_task", "left out", "give --episodes or --episodes_per_task, not both")
        if self.half_width is not None:
            self._require(0.005 <= self.half_width <= 0.5, "half_width", "0.005 to 0.5")
            self._require(self.episodes == "auto", "half_width", "left out", "add --episodes=auto")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return dict(to_plain(self))

    @property
    def processes(self) -> int | None:
        """Environment processes that are wanted; None: as many as there are CPU cores."""
        return 0 if self.workers is None and self.env == "tabletop" else self.workers

    def episode_seed(self, episode: int) -> int:
        """Return what the environment is reset with for an episode; evaluations with different seeds share no layout.

        In LIBERO that is the number of the episode within its task, which names a fixed initial state.
        """
        if self.env == "libero":
            return episode
        return FIRST_EVALUATION_SEED + (self.seed or 0) * SEEDS_PER_EVALUATION + episode
