"""From what a user asks of an export to what will be written: contradictions are refused, defaults filled in."""

from __future__ import annotations

from pathlib import Path

import torch

from pi05.checkpoint.lerobot import write as write_lerobot
from pi05.checkpoint.lerobot import write_steps
from pi05.checkpoint.openpi import write as write_openpi
from pi05.errors import ConfigError
from pi05.export.adapter_base import FOLDER, adapter_base, require_base_for_lerobot
from pi05.export.folders import ExportLayout, ExportPlan
from pi05.export.source import Source

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def check_request(
    to: str,
    adapter_only: bool,
    dtype: str,
    tokenizer_name: str | None,
    asset_id: str | None,
    base_name: str | None,
    with_base: bool,
) -> None:
    """Raise ConfigError for options that contradict each other."""
    if dtype not in DTYPES:
        raise ConfigError("the precision is unknown", wanted=" or ".join(DTYPES), found=dtype, remedy="correct --dtype")
    wrong = {
        "--adapter_only": adapter_only and to == "openpi" and "openpi's PyTorch code has no adapters",
        "--dtype": adapter_only and dtype != "float32" and "an adapter is copied as it is",
        "--tokenizer_name": tokenizer_name is not None and to != "lerobot" and "only LeRobot names its tokenizer",
        "--asset_id": asset_id is not None and to != "openpi" and "it names openpi's statistics",
        "--base_name": base_name is not None and not adapter_only and "it is for --adapter_only",
        "--with_base": with_base
        and (
            ((not adapter_only or to != "lerobot") and "it is for --to=lerobot --adapter_only")
            or (base_name is not None and "--base_name names another base")
        ),
    }
    for flag, reason in wrong.items():
        if reason:
            raise ConfigError(f"{flag} does not go with this export: {reason}", remedy=f"leave {flag} out")
    if asset_id is not None:
        write_openpi.require_asset_id(asset_id)


def plan_export(
    opened: Source,
    out: Path,
    to: ExportLayout,
    adapter_only: bool,
    dtype: str,
    tokenizer_name: str | None,
    asset_id: str | None,
    base_name: str | None,
    with_base: bool,
) -> ExportPlan:
    """Decide what is written. Raises CheckpointError for a policy that the layout cannot hold."""
    processor = opened.policy.processor
    if to == "lerobot":
        write_lerobot.require_expressible(processor)
    if to == "openpi":
        write_openpi.require_expressible(processor)
    if adapter_only and not opened.has_adapter:
        raise ConfigError(
            "there is no adapter to export",
            wanted="an adapter folder, or a run that was trained with --method lora",
            found=f"full weights in {opened.folder}",
            remedy="leave --adapter_only out",
        )
    if adapter_only and to == "lerobot":
        require_base_for_lerobot(opened, base_name, with_base)
    if adapter_only and base_name is None:
        base_name = str(out / FOLDER if with_base else adapter_base(opened))
    return ExportPlan(
        to=to,
        dtype=DTYPES[dtype],
        tokenizer_name=tokenizer_name or str(out / write_steps.TOKENIZER_FOLDER),
        tokenizer_at_root=tokenizer_name is not None,
        asset_id=asset_id or opened.asset_id,
        adapter_only=adapter_only,
        base_name=base_name,
        with_base=with_base,
    )
