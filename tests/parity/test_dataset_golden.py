"""The reader against LeRobot 0.6.2's own read-out of real data sets: exactly equal, pixels included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pi05.data.lerobot.reader import Dataset
from pi05.errors import DataError

HORIZON = 10
PIXELS = ((0, 0), (240, 320), (100, 500), (479, 639))
"""(row, column) of the four pixels in the golden file, found by matching."""
MEAN_TOLERANCE = 1e-7
"""LeRobot's mean of a picture is a float32 sum over 307,200 pixels."""
TOP = "observation.images.top"

GOLDEN = {
    "cr5_v30_5ep_onefile": "lerobot062_cr5_v30_onefile.json",
    "cr5_v30_5ep_multifile_quantiles": "lerobot062_cr5_v30_multifile.json",
    # The v3.0 sets were converted from this one without encoding anew, so that its read-out is the same.
    "cr5_v21_5ep": "lerobot062_cr5_v30_onefile.json",
}


@pytest.fixture(params=GOLDEN)
def golden(request: pytest.FixtureRequest, shared: Path) -> tuple[Dataset, dict[str, Any]]:
    readout = json.loads((shared / "golden" / "dataset" / GOLDEN[request.param]).read_text())
    return Dataset(shared / "datasets" / request.param), readout["pyav"]


def test_sizes(golden: tuple[Dataset, dict[str, Any]]) -> None:
    data, readout = golden
    assert (data.num_frames, data.num_episodes) == (readout["len"], readout["num_episodes"])
    assert (data.fps, data.state_dim, data.action_dim, data.camera_keys) == (10, 6, 7, [TOP])
    assert data.action_names[-1] == "gripper"


def test_frames_are_equal(golden: tuple[Dataset, dict[str, Any]]) -> None:
    data, readout = golden
    assert len(readout["items"]) == 11
    for item in readout["items"]:
        frame = data.frame(item["i"])
        assert frame["observation.state"].dtype == np.float32
        assert frame["observation.state"].tolist() == item["state"]
        assert (frame["task"], frame["timestamp"]) == (item["task"], item["ts"])
        assert (frame["episode_index"], frame["frame_index"]) == (item["episode"], item["frame"])
        actions, is_pad = data.action_chunk(item["i"], HORIZON)
        assert actions.tolist() == item["action"]
        assert is_pad.tolist() == item["pad"]


def test_pixels_are_equal(golden: tuple[Dataset, dict[str, Any]]) -> None:
    data, readout = golden
    # Backwards and forwards: what a frame looks like must not depend on where the decoder was before.
    for item in [*readout["items"], *reversed(readout["items"])]:
        image = data.image(TOP, item["i"])
        assert list(image.shape) == [*item["img_shape"][1:], item["img_shape"][0]]
        assert [(image[pixel] / np.float32(255)).tolist() for pixel in PIXELS] == item["img_px"]
        mean = (image / 255).mean(axis=(0, 1))
        np.testing.assert_allclose(mean, item["img_mean"], rtol=0, atol=MEAN_TOLERANCE)


def test_sequential_decoding_gives_the_same_pixels(golden: tuple[Dataset, dict[str, Any]]) -> None:
    data, readout = golden
    items = {item["i"]: item for item in readout["items"] if item["episode"] == 4}
    seen = 0
    for number, image in enumerate(data.iter_frames(TOP, 4), start=data.episodes[4].start):
        seen += 1
        if number in items:
            assert [(image[pixel] / np.float32(255)).tolist() for pixel in PIXELS] == items[number]["img_px"]
    assert seen == data.episodes[4].length


def test_a_bad_clock_is_refused_unless_allowed(shared: Path) -> None:
    root = shared / "datasets" / "cr5_v21_5ep_badclock"
    with pytest.raises(DataError, match=r"(?s)episode 0, frame 1: .*episode_000000\.parquet.*--allow='\[timestamps\]'"):
        Dataset(root)
    allowed, repaired = Dataset(root, allow=["timestamps"]), Dataset(shared / "datasets" / "cr5_v21_5ep")
    assert any("do not start at time 0" in note for note in allowed.notes)
    np.testing.assert_array_equal(allowed.states(), repaired.states())
    np.testing.assert_array_equal(allowed.image(TOP, 300), repaired.image(TOP, 300))


def test_a_ghost_camera_is_refused_unless_dropped(shared: Path) -> None:
    root = shared / "datasets" / "gr1_sim_v20_5ep"
    ghost = "observation.images.egoview"
    with pytest.raises(DataError, match=rf"(?s)camera {ghost} .*episode_000000\.mp4.*--drop_cameras='\[{ghost}\]'"):
        Dataset(root)
    data = Dataset(root, drop_cameras=[ghost])
    assert data.camera_keys == ["observation.images.ego_view"]
    assert (data.num_episodes, data.num_frames, data.state_dim, data.version) == (5, 2096, 44, "v2.0")
    assert any("path templates do not match" in note for note in data.notes)
    assert data.episodes[2].tasks == ("pick the meat from the counter and place it in the plate",)
    assert data.task(data.num_frames - 1).startswith("pick the cupcake")
    last = data.frame(data.num_frames - 1)
    assert last["observation.images.ego_view"].shape == (256, 256, 3)
    np.testing.assert_array_equal(last["action"], data.actions()[-1])
    assert last["next.done"]


def test_metadata_without_data_is_refused(shared: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)data file of episode 0 .*episode_000000\.parquet.*1693 of 1693"):
        Dataset(shared / "datasets" / "libero_v21_meta_only")
