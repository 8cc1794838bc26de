"""`pi05 collect`: scripted demonstrations in a simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pi05.commands.command import Command, read_settings
from pi05.errors import ConfigError, DataError, doing, tell
from pi05.settings.schema import Checked


@dataclass(frozen=True, kw_only=True)
class CollectConfig(Checked):
    """Settings of `pi05 collect`."""

    env: Literal["tabletop"] = "tabletop"
    """The simulator."""
    family: Literal["base", "demo"] = "demo"
    """Family of layouts and instructions: base (what pi05-tiny was pre-trained on) or demo (what it has not seen)."""
    episodes: int = 100
    """Successful demonstrations to record, 1 or more."""
    output: str | None = None
    """Folder for the data set; it must not exist yet."""
    seed: int = 0
    """Seed of the layouts, 0 or more."""

    def _limits(self) -> None:
        self._at_least(1, "episodes")
        self._at_least(0, "seed")


def collect(arguments: Sequence[str]) -> int:
    """Run `pi05 collect`."""
    config = read_settings(CollectConfig, arguments)
    if config.output is None:
        raise ConfigError("pi05 collect needs a place for the data set", remedy="add --output=FOLDER")
    from pi05.sim.collect import collect_demonstrations
    from pi05.sim.config import EnvironmentChoice
    from pi05.sim.environments import expert_maker
    from pi05.terminal import Counter

    make = expert_maker(EnvironmentChoice(env=config.env, family=config.family))
    counter = Counter(config.episodes, "demonstrations")
    with doing("write demonstrations to", config.output, DataError), counter:
        out = Path(config.output)
        collected = collect_demonstrations(make, config.episodes, out, config.seed, progress=counter.advance)
    tell(f"wrote {collected.episodes} demonstrations to {collected.folder}")
    if collected.exceptions:
        left_out = f"{len(collected.exceptions)} more were left out: the simulator raised an exception"
        tell(f"warning: {left_out}, the first time {collected.exceptions[0]}")
    return 0


COMMAND = Command(
    summary="Scripted demonstrations in a simulator, as a LeRobot v3.0 data set.",
    usage="pi05 collect --env=tabletop --episodes=100 --output=FOLDER [flags]",
    run=collect,
    settings=CollectConfig,
)
