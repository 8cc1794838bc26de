"""The metadata of a written data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from recordings import SCENE, WRIST, add, make_features

from pi05.data.lerobot.writer import DatasetWriter


def test_metadata(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "set", 10, make_features(), "tabletop") as writer:
        for episode, task in enumerate(("put", "push", "put")):
            add(writer, episode * 8, 8)
            writer.end_episode(task)
        assert writer.num_episodes == 3
    meta = tmp_path / "set" / "meta"
    info = json.loads((meta / "info.json").read_text())
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 24, 2)
    assert (info["codebase_version"], info["fps"], info["robot_type"]) == ("v3.0", 10, "tabletop")
    assert info["splits"] == {"train": "0:3"}
    assert info["features"][SCENE]["info"]["video.pix_fmt"] == "yuv444p"
    stats = json.loads((meta / "stats.json").read_text())
    np.testing.assert_allclose(stats["action"]["q01"], [np.quantile(-np.arange(24), 0.01)] * 4)
    assert stats["observation.state"]["count"] == [24]
    assert np.shape(stats[WRIST]["mean"]) == (3, 1, 1)
    tasks = pq.read_table(meta / "tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0, 1], "task": ["put", "push"]}
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    episodes = pq.read_table(meta / "episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(e["dataset_from_index"], e["dataset_to_index"], e["tasks"]) for e in episodes] == [
        (0, 8, ["put"]),
        (8, 16, ["push"]),
        (16, 24, ["put"]),
    ]
    assert episodes[1][f"videos/{SCENE}/from_timestamp"] == 0.8
    assert episodes[2]["stats/action/min"] == [-23.0] * 4
    names = {path.relative_to(tmp_path / "set").parts[0] for path in (tmp_path / "set").rglob("*")}
    assert names == {"meta", "data", "videos"}
