"""LIBERO's tasks: their names, instructions, files, and 50 initial states each. Reads files; LIBERO is not imported.

The order of a suite's tasks is the benchmark's own (task order 0). A task's instruction is spelt by its file's name,
as openpi and LeRobot give it to a policy, not by the sentence inside the file, which differs here and there.
"""

from __future__ import annotations

import io
import pickle
import runpy
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from pi05.errors import ConfigError, EvaluationError
from pi05.sim.libero.config import Suite
from pi05.sim.libero.protocols import INITIAL_STATES
from pi05.sim.libero.setup import package_folder


@dataclass(frozen=True)
class LiberoTask:
    """One task of a suite."""

    suite: Suite
    name: str
    """File name without its ending."""

    @property
    def instruction(self) -> str:
        """What the robot is told: the name's words, without the scene that they stand in."""
        words = self.name.split("_")
        if self.name[0].isupper():  # KITCHEN_SCENE3_turn_on_the_stove
            words = words[next(place for place, word in enumerate(words) if word.startswith("SCENE")) + 1 :]
        return " ".join(words)

    @property
    def scene(self) -> str:
        """Words before the instruction, such as KITCHEN_SCENE3; empty where a suite has none."""
        return self.name[: len(self.name) - len(self.instruction)].rstrip("_")

    @property
    def problem_file(self) -> Path:
        """The file that describes scene, initial layout and goal (BDDL)."""
        return package_folder() / "bddl_files" / self.suite / f"{self.name}.bddl"

    @property
    def initial_states_file(self) -> Path:
        """The file of the benchmark's initial states."""
        return package_folder() / "init_files" / self.suite / f"{self.name}.pruned_init"


@cache
def tasks_of(suite: Suite) -> tuple[LiberoTask, ...]:
    """Return a suite's tasks in the benchmark's order."""
    table = runpy.run_path(str(package_folder() / "benchmark" / "libero_suite_task_map.py"))["libero_task_map"]
    return tuple(LiberoTask(suite, name) for name in table[suite])


def choose_tasks(suite: Suite, names: Sequence[str]) -> tuple[LiberoTask, ...]:
    """Return the named tasks of a suite, all of them where none is named. Raises ConfigError for a name of no task."""
    known = {task.name: task for task in tasks_of(suite)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(
            f"{suite} has no task {unknown[0]}",
            wanted="names of its tasks: " + ", ".join(known),
            found=", ".join(unknown),
            remedy="correct --tasks, or leave it out for all tasks of the suite",
        )
    return tuple(known[name] for name in dict.fromkeys(names)) if names else tuple(known.values())


@cache
def initial_states(task: LiberoTask) -> Float64[np.ndarray, "states numbers"]:
    """Return the benchmark's initial states: time, positions and velocities of all joints, one row each.

    The files are archives of `torch.save` that hold a NumPy array; they are read without torch, and nothing but an
    array comes out of them. Raises EvaluationError for a file that is damaged.
    """
    path = task.initial_states_file
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            states = np.asarray(_ArrayOnly(io.BytesIO(archive.read(name))).load(), dtype=np.float64)
    except Exception as error:  # what a damaged pickle raises depends on the byte: nearly everything
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    if states.ndim != 2 or len(states) != INITIAL_STATES or not np.isfinite(states).all():
        raise _damaged(path, f"an array of shape {states.shape}" + " with NaN" * bool(np.isnan(states).any()))
    return states


def _damaged(path: Path, found: str) -> EvaluationError:
    return EvaluationError(
        "LIBERO's initial states cannot be read",
        wanted=f"{INITIAL_STATES} rows of numbers in {path}",
        found=found,
        remedy="install its packages again: make libero",
    )


class _ArrayOnly(pickle.Unpickler):
    """Reads a NumPy array and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in ("_reconstruct", "scalar"):
            return super().find_class("numpy._core.multiarray", name)
        if module == "numpy" and name in ("ndarray", "dtype"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} in a file of numbers")
