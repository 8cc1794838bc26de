"""`pi05 collect`: scripted demonstrations in a simulator."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi05.commands.command import Command, read_settings
from pi05.errors import ConfigError, DataError, doing, tell
from pi05.settings.schema import to_plain
from pi05.sim.config import DemonstrationChoice

DEFAULT_EPISODES = 100
DEFAULT_PER_TASK = 50
SIMULATOR_BYTES = 2_000_000_000
"""Of one process with a simulator of LIBERO: 1.9 GB were measured (2026-11-29)."""
NOT_OF_THE_SIMULATOR = ("episodes", "episodes_per_task", "output", "workers", "seed")


@dataclass(frozen=True, kw_only=True)
class CollectConfig(DemonstrationChoice):
    """Settings of `pi05 collect`."""

    episodes: int | None = None
    """Successful demonstrations to record in tabletop, 1 or more; 100 when not given."""
    episodes_per_task: int | None = None
    """Successful demonstrations of each task of LIBERO, 1 or more; 50 when not given."""
    output: str | None = None
    """Folder for the data set; it must not exist yet. In LIBERO finished episodes wait beside it, in
    OUTPUT.collecting, and the same command goes on after a stop."""
    workers: int | None = None
    """Processes in LIBERO, each with a simulator of almost 2 GB, 1 or more; when not given as many as cores and free
    memory allow. The data do not depend on it."""

    def _limits(self) -> None:
        super()._limits()
        self._at_least(1, "episodes", "episodes_per_task", "workers")
        if self.env == "libero":
            self._require(self.episodes is None, "episodes", "left out in LIBERO", "use --episodes-per-task")
            return
        for name in ("episodes_per_task", "workers"):
            self._require(getattr(self, name) is None, name, "left out", "it is LIBERO's: add --env=libero")

    def simulator(self) -> dict[str, Any]:
        """Return the settings that make the simulator again, as plain data."""
        return {name: value for name, value in to_plain(self).items() if name not in NOT_OF_THE_SIMULATOR}


def collect(arguments: Sequence[str]) -> int:
    """Run `pi05 collect`."""
    config = read_settings(CollectConfig, arguments)
    if config.output is None:
        raise ConfigError("pi05 collect needs a place for the data set", remedy="add --output=FOLDER")
    with doing("write demonstrations to", config.output, DataError):
        return (_libero if config.env == "libero" else _tabletop)(config, Path(config.output))


def _tabletop(config: CollectConfig, output: Path) -> int:
    from pi05.sim.collect import collect_demonstrations
    from pi05.sim.environments import expert_maker
    from pi05.terminal import Counter

    make, episodes = expert_maker(config), config.episodes or DEFAULT_EPISODES
    with Counter(episodes, "demonstrations") as counter:
        collected = collect_demonstrations(
            make, episodes, output, config.first_seed, progress=counter.advance, settings=config.simulator()
        )
    tell(f"wrote {collected.episodes} demonstrations to {collected.folder}")
    if collected.exceptions:
        left_out = f"{len(collected.exceptions)} more were left out: the simulator raised an exception"
        tell(f"warning: {left_out}, the first time {collected.exceptions[0]}")
    return 0


def _libero(config: CollectConfig, output: Path) -> int:
    from pi05.sim.collect_tasks import collect_tasks
    from pi05.sim.environments import expert_maker
    from pi05.terminal import Counter

    workers = _workers(config.workers)
    tell(f"{workers} {'process' if workers == 1 else 'processes'}, each with a simulator of almost 2 GB", at_once=True)
    try:
        collected = collect_tasks(
            expert_maker(config),
            config.episodes_per_task or DEFAULT_PER_TASK,
            output,
            config.first_seed,
            workers,
            config.simulator(),
            lambda total: Counter(total, "demonstrations"),
        )
    except KeyboardInterrupt:
        tell(f"\nfinished episodes are kept in {output}.collecting; the same command goes on with them", aside=True)
        raise
    for task, successes, attempts in collected.yields:
        tell(f"  {successes} of {attempts} attempts succeeded: {task}")
    successes = sum(counts[1] for counts in collected.yields)
    attempts = sum(counts[2] for counts in collected.yields)
    tell(f"wrote {successes} demonstrations to {collected.folder}; {successes / attempts:.0%} of {attempts} attempts")
    if collected.exceptions:
        many = f"{len(collected.exceptions)} attempts were lost to an exception of the simulator"
        tell(f"warning: {many}, the first one {collected.exceptions[0]}")
    return 0


def _workers(wanted: int | None) -> int:
    """Return the number of processes. Raises ConfigError where there is no memory for as many as are wanted."""
    from pi05.eval.places.memory import free_memory

    free = free_memory()
    room = None if free is None else free // SIMULATOR_BYTES
    if wanted is None:
        cores = len(os.sched_getaffinity(0))
        return max(1, cores if room is None else min(cores, room))
    if room is not None and room < wanted:
        raise ConfigError(
            f"there is no memory for {wanted} simulators",
            wanted=f"{wanted * SIMULATOR_BYTES / 1e9:.1f} GB",
            found=f"{(free or 0) / 1e9:.1f} GB are free",
            remedy=f"use --workers={max(1, room)}, or leave it out",
        )
    return wanted


COMMAND = Command(
    summary="Scripted demonstrations in a simulator, as a LeRobot v3.0 data set.",
    usage="pi05 collect --env=tabletop --episodes=100 --output=FOLDER [flags]",
    run=collect,
    settings=CollectConfig,
)
