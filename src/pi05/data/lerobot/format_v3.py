"""The shapes of LeRobot v3.0's files, for writing them: paths, column types, info.json, the task table.

Source: a data set written by LeRobot 0.6.1. Reading takes its paths from info.json instead (`meta.py`).
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from pi05.data.lerobot.encoder import GOP, Quality, quality_for

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
CHUNK_SIZE = 1000
"""Files per folder."""
INDEX_TYPES = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Columns that the writer fills in itself."""

Features = dict[str, dict[str, Any]]

REPLAY_FILE = "pi05_replay.parquet"
"""In the folder of a set that `pi05 collect` made: how to repeat its episodes. LeRobot passes over it."""


def place(prefix: str, number: int) -> dict[str, int]:
    """Return the episode list's two columns that say which file a part of an episode is in."""
    return {f"{prefix}/chunk_index": number // CHUNK_SIZE, f"{prefix}/file_index": number % CHUNK_SIZE}


def data_path(number: int) -> str:
    """Return the path of a parquet file below the root."""
    return DATA_PATH.format(chunk_index=number // CHUNK_SIZE, file_index=number % CHUNK_SIZE)


def video_path(camera: str, number: int) -> str:
    """Return the path of a video file below the root."""
    return VIDEO_PATH.format(video_key=camera, chunk_index=number // CHUNK_SIZE, file_index=number % CHUNK_SIZE)


def data_schema(numbers: Features) -> pa.Schema:
    """Return the columns of the data files, with the feature types that Hugging Face datasets reads."""
    fields, kinds = [], {}
    scalars = {name: {"dtype": dtype, "shape": [1]} for name, dtype in INDEX_TYPES.items()}
    for name, feature in {**numbers, **scalars}.items():
        size, dtype = int(feature["shape"][0]), feature["dtype"]
        kind = pa.bool_() if dtype == "bool" else pa.from_numpy_dtype(dtype)
        value = {"dtype": dtype, "_type": "Value"}
        fields.append(pa.field(name, kind if size == 1 else pa.list_(kind, size)))
        kinds[name] = value if size == 1 else {"feature": value, "length": size, "_type": "List"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": kinds}})})


def task_table(tasks: dict[str, int]) -> pa.Table:
    """Return the tasks as a pandas frame whose index is the task, which is how LeRobot reads them."""
    column = {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
    index = {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object"}
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [column | {"metadata": None}, index | {"metadata": None}],
        "pandas_version": "2.2.0",
    }
    table = pa.table({"task_index": list(tasks.values()), "task": list(tasks)})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def all_features(cameras: Features, numbers: Features, fps: int, quality: Quality | None) -> Features:
    """Return the features of info.json: cameras with details of their video, numbers, index columns."""
    features: Features = {}
    for name, feature in cameras.items():
        height, width = (int(side) for side in feature["shape"][:2])
        kept = quality or quality_for(height, width)
        details = {"video.height": height, "video.width": width, "video.codec": "h264"}
        details |= {"video.pix_fmt": kept.pixel_format, "video.fps": fps, "video.channels": 3}
        details |= {"has_audio": False, "video.g": GOP, "video.crf": kept.crf, "is_depth_map": False}
        names = list(feature.get("names") or ["height", "width", "channels"])
        features[name] = {"dtype": "video", "shape": [height, width, 3], "names": names, "info": details}
    for name, feature in numbers.items():
        features[name] = {"dtype": feature["dtype"], "shape": list(feature["shape"]), "names": feature.get("names")}
    for name, dtype in INDEX_TYPES.items():
        features[name] = {"dtype": dtype, "shape": [1], "names": None}
    return features


def info(features: Features, fps: int, robot_type: str, data_mb: float, video_mb: float) -> dict[str, Any]:
    """Return info.json without the totals."""
    return {
        "codebase_version": "v3.0",
        "fps": fps,
        "features": features,
        "chunks_size": CHUNK_SIZE,
        "data_files_size_in_mb": max(1, round(data_mb)),
        "video_files_size_in_mb": max(1, round(video_mb)),
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "robot_type": robot_type,
    }
