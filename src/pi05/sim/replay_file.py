"""What it takes to repeat recorded episodes in their simulator: a file in the data set that LeRobot passes over.

A data set holds what the expert wanted, rounded to float32, and pictures. To repeat an episode one needs where it began
(task, seed, the simulator's own state) and what the robot really got, disturbances included. `pi05_replay.parquet` in
the set's folder has one row per episode with these, and the settings of the simulator.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from pi05.data.lerobot.format_v3 import REPLAY_FILE
from pi05.errors import DataError

SETTINGS = b"pi05.simulator"
SCHEMA = pa.schema(
    [
        ("episode_index", pa.int64()),
        ("task", pa.string()),
        ("seed", pa.int64()),
        ("start", pa.list_(pa.float64())),
        ("executed", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class ReplayRow:
    """One episode: where it began, and the actions that the robot got."""

    task: str | None
    seed: int
    start: Float[np.ndarray, " s"] | None
    executed: Float[np.ndarray, "steps n"]


class ReplayFile:
    """The rows of a data set in the making."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Begin with the settings that make the simulator again."""
        self._settings = settings
        self._rows: list[dict[str, Any]] = []

    def add(self, row: ReplayRow) -> None:
        """Add the next episode."""
        start = None if row.start is None else np.asarray(row.start, np.float64).tolist()
        executed = np.asarray(row.executed, np.float32)
        self._rows.append(
            {
                "episode_index": len(self._rows),
                "task": row.task,
                "seed": row.seed,
                "start": start,
                "executed": executed.ravel(),
            }
        )

    def write(self, path: Path) -> None:
        """Write the file."""
        schema = SCHEMA.with_metadata({SETTINGS: json.dumps(self._settings).encode()})
        table = pa.Table.from_pylist(self._rows, schema=schema)
        pq.write_table(table, path, compression="zstd")


def read_replay(root: Path, action_dims: int) -> tuple[dict[str, Any], list[ReplayRow]]:
    """Return the simulator's settings and the rows of a data set. Raises DataError where there are none."""
    path = root / REPLAY_FILE
    if not path.is_file():
        raise DataError(
            f"{root} does not tell how its episodes began",
            wanted=f"{REPLAY_FILE}, which pi05 collect writes",
            found="no such file",
            remedy="replay a data set of pi05 collect: other recordings hold no initial states",
        )
    try:
        table = pq.read_table(path, schema=None)
        settings = json.loads(table.schema.metadata[SETTINGS])
        rows = [_row(entry, action_dims) for entry in table.to_pylist()]
    except (pa.ArrowException, KeyError, TypeError, ValueError, OSError) as error:
        raise DataError(f"{path} is damaged", found=str(error), remedy="collect the data set again") from error
    return settings, rows


def _row(entry: dict[str, Any], action_dims: int) -> ReplayRow:
    executed = np.array(entry["executed"], np.float32).reshape(-1, action_dims)
    start = None if entry["start"] is None else np.array(entry["start"], np.float64)
    return ReplayRow(entry["task"], entry["seed"], start, executed)
