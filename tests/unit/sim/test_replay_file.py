from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pi05.data.lerobot.format_v3 import REPLAY_FILE as NAME
from pi05.errors import DataError
from pi05.sim.replay_file import ReplayFile, ReplayRow, read_replay

SETTINGS = {"env": "libero", "tasks": ["a"], "joint_noise": 0.02}


def test_rows_come_back_bit_for_bit(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [
        ReplayRow("a", 3, generator.normal(size=110), generator.normal(size=(5, 7)).astype(np.float32)),
        ReplayRow(None, 4, None, generator.normal(size=(2, 7)).astype(np.float32)),
    ]
    file = ReplayFile(SETTINGS)
    for row in rows:
        file.add(row)
    file.write(tmp_path / NAME)
    settings, found = read_replay(tmp_path, 7)
    assert settings == SETTINGS
    for row, back in zip(rows, found, strict=True):
        assert (row.task, row.seed) == (back.task, back.seed)
        np.testing.assert_array_equal(row.executed, back.executed)
        assert (row.start is None) == (back.start is None)
        if row.start is not None:
            np.testing.assert_array_equal(row.start, back.start)


def test_what_is_missing_or_damaged_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not tell how its episodes began\n.*pi05_replay\.parquet, which pi05"):
        read_replay(tmp_path, 7)
    (tmp_path / NAME).write_bytes(b"no parquet")
    with pytest.raises(DataError, match="is damaged"):
        read_replay(tmp_path, 7)
    file = ReplayFile(SETTINGS)
    file.add(ReplayRow("a", 3, None, np.zeros((5, 7), np.float32)))
    file.write(tmp_path / NAME)
    with pytest.raises(DataError, match="is damaged"):
        read_replay(tmp_path, 6)
