"""LeRobot's degrees of parallelism: what they mean for `--parallel`, and where torchrun started something else."""

from __future__ import annotations

import pytest

from pi05.errors import ConfigError
from pi05.settings.lerobot_parallel import REPLICATE, SHARD, Degrees, Processes


def degrees(**given: str) -> Degrees:
    found = Degrees()
    for name, text in given.items():
        assert found.translate(f"parallelism.{name}", text) is not None
    return found


@pytest.mark.parametrize(
    ("given", "processes", "split"),
    [
        ({}, Processes(4, 4), None),
        ({"dp_replicate": "1", "dp_shard": "1"}, Processes(1, 1), None),
        ({"dp_replicate": "4"}, Processes(4, 4), "ddp"),
        ({"dp_shard": "4"}, Processes(4, 4), "fsdp"),
        ({"dp_shard": "-1"}, Processes(4, 4), "fsdp"),
        ({"dp_replicate": "2", "dp_shard": "4"}, Processes(8, 4), "hsdp"),
        ({"dp_replicate": "2", "dp_shard": "-1"}, Processes(8, 4), "hsdp"),
        ({"dp_shard": "8"}, None, "fsdp"),
    ],
)
def test_the_split_is_that_of_the_degrees(
    given: dict[str, str], processes: Processes | None, split: str | None
) -> None:
    assert degrees(**given).split(processes) == split


@pytest.mark.parametrize(
    ("given", "processes", "problem", "remedy"),
    [
        (
            {"dp_shard": "8"},
            Processes(1, 1),
            "--parallelism.dp_shard=8 asks for 8 GPUs, and this is one process",
            "torchrun --nproc-per-node=8 -m pi05 train --parallel=fsdp",
        ),
        ({"dp_replicate": "2"}, Processes(4, 4), "asks for 2 GPUs, and torchrun started 4", "--nproc-per-node=2"),
        ({"dp_replicate": "3", "dp_shard": "-1"}, Processes(8, 8), "asks for 6 GPUs", "--parallel=hsdp"),
        ({"dp_replicate": "2", "dp_shard": "4"}, Processes(8, 8), "splits it over those of a", "--parallel=fsdp"),
    ],
)  # fmt: skip
def test_other_processes_are_refused_with_the_line_that_starts_them(
    given: dict[str, str], processes: Processes, problem: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        degrees(**given).split(processes)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(("path", "text"), [(SHARD, "0"), (SHARD, "two"), (REPLICATE, "-1"), (REPLICATE, None)])
def test_what_is_no_degree_is_refused(path: str, text: str | None) -> None:
    with pytest.raises(ConfigError, match=f"--{path} cannot be"):
        Degrees().translate(path, text)


def test_other_flags_are_left_alone() -> None:
    assert Degrees().translate("parallelism.cfg_parallel", "1") is None


def test_the_processes_are_those_of_torchrun() -> None:
    assert Processes.of({}) == Processes(1, 1)
    assert Processes.of({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}) == Processes(8, 4)
