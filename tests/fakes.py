"""Small made-up data sets in LeRobot's folder layouts, for everybody's tests.

They are written by hand from the formats' description, not through `pi05.data.lerobot.writer`, so that the reader is
not tested against the project's own idea of the format. Every frame carries its camera and global frame number as
black and white squares (`read_frame_number`), so that a test can tell exactly which frame it was given.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tokenizers
from PIL import Image
from tokenizers import models, pre_tokenizers

CAMERAS = ("observation.images.scene", "observation.images.wrist")
TASKS = ("put the red block on the blue plate", "put the green block on the white plate")
_BITS = 16


@dataclass
class FakeDataset:
    """What was written: the truth that a reader must return. Arrays run over all frames of all episodes."""

    root: Path
    version: str
    lengths: list[int]
    states: np.ndarray
    actions: np.ndarray
    timestamps: np.ndarray
    task_of_frame: list[str]
    cameras: tuple[str, ...]

    @property
    def starts(self) -> list[int]:
        """Global number of each episode's first frame."""
        return [0, *np.cumsum(self.lengths).tolist()[:-1]]


def numbered_image(number: int, camera: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Return a picture that says which frame of which camera it is, and survives video compression."""
    rows = np.linspace(60, 120, height)[:, None]
    columns = np.linspace(0, 60, width)[None, :]
    tint = np.array([1.0, 0.8, 0.6] if camera == 0 else [0.6, 0.8, 1.0])
    image = ((rows + columns)[:, :, None] * tint).astype(np.uint8)
    side = min(height, width) // 4
    for bit in range(_BITS):
        top, left = bit // 4 * side, bit % 4 * side
        value = (number | camera << (_BITS - 2)) >> bit & 1
        image[top : top + side, left : left + side] = 230 if value else 20
    return image


def read_frame_number(image: np.ndarray) -> tuple[int, int]:
    """Return (frame number, camera number) of a picture from `numbered_image`, also after compression."""
    side = min(image.shape[:2]) // 4
    code = 0
    for bit in range(_BITS):
        middle = image[bit // 4 * side + side // 2, bit % 4 * side + side // 2].mean()
        code |= int(middle > 125) << bit
    return code & (1 << (_BITS - 2)) - 1, code >> (_BITS - 2)


def write_video(path: Path, frames: Sequence[np.ndarray], fps: int, **options: str) -> None:
    """Write an H.264 file as LeRobot's encoder does (yuv420p, GOP of 2)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"g": "2", "crf": "18", **options})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def write_dataset(
    root: Path,
    version: str = "v3.0",
    episodes: Sequence[int] = (12, 9, 7),
    *,
    storage: str = "video",
    cameras: Sequence[str] = CAMERAS,
    height: int = 48,
    width: int = 64,
    fps: int = 10,
    state_dim: int = 4,
    action_dim: int = 3,
    state_key: str = "observation.state",
    action_key: str = "action",
    tasks: Sequence[str] = TASKS,
    episodes_per_file: int = 2,
    seed: int = 0,
) -> FakeDataset:
    """Write a data set of `len(episodes)` episodes of the given lengths; episode e has task e modulo len(tasks).

    `version` is v2.0, v2.1 (one parquet and one video per episode) or v3.0 (`episodes_per_file` of them); `storage`
    is video, or image (PNG bytes inside the parquet).
    """
    rng = np.random.default_rng(seed)
    lengths, total = list(episodes), int(sum(episodes))
    tasks = list(tasks)[: max(1, min(len(tasks), len(lengths)))]
    task_index = np.repeat([e % len(tasks) for e in range(len(lengths))], lengths)
    frame_index = np.concatenate([np.arange(n) for n in lengths])
    fake = FakeDataset(
        root=root,
        version=version,
        lengths=lengths,
        states=rng.normal(size=(total, state_dim)).astype(np.float32),
        actions=rng.normal(size=(total, action_dim)).astype(np.float32),
        timestamps=(frame_index / fps).astype(np.float32),
        task_of_frame=[tasks[t] for t in task_index],
        cameras=tuple(cameras),
    )
    columns: dict[str, Any] = {
        state_key: pa.FixedSizeListArray.from_arrays(fake.states.ravel(), state_dim),
        action_key: pa.array(list(fake.actions), pa.list_(pa.float32())),
        "timestamp": fake.timestamps,
        "frame_index": frame_index,
        "episode_index": np.repeat(np.arange(len(lengths)), lengths),
        "index": np.arange(total),
        "task_index": task_index,
    }
    pictures = {c: [numbered_image(i, k, height, width) for i in range(total)] for k, c in enumerate(cameras)}
    if storage == "image":
        for camera in cameras:
            cells = [{"bytes": _png(image), "path": f"frame_{i:06d}.png"} for i, image in enumerate(pictures[camera])]
            columns[camera] = pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table(columns)
    features = _features(cameras, storage, (height, width), fps, {state_key: state_dim, action_key: action_dim})
    info: dict[str, Any] = {
        "codebase_version": version,
        "robot_type": "fake",
        "total_episodes": len(lengths),
        "total_frames": total,
        "total_tasks": len(tasks),
        "chunks_size": 1000,
        "fps": fps,
        "splits": {"train": f"0:{len(lengths)}"},
        "features": features,
    }
    writer = _write_v3 if version == "v3.0" else _write_v2
    writer(fake, info, table, pictures if storage == "video" else {}, tasks, episodes_per_file)
    (root / "meta" / "info.json").write_text(json.dumps(info, indent=4))
    return fake


def _features(
    cameras: Sequence[str], storage: str, size: tuple[int, int], fps: int, vectors: dict[str, int]
) -> dict[str, Any]:
    features: dict[str, Any] = {
        name: {"dtype": "float32", "shape": [dim], "names": [f"{name}_{d}" for d in range(dim)]}
        for name, dim in vectors.items()
    }
    for camera in cameras:
        features[camera] = {"dtype": storage, "shape": [*size, 3], "names": ["height", "width", "channels"]}
        if storage == "video":
            features[camera]["info"] = {"video.fps": fps, "video.codec": "h264", "video.is_depth_map": False}
    features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    for name in ("frame_index", "episode_index", "index", "task_index"):
        features[name] = {"dtype": "int64", "shape": [1], "names": None}
    return features


def _write_v2(
    fake: FakeDataset, info: dict[str, Any], table: pa.Table, pictures: dict, tasks: list[str], per_file: int
) -> None:
    info["data_path"] = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    info["video_path"] = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    meta = fake.root / "meta"
    meta.mkdir(parents=True)
    (fake.root / "data" / "chunk-000").mkdir(parents=True)
    lines = []
    for episode, (start, length) in enumerate(zip(fake.starts, fake.lengths, strict=True)):
        pq.write_table(table.slice(start, length), fake.root / f"data/chunk-000/episode_{episode:06d}.parquet")
        for camera, frames in pictures.items():
            path = fake.root / f"videos/chunk-000/{camera}/episode_{episode:06d}.mp4"
            write_video(path, frames[start : start + length], info["fps"])
        lines.append({"episode_index": episode, "tasks": [fake.task_of_frame[start]], "length": length})
    (meta / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [{"task_index": k, "task": task} for k, task in enumerate(tasks)]
    (meta / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_v3(
    fake: FakeDataset, info: dict[str, Any], table: pa.Table, pictures: dict, tasks: list[str], per_file: int
) -> None:
    info["data_path"] = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    info["video_path"] = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    (fake.root / "data" / "chunk-000").mkdir(parents=True)
    (fake.root / "meta/episodes/chunk-000").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for file, first in enumerate(range(0, len(fake.lengths), per_file)):
        members = range(first, min(first + per_file, len(fake.lengths)))
        begin, end = fake.starts[members[0]], fake.starts[members[-1]] + fake.lengths[members[-1]]
        pq.write_table(table.slice(begin, end - begin), fake.root / f"data/chunk-000/file-{file:03d}.parquet")
        for camera, frames in pictures.items():
            path = fake.root / f"videos/{camera}/chunk-000/file-{file:03d}.mp4"
            write_video(path, frames[begin:end], info["fps"])
        for episode in members:
            start, length = fake.starts[episode], fake.lengths[episode]
            row: dict[str, Any] = {"episode_index": episode, "tasks": [fake.task_of_frame[start]], "length": length}
            row |= {"data/chunk_index": 0, "data/file_index": file}
            row |= {"dataset_from_index": start, "dataset_to_index": start + length}
            for camera in pictures:
                row |= {f"videos/{camera}/chunk_index": 0, f"videos/{camera}/file_index": file}
                row[f"videos/{camera}/from_timestamp"] = (start - begin) / info["fps"]
                row[f"videos/{camera}/to_timestamp"] = (start - begin + length) / info["fps"]
            row["stats/action/mean"] = [0.0]
            rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows), fake.root / "meta/episodes/chunk-000/file-000.parquet")
    task_table = pa.table({"task_index": list(range(len(tasks))), "task": tasks})
    pq.write_table(task_table, fake.root / "meta/tasks.parquet")


def write_tokenizer(path: Path) -> Path:
    """Write a small byte-level tokenizer.json (about 550 ids, `<bos>` among them) and return its path."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=560,
        special_tokens=["<pad>", "<eos>", "<bos>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    numbers = " ".join(map(str, range(256)))
    tokenizer.train_from_iterator([f"Task: {task}, State: {numbers};\nAction: " for task in TASKS], trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return path


def write_word_tokenizer(path: Path, words: Sequence[str]) -> Path:
    """Write a tokenizer.json with one token per word, the id being the word's place; <...> are control tokens."""
    tokenizer = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([word for word in words if word.startswith("<")])
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return path


def prompt_words() -> list[str]:
    """Return the words that prompts over `TASKS` consist of, control tokens first."""
    signs = ["Task", ":", "State", ",", ";", "Action", "-"]
    words = sorted({word for task in TASKS for word in task.split()})
    return ["<pad>", "<bos>", "<unk>", *signs, *words, *map(str, range(256))]


def write_byte_tokenizer(path: Path) -> Path:
    """Write a tokenizer.json with one token per byte, its id the byte's value plus 3; `<bos>` is 2."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    control = ["<pad>", "<eos>", "<bos>"]
    vocabulary = {name: i for i, name in enumerate(control)} | {characters[byte]: byte + 3 for byte in range(256)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.add_special_tokens(control)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return path
