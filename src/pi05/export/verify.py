"""Is an exported folder still the policy that it was made from? Compares hashes, prompts and actions.

The folder carries a question and the answer that was given to it before writing (`probe.py`); the policy is loaded from
the folder's own files and asked again. Where the source is at hand, it is asked too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pi05.checkpoint.locate import locate
from pi05.checkpoint.openpi.read import find_assets
from pi05.checkpoint.policy_options import PolicyOptions
from pi05.checkpoint.sidecar import SIDECAR, read_sidecar
from pi05.checkpoint.tensors import hash_file
from pi05.data.cameras import DROP
from pi05.data.processor import Processor
from pi05.errors import CheckpointError, UserError, tell
from pi05.export import adapter_base
from pi05.export.probe import Answer, Difference, Probe, ask, compare, read_probe
from pi05.export.prompt_bins import check_edges
from pi05.export.source import Source, open_source
from pi05.model.config import ModelConfig

FLOAT32_LIMIT = 1e-4
"""Largest difference of a normalised action between two float32 computations of the same policy: other orders of
addition give up to 1e-5."""
BFLOAT16_LIMIT = 5e-2
"""The same where weights were rounded to bfloat16 (a step of 0.4 %): openpi's own two precisions differ by 7e-3."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was compared, and how far it is apart."""

    folder: Path
    files: int
    """Files whose SHA-256 is the recorded one."""
    stored: Difference
    """Against the stored answer."""
    source: Difference | None = None
    """Against the source, loaded again."""
    notes: list[str] = field(default_factory=list)


def limit_for(dtype: str) -> float:
    """Return how far the actions may be from the source's, for weights stored in `dtype`."""
    return FLOAT32_LIMIT if dtype == "float32" else BFLOAT16_LIMIT


def verify(
    folder: str | Path,
    *,
    source: str | Path | None = None,
    device: str = "cpu",
    base: str | Path | None = None,
    look_for_source: bool = True,
    say: Say = tell,
) -> Verification:
    """Compare an exported folder with its stored answer and, if given or still in place, with its source.

    Raises CheckpointError naming the part that differs, by how much, and the limit.
    """
    folder = Path(folder)
    facts = _facts(folder)
    files = check_files(folder, facts["files"])
    say(f"files              {files} of {files} have the recorded SHA-256")
    loaded = open_source(locate(folder), device=device, base=base)
    probe, wanted = read_probe(folder, facts["probe"]["tasks"])
    answer = ask(loaded.policy, probe)
    stored = compare(answer, wanted, loaded.policy.processor)
    say(describe_difference("stored actions", stored, FLOAT32_LIMIT))
    require_within(stored, FLOAT32_LIMIT, f"{folder} does not give the actions that are stored in it")
    edges = check_edges(folder, loaded.policy.processor, facts)
    if edges is not None:
        say(edges)
    policy_facts = loaded.policy.model.config, loaded.policy.processor
    del loaded  # at full size there is room for one network at a time
    notes: list[str] = []
    difference = None
    if source is not None:
        original = _open_again(source, facts, *policy_facts, device)
        difference = _against(original, probe, answer, facts, folder, say)
    elif look_for_source:
        found = _find_source(facts, *policy_facts, device, notes)
        difference = None if found is None else _against(found, probe, answer, facts, folder, say)
    for note in notes:
        say(f"note: {note}")
    return Verification(folder=folder, files=files, stored=stored, source=difference, notes=notes)


def _against(
    original: Source, probe: Probe, answer: Answer, facts: dict[str, Any], folder: Path, say: Say
) -> Difference:
    """Compare the folder's answer with that of its source."""
    limit = limit_for(facts.get("dtype", "float32"))
    difference = compare(answer, ask(original.policy, probe), original.policy.processor)
    say(describe_difference("source", difference, limit))
    require_within(difference, limit, f"{folder} does not give the actions of {original.folder}")
    return difference


def _find_source(
    facts: dict[str, Any], sizes: ModelConfig, processor: Processor, device: str, notes: list[str]
) -> Source | None:
    """Return the recorded source, or None with a note when it is gone, has changed or cannot be read."""
    path = facts["source"].get("path")
    if not isinstance(path, str) or not Path(path).exists():
        notes.append("the source is not there, so it is not compared; --source=RUN names it")
        return None
    try:
        found = _open_again(path, facts, sizes, processor, device)
    except UserError as error:
        notes.append(f"{path} is not compared: {error.problem}")
        return None
    if found.receipt.sha256 != facts["source"].get("sha256"):
        notes.append(f"{path} has other weights by now, so it is not compared")
        return None
    return found


def _open_again(
    path: str | Path, facts: dict[str, Any], sizes: ModelConfig, processor: Processor, device: str
) -> Source:
    """Open the source; what its folder does not tell is taken from the exported one."""
    location = locate(path)
    slots = processor.slots.by_slot.items()
    cameras = {slot if camera is None else camera: DROP if camera is None else slot for slot, camera in slots}
    told = PolicyOptions(rename_map=cameras)
    if location.kind in ("lerobot", "openpi", "jax"):
        told = replace(told, prompt_format=processor.prompt_format)
    if location.kind in ("openpi", "jax"):
        asset_id = facts.get("asset_id")
        told = replace(
            told,
            asset_id=asset_id if asset_id in find_assets(location.folder) else None,
            horizon=processor.horizon,
            relative_mask=processor.relative_mask,
            adapt_to_pi=False,  # else there would be no export
        )
    needed = facts.get("base") or {}
    base = needed.get("path") if location.adapter is not None else None
    if base == adapter_base.FOLDER:
        base = None  # the base of the export lies in it; the source knows its own
    return open_source(location, device=device, base=base, options=told, sizes=sizes)


def _facts(folder: Path) -> dict[str, Any]:
    facts = read_sidecar(folder) if folder.is_dir() else None
    if facts is None:
        raise CheckpointError(
            "there is nothing to verify against",
            wanted=f"{SIDECAR} in the folder, which pi05 export writes",
            found=str(folder) if folder.exists() else f"nothing at {folder}",
            remedy="give a folder that pi05 export wrote",
        )
    absent = [key for key in ("files", "probe", "source") if not isinstance(facts.get(key), dict)]
    if absent or not isinstance(facts["probe"].get("tasks"), list):
        raise CheckpointError(
            f"{folder / SIDECAR} is incomplete",
            wanted="files, probe and source",
            found=f"no {', '.join(absent) or 'instructions in probe'}",
            remedy="restore the file, or export again",
        )
    return facts


def check_files(folder: Path, recorded: dict[str, Any]) -> int:
    """Compare the SHA-256 of each recorded file and return their number. Raises CheckpointError naming what differs."""
    faults = []
    for name, facts in sorted(recorded.items()):
        path = folder / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif path.stat().st_size != facts.get("bytes"):
            faults.append(f"{name} has {path.stat().st_size:,} bytes, not {facts.get('bytes'):,}")
        elif hash_file(path) != facts.get("sha256"):
            faults.append(f"{name} has another content")
    if faults:
        raise CheckpointError(
            f"{folder} is not as it was exported",
            wanted=f"{len(recorded)} files with the SHA-256 in {SIDECAR}",
            found="; ".join(faults),
            remedy="copy the folder again, or export it again",
        )
    return len(recorded)


def file_facts(path: Path) -> dict[str, Any]:
    """Return SHA-256 and size of a file, as pi05.json records them."""
    return {"sha256": hash_file(path), "bytes": path.stat().st_size}


def describe_difference(part: str, difference: Difference, limit: float) -> str:
    """Return one line on a comparison."""
    return (
        f"{part:<18} {difference.tokens} prompt tokens differ; normalised actions by at most "
        f"{difference.normalized:.2e} (limit {limit:g}), robot actions by {difference.actions:.2e}"
    )


def require_within(difference: Difference, limit: float, problem: str, remedy: str = "export it again") -> None:
    """Raise CheckpointError when a difference is above its limit."""
    if difference.exceeds(limit):
        raise CheckpointError(
            problem,
            wanted=f"equal prompts, and actions within {limit:g} normalised units",
            found=f"{difference.tokens} prompt tokens differ; normalised actions by {difference.normalized:.3g}, robot "
            f"actions by {difference.actions_in_units:.3g} normalised units ({difference.actions:.3g} in their own)",
            remedy=remedy,
        )
