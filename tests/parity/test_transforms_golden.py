"""Normalisation, state bins, prompts and the resize equal what openpi recorded; LeRobot's bins are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pi05.data.prompt import discretize_state, format_prompt
from pi05.data.resize import resize_with_pad
from pi05.data.statistics import DimStats
from pi05.data.transforms import Normalizer

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "processing"
EXACT = 1e-15
"""Relative; the same float64 operations in the same order."""


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "normalize.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return json.loads((GOLDEN / "prompts.json").read_text())


@pytest.fixture(scope="module")
def stats(values: dict[str, np.ndarray]) -> DimStats:
    q01, q99 = values["q01"], values["q99"]
    return DimStats(mean=values["mean"], std=values["std"], min=q01, max=q99, q01=q01, q99=q99, count=1)


def test_normalisation_equals_openpi(values: dict[str, np.ndarray], stats: DimStats) -> None:
    np.testing.assert_allclose(Normalizer(stats, "QUANTILES").normalize(values["x"]), values["quantile"], rtol=EXACT)
    np.testing.assert_allclose(Normalizer(stats, "MEAN_STD").normalize(values["x"]), values["zscore"], rtol=EXACT)


def test_unnormalisation_equals_openpi(values: dict[str, np.ndarray], stats: DimStats) -> None:
    """openpi unnormalises the padded 32 dimensions; only the robot's own mean anything."""
    real = values["x32"][:, : stats.dim]
    for mode, name in (("QUANTILES", "unquantile32"), ("MEAN_STD", "unz32")):
        ours = Normalizer(stats, mode).unnormalize(real)
        np.testing.assert_allclose(ours, values[name][:, : stats.dim], rtol=EXACT)


@pytest.mark.parametrize(("name", "dtype"), [("state_bins_f64", np.float64), ("state_bins_f32", np.float32)])
def test_state_bins_equal_openpi(recorded: dict[str, Any], name: str, dtype: type) -> None:
    bins = discretize_state(np.array(recorded[name]["x"], dtype))
    assert bins.tolist() == recorded[name]["bin"]
    assert {-1, 0, 255} <= set(bins.tolist())


def test_prompts_equal_openpi(recorded: dict[str, Any]) -> None:
    formats = set()
    for case in recorded["prompts"]:
        prompt_format = "none" if case["state"] is None else "state"
        state = None if case["state"] is None else np.array(case["state"])
        assert format_prompt(case["prompt"], state, prompt_format) == case["text"]
        formats.add(prompt_format)
    assert formats == {"none", "state"}


@pytest.mark.parametrize("size", ["100x224", "333x217"])
def test_resize_equals_openpis_client(size: str) -> None:
    with np.load(GOLDEN / "resize.npz") as golden:
        np.testing.assert_array_equal(resize_with_pad(golden[f"in_{size}"], 224), golden[f"pil_{size}"])


@pytest.mark.parametrize("size", ["180x320", "480x640", "256x256", "100x224", "333x217", "224x224"])
def test_resize_equals_openpis_client_on_all_sizes(shared: Path, size: str) -> None:
    golden = np.load(shared / "golden" / "openpi" / "extras" / "resize.npz")
    np.testing.assert_array_equal(resize_with_pad(golden[f"in_{size}"], 224), golden[f"pil_{size}"])
