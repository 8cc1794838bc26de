"""Finished attempts on disk, until there are enough of them for a data set: `NAME.collecting` beside the output.

One file per attempt: the outcome, and of a success everything that the data set will hold, pictures without loss. An
exception of the simulator leaves none. Files appear whole, so a collection that was killed goes on with what is there.
One process at a time uses the folder; other settings than those that it was begun with are refused.

Leaves out which attempts are needed (`ledger.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from pi05.errors import DataError
from pi05.files import parse_object, remove_tree, replacing, write_json
from pi05.sim.episodes import Attempt
from pi05.sim.ledger import Outcome, Ticket
from pi05.temporary import LOCK, hold, remove_leftovers

STATE = "observation.state"


@dataclass(frozen=True)
class Recording:
    """One successful attempt, as it is read back."""

    instruction: str
    seed: int
    start: Float[np.ndarray, " s"] | None
    pictures: dict[str, UInt8[np.ndarray, "steps height width 3"]]
    states: Float[np.ndarray, "steps d"]
    actions: Float[np.ndarray, "steps n"]
    executed: Float[np.ndarray, "steps n"]


class StagedAttempts:
    """The folder of finished attempts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, ticket: Ticket) -> Path:
        """Return the file of an attempt."""
        return self.folder / f"task{ticket.task:03d}-seed{ticket.turn:06d}.npz"

    def save(self, ticket: Ticket, attempt: Attempt, cameras: list[str]) -> None:
        """Write down an attempt; of one that failed, only that it did."""
        arrays = _arrays(attempt, cameras) if attempt.success else {"outcome": np.array("failure")}
        with replacing(self.path(ticket)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    def outcomes(self) -> dict[Ticket, Outcome]:
        """Return what has been attempted so far."""
        found: dict[Ticket, Outcome] = {}
        for path in self.folder.glob("task*-seed*.npz"):
            task, seed = path.stem.split("-")
            with np.load(path) as arrays:
                found[Ticket(int(task[4:]), int(seed[4:]))] = str(arrays["outcome"])  # type: ignore[assignment]
        return found

    def load(self, ticket: Ticket) -> Recording:
        """Read a successful attempt."""
        with np.load(self.path(ticket)) as arrays:
            return Recording(
                instruction=str(arrays["instruction"]),
                seed=int(arrays["seed"]),
                start=arrays.get("start"),
                pictures={
                    name.removeprefix("changes/"): np.cumsum(arrays[name], axis=0, dtype=np.uint8)
                    for name in arrays.files
                    if name.startswith("changes/")
                },
                states=arrays["states"],
                actions=arrays["actions"],
                executed=arrays["executed"],
            )

    def note_facts(self, facts: dict[str, Any]) -> None:
        """Keep what the data set needs to know of the simulator, which the last process may not start again."""
        write_json(self.folder / "simulator.json", facts)

    def facts(self) -> dict[str, Any] | None:
        """Return what `note_facts` has kept."""
        path = self.folder / "simulator.json"
        return parse_object(path) if path.is_file() else None


def _arrays(attempt: Attempt, cameras: list[str]) -> dict[str, Any]:
    """Return an attempt as arrays. Of pictures the change from step to step is kept, most of which is zero."""
    steps = attempt.steps
    arrays: dict[str, Any] = {
        "outcome": np.array("success"),
        "instruction": np.array(steps[0].observation["task"]),
        "seed": np.array(attempt.seed),
        "states": np.stack([step.observation[STATE] for step in steps]),
        "actions": np.stack([step.action for step in steps]),
        "executed": np.stack([step.executed for step in steps]),
    }
    if attempt.start is not None:
        arrays["start"] = attempt.start
    for camera in cameras:
        pictures = np.stack([step.observation[camera] for step in steps])
        pictures[1:] -= pictures[:-1].copy()  # modulo 256: a running sum gives the pictures back
        arrays[f"changes/{camera}"] = pictures
    return arrays


@contextmanager
def staging(output: Path, settings: dict[str, Any]) -> Iterator[StagedAttempts]:
    """Yield the folder of attempts for a data set, new or with what an earlier process finished.

    When the block ends by an exception it stays, with what was finished; without anything in it, it goes. Raises
    DataError for other settings than it was begun with, and where another process uses it.
    """
    folder = output.with_name(f"{output.name}.collecting")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        if hold(lock.fileno(), folder / LOCK) is False:
            raise DataError(
                f"another process is collecting {output}",
                wanted="one process at a time",
                found=f"a lock on {folder}",
                remedy="wait until it has finished, or choose another --output",
            )
        remove_leftovers(folder, suffix=".npz")
        _same_settings(folder, output, settings)
        staged = StagedAttempts(folder)
        try:
            yield staged
        except BaseException:
            if not any(folder.glob("task*-seed*.npz")):
                remove_tree(folder)
            raise


def _same_settings(folder: Path, output: Path, settings: dict[str, Any]) -> None:
    path = folder / "settings.json"
    if not path.is_file():
        write_json(path, settings)
        return
    begun = parse_object(path)
    now = json.loads(json.dumps(settings))
    if begun != now:
        changed = sorted(name for name in {*begun, *now} if begun.get(name) != now.get(name))
        raise DataError(
            f"{output} was begun with other settings",
            wanted=", ".join(f"{name}={begun.get(name)}" for name in changed),
            found=", ".join(f"{name}={now.get(name)}" for name in changed),
            remedy=f"give the settings that it was begun with, choose another --output, or remove {folder}",
        )
