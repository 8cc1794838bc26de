"""Prove that LeRobot itself opens the data sets that pi05 writes, and reads the same from them as pi05 does.

Writes two sets with `DatasetWriter` (five episodes, two cameras, three tasks, several files each; small and large
pictures), reads every frame and action chunk with LeRobot in its own Python 3.12 environment, and compares with pi05's
reader. LeRobot needs several GB and is never installed beside pi05:

    python benchmarks/open_with_lerobot.py --venv /tmp/lerobot-venv --python python3.12

The environment is made on the first run and used again later. The result goes to benchmarks/results/. With --dataset a
set that is there already is read instead, such as one that `pi05 collect --env=libero` has written:

    python benchmarks/open_with_lerobot.py --venv /tmp/lerobot-venv --dataset /tmp/demonstrations --name libero
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

REQUIREMENT = "lerobot[dataset]==0.6.1"
CAMERAS = ("observation.images.scene", "observation.images.wrist")
TASKS = ("put the red block on the blue plate", "push the cube", "öffne die Schublade")
HORIZON = 10
FPS = 10
SETS = {"small pictures (48x48, yuv444p)": (48, 48), "large pictures (240x320, yuv420p)": (240, 320)}


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, help="LeRobot's environment, outside the repository (default: temporary)")
    parser.add_argument("--python", default="python3.12", help="the Python 3.12 that makes the environment")
    parser.add_argument("--dataset", type=Path, help="a set that is there already, of at most a few hundred frames")
    parser.add_argument("--name", default="dataset", help="what the result calls that set")
    parser.add_argument("--read", nargs=2, metavar=("ROOT", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        read_with_lerobot(Path(arguments.read[0]), Path(arguments.read[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        python = environment(arguments.venv or Path(folder) / "venv", arguments.python)
        result: dict[str, Any] = {"date": date.today().isoformat(), "machine": machine(), "sets": {}}
        if arguments.dataset:
            out = Path(folder) / "read"
            subprocess.run([python, __file__, "--read", arguments.dataset, out], check=True)
            result["sets"][arguments.name] = compare(arguments.dataset, out)
            result["versions"] = json.loads((out / "versions.json").read_text()) | own_versions()
        for number, (name, size) in enumerate(() if arguments.dataset else SETS.items()):
            root, out = Path(folder) / f"set{number}", Path(folder) / f"read{number}"
            started = time.perf_counter()
            write(root, *size)
            seconds = time.perf_counter() - started
            subprocess.run([python, __file__, "--read", root, out], check=True)
            result["sets"][name] = compare(root, out) | codec_error(root) | {"seconds_to_write": round(seconds, 2)}
            result["versions"] = json.loads((out / "versions.json").read_text()) | own_versions()
    result["equal"] = all(report["equal"] for report in result["sets"].values())
    name = f"open_{arguments.name}_with_lerobot" if arguments.dataset else "open_with_lerobot"
    path = Path(__file__).parent / "results" / f"{name}_{result['date']}.json"
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print(path.read_text())
    if not result["equal"]:
        sys.exit("LeRobot and pi05 read different values")


def environment(folder: Path, python: str, requirement: str = REQUIREMENT, modules: str = "lerobot") -> Path:
    """Return the Python of an environment that holds LeRobot, making it, or adding what it lacks, if need be."""
    inside = folder / "bin" / "python"
    if not inside.exists():
        subprocess.run([python, "-m", "venv", folder], check=True)
    if subprocess.run([inside, "-c", f"import {modules}"], capture_output=True).returncode:
        subprocess.run([inside, "-m", "pip", "install", "-q", requirement], check=True)
    return inside


def write(root: Path, height: int, width: int) -> None:
    """Write a set with pi05: moving blocks on a gradient, file limits so low that several files are made."""
    from pi05.data.lerobot.writer import DatasetWriter

    features: dict[str, dict[str, Any]] = {
        camera: {"dtype": "video", "shape": [height, width, 3]} for camera in CAMERAS
    }
    features["observation.state"] = {"dtype": "float32", "shape": [6], "names": [f"joint_{i}" for i in range(6)]}
    features["action"] = {"dtype": "float32", "shape": [7], "names": [f"joint_{i}" for i in range(6)] + ["gripper"]}
    rng = np.random.default_rng(0)
    with DatasetWriter(root, FPS, features, "proof", data_file_mb=0.005, video_file_mb=0.001) as writer:
        for episode, length in enumerate((37, 12, 25, 61, 8)):
            for frame in range(length):
                images = {c: picture(episode, frame, k, height, width) for k, c in enumerate(CAMERAS)}
                values = {"observation.state": rng.normal(size=6), "action": rng.normal(size=7)}
                writer.add_frame(images, {name: value.astype(np.float32) for name, value in values.items()})
            writer.end_episode(TASKS[episode % len(TASKS)])


def picture(episode: int, frame: int, camera: int, height: int, width: int) -> np.ndarray:
    """Return a gradient with two coloured blocks whose place tells the frame."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(40, 200, width)[None]
    image[..., 1] = np.linspace(40, 200, height)[:, None]
    image[..., 2] = 90 + 60 * camera
    side = height // 6
    top, left = frame * 3 % (height - side), (frame * 5 + episode * 11) % (width - side)
    image[top : top + side, left : left + side] = (230, 30, 30)
    image[left % (height - side) :, :side][:side] = (20, 200, 60)
    return image


def read_with_lerobot(root: Path, out: Path) -> None:
    """Read every frame with LeRobot (runs inside LeRobot's environment) and save it."""
    import importlib.metadata

    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    info = json.loads((root / "meta" / "info.json").read_text())
    chunk = {"action": [step / info["fps"] for step in range(HORIZON)]}
    data = LeRobotDataset("local/proof", root=root, delta_timestamps=chunk, video_backend="pyav")
    items = [data[i] for i in range(len(data))]
    out.mkdir()
    arrays = {key: torch.stack([item[key] for item in items]).numpy() for key in items[0] if key != "task"}
    cameras = [name for name, feature in info["features"].items() if feature["dtype"] == "video"]
    for camera in cameras:  # LeRobot gives float [3, height, width] in 0..1, out of 8 bits
        arrays[camera] = np.round(arrays[camera] * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    np.savez(out / "frames.npz", **arrays)  # type: ignore[arg-type]
    (out / "tasks.json").write_text(json.dumps([item["task"] for item in items]))
    told = {key: np.asarray(data.meta.stats["action"][key]).tolist() for key in ("q01", "q99", "mean", "std")}
    about = {"episodes": data.num_episodes, "frames": data.num_frames, "fps": data.fps, "stats": told}
    (out / "about.json").write_text(json.dumps(about))
    names = ("lerobot", "torch", "av", "datasets", "pyarrow")
    versions = {f"lerobot's {name}" if name != "lerobot" else name: importlib.metadata.version(name) for name in names}
    (out / "versions.json").write_text(json.dumps(versions))


def compare(root: Path, out: Path) -> dict[str, Any]:
    """Compare LeRobot's read-out with pi05's and return the differences."""
    from pi05.data.lerobot.reader import Dataset

    data = Dataset(root)
    theirs, tasks = np.load(out / "frames.npz"), json.loads((out / "tasks.json").read_text())
    about = json.loads((out / "about.json").read_text())
    chunks = [data.action_chunk(i, HORIZON) for i in range(data.num_frames)]
    cameras = data.camera_keys
    pixels = {camera: np.stack([data.image(camera, i) for i in range(data.num_frames)]) for camera in cameras}
    actions = data.actions().astype(np.float64)
    stats = {"q01": np.quantile(actions, 0.01, axis=0), "q99": np.quantile(actions, 0.99, axis=0)}
    stats |= {"mean": actions.mean(0), "std": actions.std(0)}
    checks = {
        "episodes": about["episodes"] == data.num_episodes,
        "frames": about["frames"] == data.num_frames == len(tasks) and about["fps"] == data.fps,
        "states": bool(np.array_equal(theirs["observation.state"], data.states())),
        "action chunks": bool(np.array_equal(theirs["action"], np.stack([chunk for chunk, _ in chunks]))),
        "padding": bool(np.array_equal(theirs["action_is_pad"], np.stack([pad for _, pad in chunks]))),
        "tasks": tasks == [data.task(i) for i in range(data.num_frames)],
        "timestamps": theirs["timestamp"].tolist() == [data.timestamp(i) for i in range(data.num_frames)],
        "statistics": all(np.allclose(about["stats"][key], value, atol=1e-6) for key, value in stats.items()),
    }
    checks |= {f"pixels of {camera}": bool(np.array_equal(theirs[camera], pixels[camera])) for camera in cameras}
    return {
        "equal": all(checks.values()),
        "checks": checks,
        "episodes": data.num_episodes,
        "frames": data.num_frames,
        "data files": len(list(root.glob("data/*/*.parquet"))),
        "video files": len(list(root.glob("videos/*/*/*.mp4"))),
    }


def codec_error(root: Path) -> dict[str, Any]:
    """Return how far the pictures are from those that were given to the writer."""
    from pi05.data.lerobot.reader import Dataset

    data = Dataset(root)
    originals = written_pictures(data)
    errors = [
        np.abs(np.stack([data.image(camera, i) for i in range(data.num_frames)]).astype(int) - originals[camera]).mean()
        for camera in CAMERAS
    ]
    return {"mean pixel error of the codec (of 255)": round(float(np.mean(errors)), 3)}


def written_pictures(data: Any) -> dict[str, np.ndarray]:
    """Return the pictures that were given to the writer."""
    height, width = data.features[CAMERAS[0]]["shape"][:2]
    return {
        camera: np.stack(
            [picture(e.index, f, k, height, width) for e in data.episodes for f in range(e.length)],
        ).astype(int)
        for k, camera in enumerate(CAMERAS)
    }


def machine() -> dict[str, Any]:
    """Return what the numbers were measured on."""
    import os

    return {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()}


def own_versions() -> dict[str, str]:
    """Return the versions on pi05's side."""
    import av
    import pyarrow

    import pi05

    return {"pi05": pi05.__version__, "python": platform.python_version(), "av": av.__version__} | {
        "pyarrow": pyarrow.__version__
    }


if __name__ == "__main__":
    main()
