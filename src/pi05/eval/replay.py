"""Repeat recorded episodes in their simulator, without a policy: are actions, units, signs and rate right?

Every episode is begun as it was and gets its actions one after another, blind. Twice: the actions that the robot really
got, which must succeed again; and the labels, which a policy learns. Labels alone lead elsewhere where the collection
had disturbed them, for they were answers to what the expert saw; their rate says how much of a task can be done blind.

Leaves out data sets that do not tell how their episodes began (`sim/replay_file.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pi05.data.lerobot.reader import Dataset
from pi05.errors import ConfigError, DataError
from pi05.settings.schema import from_plain
from pi05.sim.config import DemonstrationChoice
from pi05.sim.environments import close_environment, demonstration_maker
from pi05.sim.protocol import Environment, Restorable
from pi05.sim.replay_file import ReplayRow, read_replay


@dataclass(frozen=True)
class Replayed:
    """One episode, repeated."""

    episode: int
    task: str
    """The benchmark's name of it, or the instruction."""
    executed: bool
    """Whether the actions that the robot got succeeded."""
    labels: bool
    """Whether the labels did."""


def replay_dataset(
    root: Path, episodes: Sequence[int], progress: Callable[[Replayed], None], allow: tuple[str, ...] = ()
) -> list[Replayed]:
    """Repeat the numbered episodes of a data set, all of them where none is named.

    Raises DataError for a set that does not tell how they began, ConfigError for a number of no episode.
    """
    data = Dataset(root)
    settings, rows = read_replay(root, len(data.action_names or data.actions()[0]))
    if len(rows) != data.num_episodes:
        raise DataError(
            f"{root} has been changed since it was collected",
            wanted=f"{len(rows)} episodes",
            found=str(data.num_episodes),
            remedy="replay the set as pi05 collect wrote it",
        )
    wrong = [number for number in episodes if not 0 <= number < len(rows)]
    if wrong:
        raise ConfigError(
            f"there is no episode {wrong[0]}",
            wanted=f"0 to {len(rows) - 1}",
            found=str(wrong[0]),
            remedy="correct --episodes, or leave it out for all",
        )
    choice = from_plain(DemonstrationChoice, settings | {"allow": list({*settings.get("allow", ()), *allow})})
    labels = data.actions()
    environment = demonstration_maker(choice)()
    replayed = []
    try:
        for number in episodes or range(len(rows)):
            episode, row = data.episodes[number], rows[number]
            own = np.asarray(labels[episode.start : episode.start + episode.length], np.float32)
            executed = repeat(environment, row, row.executed)
            alone = executed if np.array_equal(own, row.executed) else repeat(environment, row, own)
            task = row.task or str(data.frame(episode.start)["task"])
            replayed.append(Replayed(number, task, executed, alone))
            progress(replayed[-1])
    finally:
        close_environment(environment)
    return replayed


def repeat(environment: Environment, row: ReplayRow, actions: Float[np.ndarray, "steps n"]) -> bool:
    """Carry out the actions from where the episode began; return whether they succeed on the way."""
    environment.reset(row.seed, row.task)
    if row.start is not None and isinstance(environment, Restorable):
        environment.restore(row.start)
    for action in actions:
        done, success = environment.step(action)
        if done:
            return success
    return False
