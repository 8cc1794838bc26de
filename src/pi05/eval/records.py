"""What a running evaluation keeps on disk: each finished episode, so that no end of the process loses more than those
that run.

    OUTPUT/partial/evaluation.json     settings and policy: what must be the same to go on
                   episodes-RANK.jsonl one line per finished episode, put on disk at once
                   film-EPISODE.npz    frames of those that the report may show
                   seen-TASK.json      what the model saw first of a task

The folder goes when the report is written: results.json then holds all of it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pi05.errors import EvaluationError
from pi05.eval.episode import EpisodeResult, Spent
from pi05.eval.film import Film
from pi05.eval.rollout import Ended
from pi05.files import read_json, replacing, write_atomic, write_json

PARTIAL, HEADER = "partial", "evaluation.json"
FREE = ("workers", "num_envs", "threads", "timeout_s", "resume", "output_dir")
"""Settings that may be others when an evaluation goes on; besides them the policy's device."""


def require_same(folder: Path, config: Mapping[str, Any], policy: Mapping[str, Any]) -> None:
    """Raise EvaluationError unless what was begun in the folder is this evaluation of this policy."""
    begun = read_json(folder / PARTIAL / HEADER)
    wanted = header(config, policy)
    for part in ("config", "policy"):
        for name in sorted(set(begun[part]) | set(wanted[part])):
            old, new = begun[part].get(name), wanted[part].get(name)
            if old != new:
                raise EvaluationError(
                    f"the evaluation in {folder} was begun with another {'policy' if part == 'policy' else 'setting'}",
                    wanted=f"{name} = {old!r}, as begun",
                    found=repr(new),
                    remedy="resume it with the same settings, or choose another --output_dir",
                )


def header(config: Mapping[str, Any], policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be the same in all parts of an evaluation, as JSON would give it back."""
    settings = {name: value for name, value in config.items() if name not in FREE}
    settings["policy"] = {name: value for name, value in settings["policy"].items() if name != "device"}
    return dict(json.loads(json.dumps({"config": settings, "policy": dict(policy)}, default=str)))


def begin(folder: Path, config: Mapping[str, Any], policy: Mapping[str, Any]) -> None:
    """Write down what is being evaluated."""
    write_json(folder / PARTIAL / HEADER, header(config, policy))


def forget_errors(folder: Path) -> None:
    """Remove the episodes in which the simulator failed, so that they are carried out again: it may be repaired."""
    for path in (folder / PARTIAL).glob("episodes-*.jsonl"):
        lines = path.read_bytes().split(b"\n")[:-1]
        kept = [line for line in lines if json.loads(line)["result"]["outcome"] != "error"]
        if len(kept) < len(lines):
            write_atomic(path, b"".join(line + b"\n" for line in kept))


def finish(folder: Path) -> None:
    """Remove the records: the report is written."""
    shutil.rmtree(folder / PARTIAL)


class Records:
    """The records that one process appends to."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._folder = folder / PARTIAL
        path = self._folder / f"episodes-{rank}.jsonl"
        _cut_torn_line(path)
        self._file = path.open("ab")

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, ended: Ended, *, film: bool) -> None:
        """Put one episode on disk, its film first."""
        if film:
            path = self._folder / f"film-{ended.result.index}.npz"
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, frames=np.stack(ended.film.frames), stride=ended.film.stride)
        line = {"result": ended.result.to_dict(), "spent": ended.spent.to_dict()}
        self._file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def read(folder: Path) -> Iterator[Ended]:
    """Yield the finished episodes of all processes, in the order of their numbers."""
    found: dict[int, Ended] = {}
    for path in sorted((folder / PARTIAL).glob("episodes-*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            values = json.loads(line)
            result = EpisodeResult(**values["result"])
            found[result.index] = Ended(result=result, film=_film(folder, result), spent=Spent(**values["spent"]))
    for _, ended in sorted(found.items()):
        yield ended


def finished(folder: Path) -> dict[int, EpisodeResult]:
    """Return what came of the finished episodes, without their films."""
    results = [
        EpisodeResult(**json.loads(line)["result"])
        for path in (folder / PARTIAL).glob("episodes-*.jsonl")
        for line in path.read_bytes().split(b"\n")[:-1]
    ]
    return {result.index: result for result in sorted(results, key=lambda result: result.index)}


def _film(folder: Path, result: EpisodeResult) -> Film:
    path = folder / PARTIAL / f"film-{result.index}.npz"
    if not path.exists():
        return Film(result, [], 1)
    with np.load(path) as arrays:
        return Film(result, list(arrays["frames"]), int(arrays["stride"]))


def _cut_torn_line(path: Path) -> None:
    """Remove the part of a line that a killed process has left."""
    if path.exists():
        whole = path.read_bytes().rpartition(b"\n")[0]
        os.truncate(path, len(whole) + 1 if whole else 0)
