"""Break a data set from `fakes.write_dataset` in one place, and read the error that comes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import CAMERAS, FakeDataset

from pi05.data.lerobot import Dataset
from pi05.errors import DataError


def edit_info(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def edit_table(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def replace(table: pa.Table, name: str, column: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def data_file(fake: FakeDataset, number: int) -> Path:
    name = f"file-{number:03d}" if fake.version == "v3.0" else f"episode_{number:06d}"
    return fake.root / "data/chunk-000" / f"{name}.parquet"


def video_file(fake: FakeDataset, number: int, camera: str = CAMERAS[0]) -> Path:
    if fake.version == "v3.0":
        return fake.root / "videos" / camera / f"chunk-000/file-{number:03d}.mp4"
    return fake.root / "videos/chunk-000" / camera / f"episode_{number:06d}.mp4"


def make_policy(tokenizer: Path, *, seed: int = 0, **changes: Any) -> Any:
    """Return an untrained tiny policy for the table-top robot; `changes` go to its processor."""
    import torch

    from pi05.data.processor import Processor
    from pi05.data.robots import assign_slots
    from pi05.data.stats import DimStats
    from pi05.data.tokenizer import Tokenizer
    from pi05.model.config import tiny
    from pi05.model.pi05 import Pi05
    from pi05.policy import Policy

    low, high = np.array([-0.2, -0.2, 0.0]), np.array([0.2, 0.2, 1.0])
    stats = DimStats(mean=(low + high) / 2, std=(high - low) / 4, min=low, max=high, q01=low, q99=high, count=100)
    config = tiny()
    settings: dict[str, Any] = {
        "slots": assign_slots(CAMERAS),
        "state_stats": stats,
        "action_stats": stats,
        "tokenizer": Tokenizer.load(tokenizer),
        "image_size": config.image_size,
        "action_dim": config.action_dim,
        "horizon": config.horizon,
        "max_prompt_tokens": config.max_prompt_tokens,
        "fps": 10.0,
        "state_names": ("x_m", "y_m", "opening"),
        "action_names": ("x_m", "y_m", "opening"),
    }
    model = Pi05(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():  # no branch closed, so that every input counts
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return Policy(model.eval(), Processor(**(settings | changes)))


def save_policy(folder: Path, policy: Any, **config: Any) -> Path:
    """Write the policy as a checkpoint folder, as training does."""
    from pi05.checkpoint.store import Checkpoint, save_checkpoint

    tokenizer = policy.processor.tokenizer
    settings = {
        "model": policy.model.config.to_dict(),
        "processor": policy.processor.to_dict(),
        "base": {"path": "nowhere", "sha256": "0" * 64},
        "step": 7,
        "pi05_version": "0.1.0",
        "fps": policy.fps,
    }
    weights = {name: value.detach().clone() for name, value in policy.model.state_dict().items()}
    checkpoint = Checkpoint(
        config=settings | config,
        weights=weights,
        tokenizer_name=tokenizer.file_name,
        tokenizer_bytes=tokenizer.file_bytes(),
    )
    return save_checkpoint(folder, checkpoint)


def refusal(root: Path, *parts: str, **options: Any) -> str:
    """Open the set, expect a DataError that holds all `parts` and a remedy, and return its text."""
    with pytest.raises(DataError) as caught:
        Dataset(root, **options)
    text = str(caught.value)
    assert re.search(r"to do: +\S", text)
    for part in parts:
        assert part in text, text
    return text


def refusal_of_frame(root: Path, i: int, *parts: str) -> None:
    """The same for a set that opens, and whose frame i cannot be read."""
    data = Dataset(root)
    with pytest.raises(DataError) as caught:
        data.image(CAMERAS[0], i)
    for part in parts:
        assert part in str(caught.value), str(caught.value)
    assert re.search(r"to do: +\S", str(caught.value))
    episode = max(e.index for e in data.episodes if e.start <= i)
    with pytest.raises(DataError, match=f"episode {episode}"):
        list(data.iter_frames(CAMERAS[0], episode))
