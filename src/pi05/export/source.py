"""What is exported: a policy from any readable folder, with what is known of where it came from.

Leaves out writing (`export.py`) and proving (`verify.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from pi05.checkpoint.file_fields import note_fields
from pi05.checkpoint.file_names import CONFIG
from pi05.checkpoint.locate import Location
from pi05.checkpoint.openpi.read import find_assets
from pi05.checkpoint.policy_folder import recorded_base, recorded_step
from pi05.checkpoint.policy_options import PolicyOptions
from pi05.checkpoint.sidecar import read_sidecar
from pi05.data.lerobot.provenance import DatasetFacts, camera_sizes
from pi05.files import read_notes
from pi05.model.config import ModelConfig
from pi05.policy import OpenedPolicy, open_policy

DATASET = "dataset.json"
"""What a run notes of its data set (`train/resume.py`)."""
DEFAULT_ASSET_ID = "pi05"


class _RunData(TypedDict, total=False):
    root: str | None


class _RunNotes(TypedDict, total=False):
    """`config.json` of a run, as far as an export looks into it."""

    dataset: _RunData | None


@dataclass(frozen=True, kw_only=True)
class Source(OpenedPolicy):
    """A policy in memory, in float32, and its origin."""

    step: int | None
    """Training step, where the folder tells."""
    base: Mapping[str, Any] | None
    """Path and hash of the weights that training started from, where the folder tells."""
    cameras: Mapping[str, tuple[int, int]]
    """Height and width of the cameras whose size is known."""
    asset_id: str
    """Name for openpi's statistics: the data set's."""
    dataset_root: Path | None = None
    """Where the run's data set was, for a checkpoint of a run."""

    @property
    def folder(self) -> Path:
        """The folder whose files describe the policy."""
        return self.location.folder

    @property
    def has_adapter(self) -> bool:
        """Say whether the source is an adapter on a base."""
        return self.location.adapter is not None


def open_source(
    location: Location,
    *,
    device: str = "cpu",
    base: str | Path | None = None,
    merge: bool = True,
    options: PolicyOptions | None = None,
    sizes: ModelConfig | None = None,
) -> Source:
    """Load the policy of a located checkpoint with float32 weights; an adapter stays unmerged with `merge=False`.

    `sizes` where the folder does not tell its head counts. Raises CheckpointError when it is no complete policy.
    """
    opened = open_policy(location, device, options=options, base=base, config=sizes, merge=merge)
    folder = location.folder
    run = _run_of(folder)
    data = note_fields(run / DATASET, DatasetFacts) if run is not None else {}
    config, sidecar, below = read_notes(folder / CONFIG), read_sidecar(folder) or {}, opened.receipt.base
    return Source(
        policy=opened.policy,
        receipt=opened.receipt,
        location=location,
        step=recorded_step(folder, config, sidecar),
        base=recorded_base(config, sidecar) if below is None else {"path": below.source, "sha256": below.sha256},
        cameras=_camera_sizes(config, sidecar, run, data),
        asset_id=_asset_id(folder, sidecar, data),
        dataset_root=_dataset_root(run),
    )


def _run_of(folder: Path) -> Path | None:
    """Return the run that a checkpoint belongs to."""
    parent = folder.resolve().parent
    return parent.parent if parent.name == "checkpoints" else None


def _dataset_root(run: Path | None) -> Path | None:
    root = None if run is None else (note_fields(run / CONFIG, _RunNotes).get("dataset") or {}).get("root")
    return None if root is None else Path(root)


def _camera_sizes(
    config: Mapping[str, Any], sidecar: Mapping[str, Any], run: Path | None, data: Mapping[str, Any]
) -> dict[str, tuple[int, int]]:
    """Return what is known of the cameras' sizes: from pi05.json, the run's notes, its data set, or the folder."""
    sizes = sidecar.get("cameras") or data.get("camera_sizes")
    if not sizes and run is not None:
        root = _dataset_root(run)
        sizes = {} if root is None else camera_sizes(read_notes(root / "meta" / "info.json").get("features"))
    if not sizes:
        sizes = camera_sizes(config.get("input_features"))
    return {str(key): (int(height), int(width)) for key, (height, width) in sizes.items()}


def _asset_id(folder: Path, sidecar: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    if sidecar.get("asset_id") is not None:
        return str(sidecar["asset_id"])
    kept = list(find_assets(folder)) if not data else []
    if len(kept) == 1:
        return kept[0]
    return str(data.get("name") or data.get("folder") or DEFAULT_ASSET_ID)
