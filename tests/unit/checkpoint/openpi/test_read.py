"""openpi's folders as policies: what they tell, what the caller has to tell, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import write_byte_tokenizer

from pi05.checkpoint.openpi.read import find_assets, read_norm_stats, read_openpi
from pi05.checkpoint.policy_options import PolicyOptions, ProcessorSource
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig

SIZES = ModelConfig(vocab_size=512)


def numbers(*dims: int, low: float = -1.0) -> dict[str, Any]:
    state, actions = dims
    one = {"mean": [0.1], "std": [0.5], "q01": [low], "q99": [1.0]}
    return {
        key: {name: value * dim for name, value in one.items()} for key, dim in (("state", state), ("actions", actions))
    }


def write_stats(folder: Path, asset_id: str = "lab/robot", stats: dict[str, Any] | None = None) -> Path:
    path = folder / "assets" / asset_id / "norm_stats.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"norm_stats": stats or numbers(8, 7)}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "exp" / "29999"
    write_byte_tokenizer(folder / "tokenizer.json")
    return folder


def read(folder: Path, told: dict[str, int] | None = None, **options: Any) -> ProcessorSource:
    chosen = {"prompt_format": "none", "horizon": 10} | options
    return read_openpi(folder, SIZES, PolicyOptions(**chosen), told or {})


def test_a_folder_with_all_that_it_has_to_be_told(folder: Path) -> None:
    write_stats(folder)
    source = read(folder, rename_map={"front": "base_0_rgb", "hand": "left_wrist"}, relative_mask=(*[True] * 6, False))
    processor = source.processor
    assert processor.slots.by_slot == {
        "scene": "observation.images.front",
        "left_wrist": "observation.images.hand",
        "right_wrist": None,
    }
    assert (processor.state_dim, processor.robot_action_dim, processor.horizon, processor.fps) == (8, 7, 10, None)
    assert (processor.prompt_format, processor.formula) == ("none", "openpi")
    assert processor.resize == "pil-bilinear-antialias-pad"
    assert processor.relative_mask == (*[True] * 6, False)
    assert processor.state_stats.known == ["mean", "std", "q01", "q99"]
    assert source.notes == ["control rate: openpi's folders do not tell it"]


def test_what_is_decided_without_being_told_is_noted(folder: Path) -> None:
    write_stats(folder)
    source = read(folder)
    names = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
    assert source.processor.slots.keys == tuple(f"observation.images.{name}" for name in names)
    assert source.processor.relative_mask is None
    assert [note.partition(":")[0] for note in source.notes] == ["relative actions", "control rate", "cameras"]


@pytest.mark.parametrize(
    ("missing", "parts"),
    [("prompt_format", ["none for pi05_libero", "state for pi05_droid"]), ("horizon", ["10 for pi05_libero", "50"])],
)
def test_prompt_and_horizon_have_to_be_told(folder: Path, missing: str, parts: list[str]) -> None:
    write_stats(folder)
    with pytest.raises(CheckpointError) as error:
        read(folder, **{missing: None})
    assert all(part in str(error.value) for part in parts)
    assert read(folder, {"horizon": 16}, horizon=None).processor.horizon == 16, "as openpi's converter writes it"


def test_the_sidecar_tells_all(folder: Path) -> None:
    write_stats(folder)
    slots = {"scene": "observation.images.top", "left_wrist": None, "right_wrist": None, "dropped": []}
    sidecar = {
        "format": "pi05-export", "format_version": 1, "fps": 20, "n_action_steps": 4, "prompt_format": "state",
        "model": {"horizon": 12}, "slots": slots, "relative_mask": None, "action_names": list("abcdefg"),
    }  # fmt: skip
    (folder / "pi05.json").write_text(json.dumps(sidecar))
    source = read(folder, prompt_format=None, horizon=None)
    processor = source.processor
    assert (processor.fps, processor.horizon, processor.prompt_format, source.n_action_steps) == (20.0, 12, "state", 4)
    assert processor.slots.keys == ("observation.images.top",)
    assert processor.action_names == tuple("abcdefg")
    assert source.notes == []


def test_assets_beside_the_folder_as_the_converter_leaves_them(folder: Path) -> None:
    path = write_stats(folder.parent, "physical-intelligence/libero")
    assert find_assets(folder) == {"physical-intelligence/libero": path}
    own = write_stats(folder)
    assert find_assets(folder) == {"lab/robot": own}, "its own go first"


def test_several_robots(folder: Path) -> None:
    write_stats(folder, "trossen", numbers(14, 14))
    write_stats(folder, "lab/droid")
    for asset_id in (None, "franka"):
        with pytest.raises(CheckpointError, match="lab/droid, trossen") as error:
            read(folder, asset_id=asset_id)
        assert "--asset_id" in str(error.value)
    assert read(folder, asset_id="trossen", adapt_to_pi=False).processor.state_dim == 14


def test_no_statistics(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="no statistics"):
        read(folder)


def test_no_quantiles(folder: Path) -> None:
    """As openpi writes them for π₀: null."""
    stats = numbers(8, 7)
    stats["actions"]["q01"] = None
    write_stats(folder, stats=stats)
    with pytest.raises(CheckpointError, match="no q01"):
        read(folder)


@pytest.mark.parametrize("bad", [[float("nan")] * 8, [0.0] * 7, [[0.0] * 8]])
def test_damaged_numbers(folder: Path, bad: list[Any]) -> None:
    stats = numbers(8, 7)
    stats["state"]["q01"] = bad
    write_stats(folder, stats=stats)
    with pytest.raises(CheckpointError, match=r"statistics of state|norm_stats"):
        read(folder)


@pytest.mark.parametrize("mask", [(True,) * 6, (True,) * 7])
def test_a_mask_that_does_not_fit(folder: Path, mask: tuple[bool, ...]) -> None:
    write_stats(folder, stats=numbers(6, 7))
    with pytest.raises(CheckpointError, match="mask"):
        read(folder, relative_mask=mask)


def test_padding_of_published_statistics(tmp_path: Path) -> None:
    stats = numbers(32, 32)
    for group in stats.values():
        for values in group.values():
            values[8:] = [0.0] * 24
        group["q01"][3] = 0.0  # a zero inside is no padding
    notes: list[str] = []
    state, actions = read_norm_stats(write_stats(tmp_path, stats=stats), notes)
    assert (state.dim, actions.dim) == (8, 8)
    assert notes == [
        f"{key}: 8 of 32 dimensions; the others hold zeros and are padding" for key in ("state", "actions")
    ]


@pytest.mark.parametrize(
    ("name", "dims"),
    [("yaneosian_libero", (8, 7)), ("zhekai_ur", (7, 7)), ("haomin1010_droid", (8, 8)), ("zwbx_pi05_libero", (8, 7))],
)
def test_statistics_from_the_wild(shared: Path, name: str, dims: tuple[int, int]) -> None:
    path = shared / "checkpoint_json" / "openpi_norm_stats" / name / "norm_stats.json"
    state, actions = read_norm_stats(path, [])
    assert (state.dim, actions.dim) == dims
    stored = json.loads(path.read_text())["norm_stats"]["state"]["q99"]
    np.testing.assert_array_equal(state.value("q99"), stored[: dims[0]])
