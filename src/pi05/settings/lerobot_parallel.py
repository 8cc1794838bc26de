"""LeRobot's degrees of parallelism (0.6.2-dev, 0.7) as `--parallel`: the GPUs come from torchrun, the split from these.

`--parallelism.dp_replicate` copies of the network, each split over `--parallelism.dp_shard` GPUs; -1 splits over all
that are left. Facts: LeRobot `configs/parallelism.py`. A world that torchrun did not start so is refused with the line
that does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pi05.errors import ConfigError
from pi05.settings.flags import Translation

REPLICATE, SHARD = "parallelism.dp_replicate", "parallelism.dp_shard"
Split = Literal["ddp", "fsdp", "hsdp"]


@dataclass(frozen=True)
class Processes:
    """What torchrun started: processes in all, and those of this machine."""

    world: int
    local: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Processes:
        """Read torchrun's variables; one process without them."""
        world = int(environment.get("WORLD_SIZE", "1"))
        return cls(world, int(environment.get("LOCAL_WORLD_SIZE", str(world))))


@dataclass
class Degrees:
    """The degrees that were given, by LeRobot's names."""

    given: dict[str, int] = field(default_factory=dict)

    def translate(self, path: str, text: str | None) -> Translation | None:
        """Take a degree of data parallelism; None for any other flag. Raises ConfigError for what cannot be one."""
        if path not in (REPLICATE, SHARD):
            return None
        try:
            degree = int(text or "")
        except ValueError:
            degree = 0
        if degree < 1 and not (degree == -1 and path == SHARD):
            allowed = "1 or more" + (", or -1 for all GPUs that are left" if path == SHARD else "")
            raise ConfigError(f"--{path} cannot be {text}", wanted=allowed, remedy=f"correct --{path}")
        self.given[path] = degree
        return Translation()

    def split(self, processes: Processes | None) -> Split | None:
        """Return what the degrees mean for `--parallel`; None where they ask for nothing.

        Without `processes` (a plan, which counts GPUs itself) nothing is compared with them. Raises ConfigError where
        torchrun started other processes than the degrees ask for.
        """
        replicate, shard = self.given.get(REPLICATE, 1), self.given.get(SHARD, 1)
        if (replicate, shard) == (1, 1):
            return None
        meant: Split = "ddp" if shard == 1 else "fsdp" if replicate == 1 else "hsdp"
        if processes is None:
            return meant
        if shard == -1:
            shard = max(1, processes.world // replicate)
        written = " ".join(f"--{path}={degree}" for path, degree in self.given.items())
        if replicate * shard != processes.world:
            total = replicate * shard
            started = "this is one process" if processes.world == 1 else f"torchrun started {processes.world}"
            raise ConfigError(
                f"{written} asks for {total} GPUs, and {started}",
                wanted="as many processes as dp_replicate × dp_shard",
                found=str(processes.world),
                remedy=f"torchrun --nproc-per-node={total} -m pi05 train --parallel={meant} with the other flags; over "
                "several machines, --nproc-per-node is the GPUs of one",
            )
        if meant == "hsdp" and shard != processes.local:
            raise ConfigError(
                f"{written} splits the network over {shard} GPUs, and hsdp here splits it over those of a machine",
                wanted=f"--{SHARD}={processes.local}, the GPUs of this machine",
                found=str(shard),
                remedy="use --parallel=fsdp for one split over all GPUs, or --parallel=ddp for copies",
            )
        return meant
