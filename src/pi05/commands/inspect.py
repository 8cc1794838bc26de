"""`pi05 inspect`: the facts of `checkpoint/inspection.py` as JSON, or as a table for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pi05.commands.command import Command, read_one_path
from pi05.errors import CheckpointError, doing, tell
from pi05.settings.schema import Checked
from pi05.waits import waiting

Facts = dict[str, Any]
FILES_SHOWN, LISTED = 8, 4


@dataclass(frozen=True, kw_only=True)
class InspectConfig(Checked):
    """Settings of `pi05 inspect`."""

    json: bool = False
    """Print JSON instead of tables."""
    hash: bool = True
    """Compute the SHA-256 of the weight files, which takes a few seconds per gigabyte."""


def inspect(arguments: Sequence[str]) -> int:
    """Run `pi05 inspect`."""
    config, path = read_one_path(
        InspectConfig,
        arguments,
        what="pi05 inspect takes one path",
        wanted="pi05 inspect PATH",
        remedy="name a folder or a file",
    )
    from pi05.checkpoint.inspection import inspect_checkpoint

    what = "hashing the weights (--hash=false goes without)" if config.hash else "reading the weights' headers"
    with waiting(what, partial(tell, aside=True)), doing("inspect", path, CheckpointError):
        facts = inspect_checkpoint(Path(path), hash_files=config.hash)
    if config.json:
        print_json(facts)
    else:
        print_tables(facts)
    return 0


def print_json(facts: Facts) -> None:
    """Print the facts as JSON."""
    tell(json.dumps(facts, indent=2, ensure_ascii=False))


def print_tables(facts: Facts, console: Any = None) -> None:
    """Print the facts for people, on a console of `rich`, which `pi05 --help` must not load."""
    from rich.table import Table

    from pi05.terminal import PlainConsole

    console = console or PlainConsole()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(facts):
        table.add_row(name, value)
    console.print(table)
    if facts["unknown"]:
        console.print("\nnot told by the folder", style="bold")
        for name, reason in facts["unknown"].items():
            console.print(f"  {name}: {reason}")


def _rows(facts: Facts) -> list[tuple[str, str]]:
    """Return the lines of the table: only what is known."""
    rows = [
        ("path", facts["path"]),
        ("layout", facts["layout"]),
        ("step", "" if facts["step"] is None else f"{facts['step']:,}"),
        ("revision", facts["revision"] or ""),
        ("weights", _weights_line(facts)),
        ("sizes", _sizes_line(facts["sizes"])),
        *(("statistics", _statistics_line(name, values)) for name, values in (facts["statistics"] or {}).items()),
        *_policy_rows(facts["policy"]),
        ("fingerprint", facts["fingerprint"] or ""),
        ("base", _base_line(facts["base"])),
        ("adapter", ", ".join(f"{key} {_short(value)}" for key, value in (facts["adapter"] or {}).items())),
        *_export_rows(facts["export"]),
        *(("note", note) for note in facts["notes"]),
        *(("sha256", f"{entry['sha256']}  {name}") for name, entry in _shown(facts["files"]) if entry["sha256"]),
    ]
    if len(facts["files"]) > 1 and facts["sha256"]:
        rows.append(("sha256 of all", facts["sha256"]))
    return [(name, value) for name, value in rows if value]


def _shown(files: Mapping[str, Facts]) -> list[tuple[str, Facts]]:
    """Return the files to list: of a JAX checkpoint with its hundreds of chunks, none."""
    return list(files.items()) if len(files) <= FILES_SHOWN else []


def _weights_line(facts: Facts) -> str:
    precision = ", ".join(f"{count} {kind}" for kind, count in (facts["precision"] or {}).items())
    return (
        f"{facts['parameters']:,} numbers in {facts['tensors']} tensors"
        f"{f' ({precision})' if precision else ''}, {len(facts['files'])} files, {facts['bytes'] / 1e6:,.1f} MB"
    )


def _sizes_line(sizes: Mapping[str, int] | None) -> str:
    if sizes is None:
        return ""
    return (
        "vision {vision_width} × {vision_depth}, {vision_heads} heads, {image_size} px by {patch_size}; "
        "language {language_width} × {depth}, mlp {language_mlp}, vocabulary {vocab_size}; "
        "expert {expert_width}, mlp {expert_mlp}; {num_heads} heads of {head_dim}, {num_kv_heads} for keys; "
        "{action_dim} action dimensions"
    ).format(**sizes)


def _statistics_line(asset_id: str, values: Facts) -> str:
    return f"{asset_id}: " + ", ".join(f"{key} {value}" for key, value in values.items())


def _policy_rows(policy: Facts | None) -> list[tuple[str, str]]:
    if policy is None:
        return []
    rate = f" ({policy['horizon'] / policy['fps']:.1f} s at {policy['fps']:g} Hz)" if policy["fps"] else ""
    executed = f", {policy['n_action_steps']} executed" if policy["n_action_steps"] else ""
    action, state = policy["action"], policy["state"]
    relative = f", {sum(action['relative'])} of them" if action["relative"] else ""
    names = {
        kind: f": {', '.join(policy[kind]['names'])}" if policy[kind]["names"] else "" for kind in ("state", "action")
    }
    mode = policy["normalization"]
    joined = {
        kind: ", ".join(f"{column['name']} ({column['size']})" for column in policy[kind]["columns"])
        for kind in ("state", "action")
    }
    return [
        ("cameras", "; ".join(f"{slot} ← {key or '(empty, masked)'}" for slot, key in policy["cameras"].items())),
        ("", f"dropped: {', '.join(policy['cameras_dropped'])}" if policy["cameras_dropped"] else ""),
        ("images", f"{policy['image_size']} px, {policy['resize']}"),
        ("state", f"{state['dimensions']} numbers{names['state']}; {mode['STATE']}"),
        ("", f"joined from the columns {joined['state']}" if joined["state"] else ""),
        (
            "actions",
            f"{action['dimensions']} numbers{names['action']}; {action['representation']}{relative}; {mode['ACTION']}",
        ),
        ("", f"joined from the columns {joined['action']}" if joined["action"] else ""),
        ("formula", f"{policy['formula']}'s"),
        ("horizon", f"{policy['horizon']} actions{rate}{executed}"),
        ("prompt", f"format {policy['prompt_format']}, at most {policy['max_prompt_tokens']} tokens"),
        ("tokenizer", f"{policy['tokenizer']['file']}, sha256 {policy['tokenizer']['sha256']}"),
        *(("note", note) for note in policy["notes"]),
    ]


def _short(value: Any) -> str:
    """Return a value as text, of a long list its length and its first entry."""
    if isinstance(value, list) and len(value) > LISTED:
        return f"{len(value)} names ({value[0]}, …)"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _base_line(base: Mapping[str, Any] | None) -> str:
    return "" if base is None else ", ".join(f"{key} {value}" for key, value in base.items() if value is not None)


def _export_rows(export: Facts | None) -> list[tuple[str, str]]:
    if export is None:
        return []
    source = export.get("source") or {}
    rows = [
        ("exported", f"by pi05 {export.get('pi05_version')} from {source.get('path')}, sha256 {source.get('sha256')}")
    ]
    for name in ("merge", "rounding"):
        if export.get(name):
            moved = export[name]
            rows.append(
                (name, f"moved normalised actions by {moved['normalised_actions']:.2e} (limit {moved['limit']:g})")
            )
    return rows + [("note", note) for note in export.get("notes", [])]


COMMAND = Command(
    summary="What a checkpoint is: layout, sizes, cameras, units, rate, hashes.",
    usage="pi05 inspect PATH [--json]",
    run=inspect,
    settings=InspectConfig,
)
