"""An openpi folder's statistics, and what its code knows and the folder does not, as one of our processors.

openpi keeps cameras, horizon, prompt and relative actions in its training configurations, not beside the weights. So
the caller tells them, or `pi05.json` does where `pi05 export` wrote the folder. Statistics lie in
`assets/ASSET_ID/norm_stats.json`, in the folder or (as openpi's converter leaves it) in the one above it; an asset id
may contain "/". openpi normalises π₀.₅ by quantiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from pi05.checkpoint.file_fields import NormStats, read_fields
from pi05.checkpoint.openpi.aloha import require_own_units, require_statistics_of_own_units
from pi05.checkpoint.plausible import require_plausible
from pi05.checkpoint.policy_options import (
    PolicyOptions,
    ProcessorSource,
    as_prompt_format,
    find_tokenizer,
    rename_cameras,
)
from pi05.checkpoint.sidecar import SIDECAR, read_columns, read_sidecar
from pi05.data.cameras import DROP, OPENPI_SLOTS, CameraSlots
from pi05.data.processor import Processor
from pi05.data.prompt import PromptFormat
from pi05.data.statistics import DimStats
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig
from pi05.types import IMAGE_PREFIX

ASSETS, NORM_STATS = "assets", "norm_stats.json"
NAMES = ("mean", "std", "q01", "q99")
CHOICES = "none for pi05_libero; state for pi05_droid, pi05_aloha and openpi's default"
HORIZONS = "10 for pi05_libero, 15 for pi05_droid, 16 for its fine-tunes, 50 for pi05_aloha and openpi's default"


def read_openpi(folder: Path, sizes: ModelConfig, options: PolicyOptions, told: Mapping[str, int]) -> ProcessorSource:
    """Return the processor of an openpi folder, PyTorch or JAX, for a network of these sizes.

    `told` holds the sizes that the folder tells, the horizon among them or not. Raises CheckpointError.
    """
    sidecar = read_sidecar(folder) or {}
    notes: list[str] = []
    state, action = read_norm_stats(_choose_asset(folder, options.asset_id), notes)
    require_own_units(state, action, options.adapt_to_pi, read_sidecar(folder))
    prompt_format = _prompt_format(sidecar, options)
    fps = sidecar.get("fps")
    mask = options.relative_mask
    if mask is None and sidecar.get("relative_mask") is not None:
        mask = tuple(bool(entry) for entry in sidecar["relative_mask"])
    if mask is None and "relative_mask" not in sidecar:
        notes.append("relative actions: openpi's folders do not tell; all are taken as absolute (relative_mask=…)")
    if fps is None:
        notes.append("control rate: openpi's folders do not tell it")
    _require_mask(mask, state.dim, action.dim)
    state_columns, action_columns = read_columns(sidecar, folder, state.dim, action.dim)
    processor = Processor(
        slots=_cameras(sidecar, options, notes),
        state_stats=state,
        action_stats=action,
        tokenizer=find_tokenizer(folder, None, options.tokenizer_path, sizes),
        image_size=sizes.image_size,
        action_dim=sizes.action_dim,
        horizon=_horizon(sidecar, options, told),
        max_prompt_tokens=sizes.max_prompt_tokens,
        fps=None if fps is None else float(fps),
        action_names=tuple(sidecar.get("action_names") or ()),
        state_names=tuple(sidecar.get("state_names") or ()),
        state_columns=state_columns,
        action_columns=action_columns,
        prompt_format=prompt_format,
        relative_mask=mask,
    )
    executed = sidecar.get("n_action_steps")
    return ProcessorSource(
        processor=processor,
        n_action_steps=None if executed is None else int(executed),
        max_delay=sidecar.get("rtc_max_delay") or 0,
        notes=notes,
    )


def find_assets(folder: Path) -> dict[str, Path]:
    """Return asset id → statistics file, of the folder or else of the one above it."""
    for root in (folder / ASSETS, folder.parent / ASSETS):
        found = {file.parent.relative_to(root).as_posix(): file for file in sorted(root.rglob(NORM_STATS))}
        if found:
            return found
    return {}


def _choose_asset(folder: Path, asset_id: str | None) -> Path:
    assets = find_assets(folder)
    if not assets:
        raise CheckpointError(
            "the folder holds weights but no statistics, so that it is no policy",
            wanted=f"{ASSETS}/ASSET_ID/{NORM_STATS} in {folder} or in the folder above it",
            found="none",
            remedy="copy the assets folder of the checkpoint too; openpi's converter leaves it in the JAX folder",
        )
    if asset_id is None and len(assets) == 1:
        return next(iter(assets.values()))
    if asset_id not in assets:
        raise CheckpointError(
            "the checkpoint has statistics of several robots"
            if asset_id is None
            else f"the checkpoint has no statistics called {asset_id}",
            wanted=f"one of {', '.join(assets)}",
            found="none chosen" if asset_id is None else asset_id,
            remedy="choose one: --asset_id=…",
        )
    return assets[asset_id]


def read_statistics(folder: Path, asset_id: str | None) -> tuple[DimStats, DimStats]:
    """Return the statistics of state and actions in an openpi folder. Raises CheckpointError."""
    state, action = read_norm_stats(_choose_asset(folder, asset_id), [])
    require_statistics_of_own_units(state, action, read_sidecar(folder))
    return state, action


def read_norm_stats(path: Path, notes: list[str]) -> tuple[DimStats, DimStats]:
    """Return the statistics of state and actions; dimensions at the end that hold zeros only are padding and cut off.

    Raises CheckpointError where quantiles are missing or a number is not finite.
    """
    groups = read_fields(path, NormStats)["norm_stats"]
    found = []
    for key in ("state", "actions"):
        values = {name: (groups.get(key) or {}).get(name) for name in NAMES}
        arrays = {name: np.asarray(value, np.float64) for name, value in values.items() if value is not None}
        absent = [name for name in ("q01", "q99") if name not in arrays]
        shapes = {array.shape for array in arrays.values()}
        finite = all(np.isfinite(array).all() for array in arrays.values())
        if absent or len(shapes) != 1 or not finite or len(next(iter(shapes))) != 1:
            raise CheckpointError(
                f"the statistics of {key} cannot be used: openpi normalises π₀.₅ by quantiles",
                wanted="mean, std, q01 and q99, finite and of one length",
                found=f"no {', '.join(absent)} in {path}" if absent else f"{path}: not finite, or of several lengths",
                remedy="compute them with a current openpi (scripts/compute_norm_stats.py)",
            )
        used = np.flatnonzero(np.any([array != 0 for array in arrays.values()], axis=0))
        dim, length = int(used[-1]) + 1 if len(used) else 0, len(arrays["q01"])
        if dim == 0:
            raise CheckpointError(
                f"the statistics of {key} are all zero",
                wanted="statistics of a robot",
                found=str(path),
                remedy="compute them with openpi's scripts/compute_norm_stats.py",
            )
        if dim < length:
            notes.append(f"{key}: {dim} of {length} dimensions; the others hold zeros and are padding")
        found.append(DimStats(count=0, **cast(dict[str, Any], {name: array[:dim] for name, array in arrays.items()})))
        require_plausible(found[-1], key, path)
    return found[0], found[1]


def _prompt_format(sidecar: Mapping[str, Any], options: PolicyOptions) -> PromptFormat:
    if options.prompt_format is not None:
        return as_prompt_format(options.prompt_format, "prompt_format")
    if "prompt_format" in sidecar:
        return as_prompt_format(sidecar["prompt_format"], SIDECAR)
    raise CheckpointError(
        "openpi's folders do not tell whether the prompt holds the robot's state",
        wanted=f"prompt_format: {CHOICES}",
        found="none given",
        remedy="give --prompt_format=state or --prompt_format=none, as the training configuration had it",
    )


def _horizon(sidecar: Mapping[str, Any], options: PolicyOptions, told: Mapping[str, int]) -> int:
    stored = dict(sidecar.get("model") or {}) | dict(told)
    if options.horizon is None and "horizon" not in stored:
        raise CheckpointError(
            "openpi's folders do not tell how many actions the policy predicts at once",
            wanted=f"the horizon: {HORIZONS}",
            found="none given",
            remedy="give --policy.chunk_size=N, or Policy.load(…, horizon=N), as the training configuration had it",
        )
    return options.horizon if options.horizon is not None else int(stored["horizon"])


def _cameras(sidecar: Mapping[str, Any], options: PolicyOptions, notes: list[str]) -> CameraSlots:
    """Return the cameras of `pi05.json`, or those of `rename_map` (the other slots stay empty), or openpi's three.

    A `rename_map` that only drops takes away from openpi's three.
    """
    if sidecar.get("slots") is not None:
        return rename_cameras(CameraSlots.from_dict(sidecar["slots"]), options.rename_map or {}, {})
    if options.rename_map and set(options.rename_map.values()) != {DROP}:
        return rename_cameras(CameraSlots(), options.rename_map, {})
    slots = CameraSlots.from_dict({slot: IMAGE_PREFIX + name for slot, name in OPENPI_SLOTS.items()} | {"dropped": ()})
    slots = rename_cameras(slots, options.rename_map or {}, {})
    notes.append(f"cameras: openpi's folders do not tell; {', '.join(slots.keys)} are expected (--rename_map)")
    return slots


def _require_mask(mask: tuple[bool, ...] | None, state_dim: int, dim: int) -> None:
    if mask is not None and (len(mask) != dim or any(mask[state_dim:])):
        raise CheckpointError(
            "the mask of relative actions does not fit the robot",
            wanted=f"{dim} entries, true only for the first {state_dim}, which the state has",
            found=str(list(mask)),
            remedy="correct relative_mask",
        )
