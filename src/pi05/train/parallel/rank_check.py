"""Do the processes of a run fit together? Same versions, same code, same settings, same data, one shared run folder.

Differences of this kind do not fail: they train something else on one rank, or hang in a collective hours later. So
they are looked for before the first step, and the message names the rank and the difference.
"""

from __future__ import annotations

import hashlib
import json
import platform
import socket
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import pi05
from pi05.errors import ConfigError, DataError, TrainingError
from pi05.train.config import TrainConfig
from pi05.train.parallel.ranks import START_TIMEOUT, Ranks, await_keys

PACKAGES = ("numpy", "safetensors", "tokenizers", "sentencepiece", "pyarrow", "av", "pillow")
SHARED_SECONDS = 30
"""How long a network file system may take to show a new file."""
FREE_PER_RANK = {"output_dir"}
"""Settings that rank 0 decides: a default folder carries the time of the start."""


def describe_process() -> dict[str, str]:
    """Return what must be the same in every process."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "CUDA": str(torch.version.cuda),
        "NCCL": str(torch.cuda.nccl.version()) if torch.cuda.is_available() else "None",
        "pi05": pi05.__version__,
        "pi05's source": hash_source(),
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@cache
def hash_source() -> str:
    """Return a hash over the package's own code: two checkouts may say the same version."""
    root = Path(pi05.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def check_processes(store: dist.Store, rank: int, world_size: int, timeout: timedelta = START_TIMEOUT) -> None:
    """Compare all processes before they are connected.

    Raises TrainingError naming the ranks that did not come within `timeout`, or the rank that differs and in what.
    """
    keys = [f"pi05/process/{other}" for other in range(world_size)]
    store.set(keys[rank], json.dumps({"host": socket.gethostname(), "process": describe_process()}))
    try:
        await_keys(store, keys, timeout)
    except TimeoutError:
        absent = [str(other) for other in range(world_size) if not store.check([keys[other]])]
        raise TrainingError(
            f"not all processes came within {timeout.total_seconds():.0f} s",
            wanted=f"{world_size} ranks",
            found=f"no word from rank {', '.join(absent)}",
            remedy="look at the output of that rank; on several machines all must start within that time",
        ) from None
    found = [json.loads(store.get(key)) for key in keys]
    names = [f"rank {other} ({each['host']})" for other, each in enumerate(found)]
    differing = differences(names, [each["process"] for each in found])
    if differing:
        raise TrainingError(
            "the processes of this run do not run the same software",
            wanted=f"what {names[0]} has, on every rank",
            found=differing,
            remedy="install the same environment on every machine (constraints.txt pins it)",
        )


def differences(names: list[str], found: list[Mapping[str, Any]]) -> str:
    """Return in what each process differs from the first one, as text; empty when none does."""
    told = []
    for name, each in zip(names[1:], found[1:], strict=True):
        keys = [key for key in {**found[0], **each} if found[0].get(key) != each.get(key)]
        if keys:
            parts = "; ".join(f"{key} {_short(each.get(key))} instead of {_short(found[0].get(key))}" for key in keys)
            told.append(f"{name}: {parts}")
    return " | ".join(told)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def agree_on_settings(ranks: Ranks, config: TrainConfig) -> TrainConfig:
    """Return the configuration with rank 0's run folder. Raises ConfigError where another setting differs."""
    if not ranks.several:
        return config
    plain = config.to_dict()
    compared = {name: value for name, value in plain.items() if name not in FREE_PER_RANK}
    hosts = [f"rank {rank} ({host})" for rank, host in enumerate(ranks.gather(socket.gethostname()))]
    differing = differences(hosts, ranks.gather(compared))
    if differing:
        raise ConfigError(
            "the processes of this run were started with different settings",
            wanted="the same flags on every machine",
            found=differing,
            remedy="start every machine with the same command",
        )
    return TrainConfig.from_dict({**plain, "output_dir": ranks.from_first(str(config.run_dir))})


def require_same_data_on_all(ranks: Ranks, identity: Mapping[str, Any]) -> None:
    """Raise DataError where a process reads other data than rank 0."""
    if not ranks.several:
        return
    hosts = [f"rank {rank} ({host})" for rank, host in enumerate(ranks.gather(socket.gethostname()))]
    differing = differences(hosts, ranks.gather(dict(identity)))
    if differing:
        raise DataError(
            "the data set is not the same on every machine",
            wanted=f"what {hosts[0]} reads",
            found=differing,
            remedy="copy the data set again to that machine, or put --dataset.root on storage that all machines share",
        )


def require_shared_folder(ranks: Ranks, folder: Path) -> None:
    """Raise TrainingError where a process does not see the files that rank 0 writes into `folder`."""
    if not ranks.several:
        return
    token = folder / f".ranks-{ranks.from_first(time.time_ns())}.tmp"
    if ranks.first:
        folder.mkdir(parents=True, exist_ok=True)
        token.touch()
    ranks.meet()
    limit = time.monotonic() + SHARED_SECONDS
    while not (seen := token.exists()) and time.monotonic() < limit:
        time.sleep(0.5)
    blind = [
        f"rank {rank} ({host})" for rank, (host, ok) in enumerate(ranks.gather((socket.gethostname(), seen))) if not ok
    ]
    if ranks.first:
        token.unlink()
    if blind:
        raise TrainingError(
            "not every machine sees the run's folder",
            wanted=f"{folder} on storage that all machines share: every rank reads checkpoints there",
            found=f"not seen by {', '.join(blind)}",
            remedy="give a shared --output_dir",
        )
