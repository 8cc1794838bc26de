"""`pi05 replay`: recorded actions sent through the simulator that they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pi05.commands.command import Command, read_one_path
from pi05.errors import EvaluationError, doing, tell
from pi05.settings.schema import Checked

if TYPE_CHECKING:
    from pi05.eval.replay import Replayed

BELOW = 1
"""Exit code where fewer episodes succeed than are asked for."""


@dataclass(frozen=True, kw_only=True)
class ReplayConfig(Checked):
    """Settings of `pi05 replay`."""

    episodes: tuple[int, ...] = ()
    """Numbers of the episodes to repeat; all of them when none is given."""
    at_least: float = 0.95
    """Share of episodes, 0 to 1, that must succeed with the actions that the robot got; with fewer the exit code is
    1."""
    allow: tuple[str, ...] = ()
    """What is refused otherwise and shall be accepted, such as mujoco-version."""

    def _limits(self) -> None:
        self._require(0 <= self.at_least <= 1, "at_least", "0 to 1")
        self._require(len(set(self.episodes)) == len(self.episodes), "episodes", "different numbers")


def replay(arguments: Sequence[str]) -> int:
    """Run `pi05 replay`."""
    config, path = read_one_path(
        ReplayConfig,
        arguments,
        what="pi05 replay needs one data set",
        wanted="pi05 replay DATASET",
        remedy="name the folder that pi05 collect wrote",
    )
    from pi05.data.lerobot.reader import Dataset
    from pi05.eval.replay import replay_dataset
    from pi05.terminal import Counter

    with doing("replay", path, EvaluationError):
        total = len(config.episodes) or Dataset(path).num_episodes
        with Counter(total, "episodes") as counter:
            done = replay_dataset(Path(path), config.episodes, lambda _: counter.advance(), config.allow)
    for task in dict.fromkeys(episode.task for episode in done):
        of_task = [episode for episode in done if episode.task == task]
        executed, labels = _counts(of_task)
        tell(f"  {executed} of {len(of_task)} as executed, {labels} by the labels alone: {task}")
    executed, labels = _counts(done)
    tell(f"as executed  {executed} of {len(done)} episodes succeed again ({executed / len(done):.0%})")
    tell(f"labels alone {labels} of {len(done)} ({labels / len(done):.0%}), without the disturbances that they answer")
    failed = [str(episode.episode) for episode in done if not episode.executed]
    if failed:
        tell(f"warning: these do not succeed again: {', '.join(failed)}")
    return BELOW if executed / len(done) < config.at_least else 0


def _counts(episodes: Sequence[Replayed]) -> tuple[int, int]:
    return sum(episode.executed for episode in episodes), sum(episode.labels for episode in episodes)


COMMAND = Command(
    summary="Recorded actions in their simulator: are units, signs, rate right?",
    usage="pi05 replay DATASET [flags]",
    run=replay,
    settings=ReplayConfig,
)
