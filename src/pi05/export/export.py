"""A policy written for LeRobot, for openpi, or as one folder of ours; with proof that it is the same policy.

    source ─► adapters merged ─► weights rounded ─► files in a staged folder ─► loaded from disk ─► renamed to OUT
                 │ difference, limit  │ difference, limit                          │ difference, limit

Differences are those of the answers to a stored question (`probe.py`). Whatever fails on the way, nothing is
left at OUT. Layouts are in `checkpoint/write_*.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pi05.checkpoint.lerobot import write as write_lerobot
from pi05.checkpoint.locate import Location
from pi05.checkpoint.openpi import write as write_openpi
from pi05.checkpoint.peft.locate_base import locate_base
from pi05.checkpoint.policy_options import PolicyOptions
from pi05.checkpoint.safetensors_writer import safetensors_bytes
from pi05.checkpoint.sidecar import SIDECAR, write_sidecar
from pi05.checkpoint.staging import require_absent, staged_folder
from pi05.data.joined import columns_to_list
from pi05.data.resize import LEROBOT_RESIZE, OPENPI_RESIZE
from pi05.errors import tell
from pi05.export.adapter_base import FOLDER, adapter_base, base_notes, write_base
from pi05.export.checks import merge_adapters, resize_effect, round_weights
from pi05.export.folders import ExportLayout, ExportPlan, lerobot_config_of, stored_dtypes, weight_tensors, write_files
from pi05.export.probe import NUM_STEPS, PROBE, SEED, Answer, Probe, ask, make_probe, write_probe
from pi05.export.prompt_bins import measure_bins, write_edges
from pi05.export.request import check_request, plan_export
from pi05.export.source import Source, open_source
from pi05.export.verify import (
    FLOAT32_LIMIT,
    Verification,
    describe_difference,
    file_facts,
    limit_for,
    require_within,
    verify,
)
from pi05.model.config import ModelConfig
from pi05.temporary import LOCK

Say = Callable[[str], None]
NAMES = {"lerobot": "LeRobot", "openpi": "openpi's client"}
_SMALL_FILES = 2**27
"""Room for everything beside the weights: tokenizer files of up to 35 MB each, statistics, the probe, an adapter."""


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What was written."""

    folder: Path
    layout: str
    """lerobot, openpi, pi05, lerobot-adapter or pi05-adapter."""
    bytes: int
    verification: Verification
    merge: Mapping[str, Any] | None
    """What merging adapters changed; None where there was nothing to merge."""
    notes: list[str] = field(default_factory=list)
    """What the other program will do otherwise than the policy was trained for."""


def export_policy(
    source: Location,
    out: str | Path,
    *,
    to: ExportLayout,
    adapter_only: bool = False,
    dtype: str = "float32",
    tokenizer_name: str | None = None,
    asset_id: str | None = None,
    base: str | Path | None = None,
    base_name: str | None = None,
    with_base: bool = False,
    device: str = "cpu",
    options: PolicyOptions | None = None,
    sizes: ModelConfig | None = None,
    say: Say = tell,
) -> ExportResult:
    """Write the policy of a located checkpoint to the new folder `out`, and prove it by loading it again.

    `tokenizer_name`: what LeRobot is to look the tokenizer up by, a repository; its files then lie at the folder's
    root, too. Default: the absolute path of OUT/tokenizer. `base`: where an adapter's base is; `base_name`: what the
    written adapter calls it; `with_base`: write it beside the adapter, in LeRobot's layout. `options` and `sizes`: what
    the source does not tell. Raises CheckpointError for a policy that the layout cannot hold, for an adapter whose base
    LeRobot could not read, for differences above their limits, and for a full disk; ConfigError for options that
    contradict each other.
    """
    out = Path(out).absolute()
    require_absent(out)
    check_request(to, adapter_only, dtype, tokenizer_name, asset_id, base_name, with_base)
    opened = open_source(source, device=device, base=base, merge=False, options=options, sizes=sizes)
    say(opened.receipt.render())
    plan = plan_export(opened, out, to, adapter_only, dtype, tokenizer_name, asset_id, base_name, with_base)
    probe = make_probe(opened.policy.processor)
    answer, facts = _measure(opened, plan, probe, say)
    bins, told = measure_bins(opened, to, probe)
    notes = [*opened.policy.notes, *_differences(opened, plan, probe), *told]
    for note in notes:
        say(f"note: {note}")
    layout, size = plan.layout, _size(opened, plan)
    with staged_folder(out, size) as folder:
        known = write_files(folder, opened, plan)
        write_probe(folder, probe, answer)
        if bins is not None:
            write_edges(folder, opened.policy.processor, bins)
            facts["prompts"] = bins.to_dict()
        values = _sidecar(opened, plan, probe, {**facts, "notes": notes})
        below = adapter_base(opened) if adapter_only else None
        found = locate_base(source, base)
        base_config, network = lerobot_config_of(opened, plan, use_peft=False), opened.policy.model.config
        del opened  # at full size there is room for one network at a time
        if with_base and found is not None:
            values["base"], below = write_base(folder, found, network, base_config), folder / FOLDER
        files = {name: known.get(name) or file_facts(path) for name, path in _files(folder)}
        write_sidecar(folder, {**values, "files": files})
        verification = verify(folder, device=device, base=below, look_for_source=False, say=say)
    written = sum(path.stat().st_size for _, path in _files(out))
    say(f"wrote {out} ({layout}, {written / 1e6:,.1f} MB), made for {', '.join(plan.made_for)}")
    return ExportResult(
        folder=out, layout=layout, bytes=written, verification=verification, merge=facts["merge"], notes=notes
    )


def _measure(opened: Source, plan: ExportPlan, probe: Probe, say: Say) -> tuple[Answer, dict[str, Any]]:
    """Merge and round the policy's weights as they will be stored; return its answer then, and what that changed.

    Raises CheckpointError when either changes the actions by more than its limit.
    """
    policy = opened.policy
    answer = ask(policy, probe)
    facts: dict[str, Any] = {"merge": None, "rounding": None}
    if opened.has_adapter:
        answer, moved = merge_adapters(policy, probe, answer)
        say(describe_difference("merged, unmerged", moved, FLOAT32_LIMIT))
        require_within(
            moved,
            FLOAT32_LIMIT,
            "merging the adapters changes the policy; nothing was written",
            "the adapters are too large for float32 weights: export them with --adapter_only",
        )
        if not plan.adapter_only:
            facts["merge"] = {"arithmetic": "float32", "limit": FLOAT32_LIMIT, **moved.to_dict()}
    if plan.dtype != torch.float32:
        limit = limit_for(_dtype_name(plan))
        answer, moved = round_weights(policy, stored_dtypes(policy.model, plan), probe, answer)
        say(describe_difference(f"{_dtype_name(plan)}, float32", moved, limit))
        require_within(
            moved,
            limit,
            f"rounding the weights to {_dtype_name(plan)} changes the policy; nothing was written",
            "export with --dtype float32",
        )
        facts["rounding"] = {"dtype": _dtype_name(plan), "limit": limit, **moved.to_dict()}
    return answer, facts


def _differences(opened: Source, plan: ExportPlan, probe: Probe) -> list[str]:
    """Return what the other program does otherwise, with the effect of its resize in numbers."""
    policy = opened.policy
    processor, sizes = policy.processor, policy.model.config
    if plan.to == "pi05":
        return []
    if plan.to == "lerobot":
        notes, other = write_lerobot.differences(processor, sizes, policy.n_action_steps), LEROBOT_RESIZE
    else:
        notes, other = write_openpi.differences(processor, sizes), OPENPI_RESIZE
    if plan.adapter_only and not plan.with_base:
        notes.extend(base_notes(plan.base_name))
    if processor.resize != other:
        effect = resize_effect(policy, probe, opened.cameras, other)
        if effect is not None:
            notes.append(
                f"{NAMES[plan.to]} resizes pictures in its own way ({other}), this policy was trained with "
                f"{processor.resize}: on drawn pictures of {effect[1]} pixels normalised actions move by up to "
                f"{effect[0]:.2g}"
            )
    return notes


def _sidecar(opened: Source, plan: ExportPlan, probe: Probe, facts: Mapping[str, Any]) -> dict[str, Any]:
    policy, processor = opened.policy, opened.policy.processor
    mask = processor.relative_mask
    return {
        "layout": plan.layout,
        "made_for": list(plan.made_for),
        "dtype": _dtype_name(plan),
        "model": policy.model.config.to_dict(),
        "fps": processor.fps,
        "n_action_steps": policy.n_action_steps,
        **({"rtc_max_delay": policy.max_delay} if policy.max_delay else {}),
        "prompt_format": processor.prompt_format,
        "slots": processor.slots.to_dict(),
        "cameras": {key: list(size) for key, size in opened.cameras.items()},
        "relative_mask": None if mask is None else list(mask),
        "action_names": list(processor.action_names),
        "state_names": list(processor.state_names),
        "state_columns": columns_to_list(processor.state_columns),
        "action_columns": columns_to_list(processor.action_columns),
        "asset_id": plan.asset_id,
        "tokenizer": {"sha256": processor.tokenizer.sha256},
        "source": {
            "path": str(opened.folder.resolve()),
            "step": opened.step,
            "sha256": opened.receipt.sha256,
            "layout": opened.receipt.layout,
            "revision": opened.receipt.revision,
        },
        "base": _base(opened, plan),
        "probe": {"file": PROBE, "seed": SEED, "num_steps": NUM_STEPS, "tasks": list(probe.tasks)},
        **facts,
    }


def _base(opened: Source, plan: ExportPlan) -> dict[str, Any] | None:
    """Return the base as pi05.json records it: of an adapter the one that it needs, else the one it was made from."""
    if not plan.adapter_only or opened.receipt.base is None:
        return None if opened.base is None else dict(opened.base)
    return {"path": str(adapter_base(opened)), "sha256": opened.receipt.base.sha256}


def _dtype_name(plan: ExportPlan) -> str:
    return str(plan.dtype).removeprefix("torch.")


def _size(opened: Source, plan: ExportPlan) -> int:
    """Return about how many bytes will be written."""
    weights = 0 if plan.adapter_only else safetensors_bytes(weight_tensors(opened.policy.model, plan))
    if plan.with_base:
        weights = safetensors_bytes(write_lerobot.lerobot_tensors(opened.policy.model, torch.float32))
    return weights + min(_SMALL_FILES, max(weights, opened.receipt.bytes))


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Return all files below `folder` but pi05.json and the lock on a folder in the making, by relative names."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path) for path in paths if path.name not in (SIDECAR, LOCK)]
