"""Sound recordings of robots that do not exist: arms, grippers, rates, units and lengths drawn from a seed.

Every arm moves smoothly between way-points, follows its commands with a lag, is read by noisy encoders, and rests now
and then as people who teleoperate do. Grippers are switches or move with the hand of the operator. Written as LeRobot
v3.0 without pictures, for `check_alarms.py`, and at any size for `check.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pi05.data.lerobot import format_v3
from pi05.data.lerobot.feature_stats import number_stats
from pi05.data.lerobot.writer import DatasetWriter

RATES = (5, 10, 15, 20, 25, 30, 50)
VERBS = ("pick up", "push", "place", "hand over", "turn")
THINGS = ("the red cube", "the cup", "the screwdriver", "the folded towel", "the lid of the jar", "the sponge")
ROWS_PER_FILE = 250_000
SIDE = 48
"""Pixels of a picture."""
COLOURS = ((220, 40, 40), (40, 200, 60), (40, 80, 230), (240, 220, 60), (240, 240, 240))


@dataclass(frozen=True, kw_only=True)
class Robot:
    """What is drawn once for a set."""

    seed: int
    fps: int
    joints: int
    grippers: int
    """0, 1, or 2 for two arms."""
    unit: float
    """Of a radian: 1, or 57.3 where the set is in degrees, or 63.7 where ±π is ±200 %."""
    lag_seconds: float
    encoder_noise: float
    operator_noise: float
    switches: bool
    """Whether gripper commands are open or closed and nothing between."""
    episodes: int
    seconds: float
    tasks: tuple[str, ...]
    names: tuple[str, ...] = field(default=())

    @property
    def dims(self) -> int:
        """Numbers of state and of action."""
        return self.joints + self.grippers


def draw_robot(seed: int, *, episodes: int | None = None, seconds: float | None = None) -> Robot:
    """Draw a robot and its recording; the size may be given."""
    rng = np.random.default_rng(seed)
    arms = int(rng.integers(1, 3))
    per_arm = int(rng.integers(3, 8))
    grippers = arms if rng.random() < 0.8 else 0
    names = []
    for arm in ("left_", "right_")[:arms] if arms > 1 else ("",):
        names += [f"{arm}joint_{k}" for k in range(per_arm)]
    names += [f"{arm}gripper" for arm in (("left_", "right_") if arms > 1 else ("",))][:grippers]
    tasks = {f"{rng.choice(VERBS)} {rng.choice(THINGS)}" for _ in range(int(rng.integers(1, 6)))}
    return Robot(
        seed=seed,
        fps=int(rng.choice(RATES)),
        joints=arms * per_arm,
        grippers=grippers,
        unit=float(rng.choice([1.0, 1.0, 180 / np.pi, 200 / np.pi])),
        lag_seconds=float(rng.uniform(0.04, 0.25)),
        encoder_noise=float(10 ** rng.uniform(-4.5, -3.3)),
        operator_noise=float(10 ** rng.uniform(-4, -2.7)),
        switches=bool(rng.random() < 0.6),
        episodes=episodes or int(rng.integers(4, 60)),
        seconds=seconds or float(rng.uniform(4, 25)),
        tasks=tuple(sorted(tasks)),
        names=tuple(names),
    )


def record(robot: Robot) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
    """Yield state, action and task of each episode."""
    rng = np.random.default_rng([robot.seed, 1])
    home, reach = rng.uniform(-1, 1, robot.joints), rng.uniform(0.2, 1.4, robot.joints)
    for _ in range(robot.episodes):
        length = max(12, int(robot.fps * robot.seconds * rng.uniform(0.6, 1.4)))
        points = home + reach * rng.uniform(-1, 1, (int(rng.integers(4, 8)), robot.joints))
        points[0] = home + rng.normal(0, 0.05, robot.joints)
        arm = _between(points, _pace(length, len(points) - 1, rng))
        wanted = arm + _smooth(rng.normal(0, robot.operator_noise, arm.shape), 5)
        lag = robot.lag_seconds * robot.fps
        state = _follow(wanted, lag) + rng.normal(0, robot.encoder_noise, arm.shape)
        hands = np.zeros((length, 0))
        if robot.grippers:
            hands = np.stack([_gripper(length, robot.switches, rng) for _ in range(robot.grippers)], 1)
        measured = 0.08 * _follow(hands, max(lag, 0.15 * robot.fps))
        yield (
            np.hstack([state * robot.unit, measured]).astype(np.float32),
            np.hstack([wanted * robot.unit, hands]).astype(np.float32),
            str(rng.choice(robot.tasks)),
        )


def _pace(length: int, legs: int, rng: np.random.Generator) -> np.ndarray:
    """Return how far along its way-points an arm is at each frame, with a short rest here and there."""
    speed = np.ones(length)
    for _ in range(int(rng.integers(0, 3))):
        at = int(rng.integers(0, length))
        speed[at : at + max(1, length // 20)] = 0
    speed[0] = 1
    way = np.cumsum(speed)
    return (way - way[0]) / max(way[-1] - way[0], 1) * legs


def _between(points: np.ndarray, way: np.ndarray) -> np.ndarray:
    leg = np.minimum(way.astype(int), len(points) - 2)
    share = way - leg
    eased = (10 * share**3 - 15 * share**4 + 6 * share**5)[:, None]
    return np.asarray(points[leg] * (1 - eased) + points[leg + 1] * eased)


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    kernel = np.ones(width) / width
    return np.stack([np.convolve(column, kernel, "same") for column in values.T], 1)


def _follow(command: np.ndarray, lag: float) -> np.ndarray:
    """Return what follows a command with a lag of so many frames (one pole)."""
    share, state = 1 / max(lag, 1.0), np.empty_like(command)
    state[0] = command[0]
    for frame in range(1, len(command)):
        state[frame] = state[frame - 1] + share * (command[frame] - state[frame - 1])
    return state


def _gripper(length: int, switch: bool, rng: np.random.Generator) -> np.ndarray:
    """Return a hand that is open (1), closes, and opens again."""
    shut, again = sorted(rng.uniform(0.15, 0.9, 2) * length)
    closed = np.zeros(length)
    closed[int(shut) : max(int(again), int(shut) + 3)] = 1
    return 1 - closed if switch else 1 - 0.9 * _smooth(closed[:, None], max(3, length // 15))[:, 0]


def write_filmed_set(robot: Robot, root: Path, cameras: int = 1) -> None:
    """Write the recording with small pictures: blocks over a table, whose places follow the joints."""
    vector = {"dtype": "float32", "shape": [robot.dims], "names": list(robot.names)}
    keys = [f"observation.images.{name}" for name in ("front", "wrist")[:cameras]]
    features: dict[str, Any] = {key: {"dtype": "video", "shape": [SIDE, SIDE, 3]} for key in keys}
    features |= {"observation.state": vector, "action": vector}
    rng = np.random.default_rng([robot.seed, 2])
    tables = {key: rng.integers(40, 200, (SIDE // 8, SIDE // 8, 3)).repeat(8, 0).repeat(8, 1) for key in keys}
    with DatasetWriter(root, robot.fps, features, "made-up") as writer:
        for state, action, task in record(robot):
            places = np.tanh(state[:, : robot.joints] / robot.unit) * (SIDE / 2 - 4) + SIDE / 2 - 4
            for frame in range(len(state)):
                images = {key: _picture(table, places[frame], turn) for turn, (key, table) in enumerate(tables.items())}
                writer.add_frame(images, {"observation.state": state[frame], "action": action[frame]})
            writer.end_episode(task)


def _picture(table: np.ndarray, places: np.ndarray, turn: int) -> np.ndarray:
    """Return the table (of the second camera: moving with the arm) with a block for each two joints."""
    image = np.roll(table, places[:2].astype(int) * turn, (0, 1)).astype(np.uint8)
    for block, (top, left) in enumerate(zip(places[::2], places[1::2], strict=False)):
        image[int(top) : int(top) + 8, int(left) : int(left) + 8] = COLOURS[(block + turn) % len(COLOURS)]
    return image


UNSEEN = "observation.images.front"
"""The camera of a set whose videos hold nothing."""


def write_set(robot: Robot, root: Path, *, unseen_camera: bool = False) -> int:
    """Write the recording as LeRobot v3.0 without pictures; return how many frames it has.

    With an unseen camera the set lists one and its video file is none: what opens no picture (`--quick`) then
    checks the recipe as well, which a set without cameras has not.
    """
    vector = {"dtype": "float32", "shape": [robot.dims], "names": list(robot.names)}
    cameras = {UNSEEN: {"dtype": "video", "shape": [SIDE, SIDE, 3]}} if unseen_camera else {}
    features = format_v3.all_features(cameras, {"observation.state": vector, "action": vector}, robot.fps, None)
    schema = format_v3.data_schema({"observation.state": vector, "action": vector})
    rows: list[dict[str, Any]] = []
    tasks = {task: number for number, task in enumerate(robot.tasks)}
    seen: list[str] = []
    start, file, in_file, writer = 0, 0, 0, None
    for episode, (state, action, task) in enumerate(record(robot)):
        length = len(state)
        if writer is None or in_file + length > ROWS_PER_FILE:
            if writer is not None:
                writer.close()
                file += 1
            in_file = 0
            path = root / format_v3.data_path(file)
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = pq.ParquetWriter(path, schema, compression="snappy")
        seen.append(task)
        columns: dict[str, Any] = {
            "observation.state": pa.FixedSizeListArray.from_arrays(state.ravel(), robot.dims),
            "action": pa.FixedSizeListArray.from_arrays(action.ravel(), robot.dims),
            "timestamp": (np.arange(length) / robot.fps).astype(np.float32),
            "frame_index": np.arange(length),
            "episode_index": np.full(length, episode),
            "index": np.arange(start, start + length),
            "task_index": np.full(length, tasks[task]),
        }
        writer.write_table(pa.table([columns[name] for name in schema.names], schema=schema))
        row: dict[str, Any] = {"episode_index": episode, "tasks": [task], "length": length}
        row |= format_v3.place("data", file) | {"dataset_from_index": start, "dataset_to_index": start + length}
        for camera in cameras:
            row |= format_v3.place(f"videos/{camera}", 0)
            times = {"from": start, "to": start + length}
            row |= {f"videos/{camera}/{end}_timestamp": frame / robot.fps for end, frame in times.items()}
        for name, values in (("observation.state", state), ("action", action)):
            row |= {f"stats/{name}/{key}": value.tolist() for key, value in number_stats(values).items()}
        rows.append(row | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0})
        start, in_file = start + length, in_file + length
    if writer is not None:
        writer.close()
    for camera in cameras:
        path = root / format_v3.video_path(camera, 0)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"nobody opens it")
    meta = root / "meta"
    (meta / "episodes" / "chunk-000").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), meta / "episodes" / "chunk-000" / "file-000.parquet")
    used = {task: number for task, number in tasks.items() if task in seen}
    pq.write_table(format_v3.task_table(used), meta / "tasks.parquet")
    info = format_v3.info(features, robot.fps, "made-up", 100, 200)
    info |= {"total_episodes": len(rows), "total_frames": start, "total_tasks": len(used)}
    (meta / "info.json").write_text(json.dumps(info | {"splits": {"train": f"0:{len(rows)}"}}))
    return start
