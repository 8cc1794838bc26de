"""An openpi folder with ALOHA's numbers is read only when somebody says that they are the robot's own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import write_byte_tokenizer

from pi05.checkpoint.openpi.read import read_openpi, read_statistics
from pi05.checkpoint.openpi.write import openpi_note
from pi05.checkpoint.policy_options import PolicyOptions
from pi05.checkpoint.sidecar import write_sidecar
from pi05.data.processor import Processor
from pi05.data.statistics import DimStats
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig
from pi05.policy import Policy
from pi05.train.config import TINY_BASE


def written(path: Path, state: int, action: int) -> Path:
    """Write the small files of an openpi folder."""
    write_byte_tokenizer(path / "tokenizer.json")
    stats = {
        key: {"mean": [0.1] * dim, "std": [0.5] * dim, "q01": [-1.0] * dim, "q99": [1.0] * dim}
        for key, dim in (("state", state), ("actions", action))
    }
    (path / "assets" / "trossen").mkdir(parents=True)
    (path / "assets" / "trossen" / "norm_stats.json").write_text(json.dumps({"norm_stats": stats}))
    return path


def read(folder: Path, **options: Any) -> Processor:
    told = PolicyOptions(prompt_format="state", horizon=50, **options)
    return read_openpi(folder, ModelConfig(vocab_size=512), told, {}).processor


def test_nothing_told_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="joints are flipped") as error:
        read(written(tmp_path / "step", 14, 14))
    assert "adapt_to_pi=False" in error.value.remedy


def test_a_policy_that_needs_the_map_is_refused_whatever_its_size(tmp_path: Path) -> None:
    for name, dims in (("aloha", (14, 14)), ("other", (8, 7))):
        with pytest.raises(CheckpointError, match="pi05 has no joint flip"):
            read(written(tmp_path / name, *dims), adapt_to_pi=True)


def test_the_robots_own_numbers_are_read(tmp_path: Path) -> None:
    assert read(written(tmp_path / "told", 14, 14), adapt_to_pi=False).state_dim == 14
    assert read(written(tmp_path / "arm", 14, 7)).robot_action_dim == 7, "two sizes are no ALOHA"


def test_what_pi05_exported_has_no_map(tmp_path: Path) -> None:
    folder = written(tmp_path / "step", 14, 14)
    write_sidecar(folder, {"model": ModelConfig(vocab_size=512).to_dict()})
    with pytest.raises(CheckpointError, match="joints are flipped"):
        read(folder)
    write_sidecar(folder, {"layout": "openpi"})
    assert read(folder).state_dim == 14


def test_mapped_statistics_are_not_given_to_data_without_the_map(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="joint flip") as error:
        read_statistics(written(tmp_path / "base", 14, 14), None)
    assert error.value.remedy == "use --stats recompute"
    assert read_statistics(written(tmp_path / "arm", 8, 7), None)[0].dim == 8


def test_other_folders_tell_it_themselves() -> None:
    with pytest.raises(CheckpointError, match="adapt_to_pi cannot be told here"):
        Policy.load(TINY_BASE, adapt_to_pi=False)


def test_the_exports_note_warns_of_openpis_own_transforms() -> None:
    processor = Policy.load(TINY_BASE).processor
    assert "adapt_to_pi" not in openpi_note(processor, "arm")
    one = np.ones(14)
    stats = DimStats(count=1, mean=0 * one, std=one, min=-one, max=one, q01=-one, q99=one)
    both = replace(processor, state_stats=stats, action_stats=stats, relative_mask=None)
    assert "adapt_to_pi=False" in openpi_note(replace(both, state_names=(), action_names=()), "arm")
