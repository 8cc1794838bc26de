"""Export: the folder on disk is the policy, or there is no folder. On the packaged network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exports import LAYOUTS, everything, silent
from full_disk import largest_file
from safetensors.torch import load_file

from pi05.checkpoint.locate import locate
from pi05.checkpoint.sidecar import SIDECAR, read_sidecar
from pi05.checkpoint.tensors import hash_file
from pi05.errors import CheckpointError, ConfigError
from pi05.export.export import ExportResult, export_policy
from pi05.export.probe import PROBE
from pi05.export.relocate import relocate
from pi05.export.verify import verify
from pi05.policy import Policy
from pi05.train.config import TINY_BASE

# --- what is written --------------------------------------------------------------------------------------------------


def test_files_of_each_layout(exported: dict[str, Path]) -> None:
    both = {"config.json", "model.safetensors", SIDECAR, PROBE}
    assert everything(exported["pi05"]) == both | {"tokenizer.json"}
    assert everything(exported["openpi"]) == both | {"tokenizer.json", "OPENPI.md", "assets/pi05/norm_stats.json"}
    assert everything(exported["lerobot"]) == both | {
        *("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"),
        *("policy_preprocessor.json", "policy_preprocessor_step_3_normalizer_processor.safetensors"),
        *("policy_postprocessor.json", "policy_postprocessor_step_0_unnormalizer_processor.safetensors"),
    }


@pytest.mark.parametrize("to", LAYOUTS)
def test_the_folder_acts_as_the_source(exported: dict[str, Path], to: str) -> None:
    """On questions of its own, not on the probe: cameras, state, task and noise go in, robot actions come out."""
    ours, theirs = Policy.load(TINY_BASE), Policy.load(exported[to])
    assert theirs.n_action_steps == ours.n_action_steps
    assert theirs.fps == ours.fps
    assert theirs.processor.slots.by_slot == ours.processor.slots.by_slot
    random = np.random.default_rng(3)
    keys, side = ours.processor.slots.keys, ours.processor.image_size
    observations = [
        {key: random.integers(0, 256, (side, side, 3), np.uint8) for key in keys}
        | {"observation.state": random.uniform(-0.1, 0.1, 3).astype(np.float32), "task": f"push block {i}"}
        for i in range(3)
    ]
    noise = torch.randn(3, *ours.noise_shape, generator=torch.Generator().manual_seed(0))
    for a, b in zip(
        ours.infer_batch(observations, noise), theirs.infer_batch(observations, noise.clone()), strict=True
    ):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-6)


def test_the_sidecar_tells_where_it_comes_from(exported: dict[str, Path]) -> None:
    facts = read_sidecar(exported["lerobot"])
    assert facts is not None
    weights = hash_file(TINY_BASE / "model.safetensors")
    source = {"path": str(TINY_BASE), "step": 8000, "sha256": weights, "layout": "pi05", "revision": None}
    assert facts["source"] == source
    assert (facts["layout"], facts["dtype"], facts["fps"], facts["prompt_format"]) == (
        "lerobot",
        "float32",
        10,
        "state",
    )
    assert set(facts["files"]) == everything(exported["lerobot"]) - {SIDECAR}
    assert "normalised actions move by up to" in facts["notes"][-1]


@pytest.mark.parametrize(
    ("to", "first"), [("lerobot", "LeRobot 0.6.0"), ("openpi", "openpi 15a9616a"), ("pi05", "pi05 ")]
)
def test_the_folder_tells_what_it_was_made_for(exported: dict[str, Path], to: str, first: str) -> None:
    facts = read_sidecar(exported[to])
    assert facts is not None
    assert facts["made_for"][0].startswith(first)


@pytest.mark.parametrize(
    ("size", "noted"), [([48, 48], None), ([96, 128], "pictures of 96 × 128 pixels"), (None, "(assumed) pixels")]
)
def test_lerobots_resize_is_measured_where_it_takes_part(tmp_path: Path, size: Any, noted: str | None) -> None:
    """The cameras' sizes are those that the run noted of its data set."""
    source = Path(shutil.copytree(TINY_BASE, tmp_path / "run" / "checkpoints" / "000001"))
    keys = ("observation.images.scene", "observation.images.wrist")
    facts = {"name": "lab/cubes", "camera_sizes": dict.fromkeys(keys, size) if size else {}}
    (tmp_path / "run" / "dataset.json").write_text(json.dumps(facts))
    notes = [
        note
        for note in export_policy(locate(source), tmp_path / "out", to="lerobot", say=silent).notes
        if "resizes pictures" in note
    ]
    assert len(notes) == (noted is not None)
    if noted is not None:
        assert noted in notes[0]
        moved = float(notes[0].rpartition("up to ")[2])
        assert 1e-4 < moved < 1
    stored = read_sidecar(tmp_path / "out")
    assert stored is not None
    assert stored["asset_id"] == "lab/cubes"


def test_a_chain_through_all_layouts_ends_where_it_began(exported: dict[str, Path], tmp_path: Path) -> None:
    """pi05 → openpi → pi05: weights, statistics, names, units; what openpi's files do not tell is in pi05.json."""
    export_policy(locate(exported["openpi"]), tmp_path / "back", to="pi05", say=silent)
    before, after = Policy.load(TINY_BASE).processor, Policy.load(tmp_path / "back").processor
    unknown = {"min": None, "max": None, "count": 0}  # openpi keeps no extremes
    wanted = before.to_dict()
    wanted["state_stats"] |= unknown
    wanted["action_stats"] |= unknown
    assert after.to_dict() == wanted


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """A LeRobot folder in bfloat16, whose tokenizer is named by a repository."""
    out = tmp_path_factory.mktemp("half") / "out"
    return export_policy(locate(TINY_BASE), out, to="lerobot", dtype="bfloat16", tokenizer_name="lab/arm", say=silent)


def test_bfloat16_is_measured_and_smaller(exported: dict[str, Path], half: ExportResult) -> None:
    facts = read_sidecar(half.folder)
    assert facts is not None
    assert 1e-5 < facts["rounding"]["normalised_actions"] < facts["rounding"]["limit"] == 0.05
    assert half.bytes < sum(path.stat().st_size for path in exported["lerobot"].rglob("*.safetensors"))
    verify(half.folder, say=silent)  # against its own stored actions to 1e-4, against the source to the limit
    kinds = {str(tensor.dtype) for tensor in load_file(half.folder / "model.safetensors").values()}
    assert kinds == {"torch.float32", "torch.bfloat16"}


def test_a_repository_as_the_tokenizers_name(half: ExportResult) -> None:
    assert {"tokenizer.json", "tokenizer_config.json", "tokenizer/tokenizer.json"} <= everything(half.folder)
    assert '"tokenizer_name": "lab/arm"' in (half.folder / "policy_preprocessor.json").read_text()
    assert relocate(half.folder) == []  # a repository's name is no path


def test_rounding_above_its_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pi05.export.export.limit_for", lambda dtype: 1e-9)
    with pytest.raises(CheckpointError, match="rounding the weights to bfloat16 changes the policy"):
        export_policy(locate(TINY_BASE), tmp_path / "out", to="lerobot", dtype="bfloat16", say=silent)
    assert list(tmp_path.iterdir()) == []


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "openpi", "adapter_only": True}, "no adapters"),
        ({"to": "pi05", "adapter_only": True, "dtype": "bfloat16"}, "copied as it is"),
        ({"to": "openpi", "tokenizer_name": "a/b"}, "only LeRobot names"),
        ({"to": "lerobot", "asset_id": "arm"}, "openpi's statistics"),
        ({"to": "openpi", "asset_id": "../arm"}, "asset id"),
        ({"to": "lerobot", "base_name": "a/b"}, "for --adapter_only"),
        ({"to": "lerobot", "with_base": True}, "for --to=lerobot --adapter_only"),
        ({"to": "lerobot", "adapter_only": True, "with_base": True, "base_name": "a/b"}, "names another base"),
        ({"to": "lerobot", "dtype": "float16"}, "precision is unknown"),
        ({"to": "lerobot", "adapter_only": True}, "no adapter to export"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        export_policy(locate(TINY_BASE), tmp_path / "out", say=silent, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_policy_that_lerobot_cannot_be(tmp_path: Path) -> None:
    source = Path(shutil.copytree(TINY_BASE, tmp_path / "source"))
    config = json.loads((source / "config.json").read_text())
    config["processor"]["prompt_format"] = "none"
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="LeRobot cannot run this policy"):
        export_policy(locate(source), tmp_path / "out", to="lerobot", say=silent)
    assert not (tmp_path / "out").exists()


def test_what_is_there_stays(exported_copy: Path) -> None:
    before = {name: hash_file(exported_copy / name) for name in everything(exported_copy)}
    with pytest.raises(CheckpointError, match="exists already"):
        export_policy(locate(TINY_BASE), exported_copy, to="lerobot", say=silent)
    assert {name: hash_file(exported_copy / name) for name in everything(exported_copy)} == before


@pytest.mark.parametrize("to", LAYOUTS)
def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, to: Any) -> None:
    with largest_file(2**20), pytest.raises(CheckpointError, match="nothing of it is left"):
        export_policy(locate(TINY_BASE), tmp_path / "out", to=to, say=silent)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        if line.startswith("files"):  # all is written, and the proof begins
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_policy(locate(TINY_BASE), tmp_path / "out", to="lerobot", say=interrupt)
    assert list(tmp_path.iterdir()) == []
