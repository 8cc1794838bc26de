"""The receipt of a load: what became of every tensor, and which bytes it came from; in one line for people as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pi05.checkpoint.file_names import CONFIG
from pi05.checkpoint.locate import Location
from pi05.checkpoint.store import read_checkpoint_config
from pi05.errors import UserError, visible
from pi05.files import read_notes, size_text


@dataclass(frozen=True, kw_only=True)
class AdapterReceipt:
    """What a load did with an adapter."""

    source: str
    """The adapter's folder."""
    base: str
    """The folder or file that it was applied to."""
    base_told_by: str
    """Who said where the base is."""
    base_check: str
    """Whether the base's hash was compared with a recorded one."""
    merge: str
    """Whether the adapter was merged into the base."""
    modules: tuple[str, ...]
    """Our modules with a low-rank change."""
    replaced: tuple[str, ...] = ()
    """Our parameters that the adapter holds in full, in the place of the base's."""
    parameters: int
    """Numbers in the adapter that were used."""
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Tensors of the adapter that are not used → the reason."""
    bytes: int
    """Size of its weight file."""
    sha256: str
    """SHA-256 of its weight file."""
    revision: str | None = None
    """Commit on the hub, where the download noted it."""

    def lines(self) -> list[str]:
        """Return the adapter's part of the receipt for the console."""
        revision = f", revision {self.revision}" if self.revision else ""
        return [
            f"adapter: {self.source}{revision}",
            f"  {self.merge}; {len(self.modules)} low-rank changes, {len(self.replaced)} parameters replaced; "
            f"{self.parameters:,} parameters read from {size_text(self.bytes)}",
            f"  base    {self.base} ({self.base_told_by}); {self.base_check}",
            f"  ignored {len(self.ignored)}",
            *(f"    {name}: {reason}" for name, reason in self.ignored.items()),
            f"  sha256  {self.sha256}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the adapter's part as plain data."""
        return {
            "source": self.source,
            "base": self.base,
            "base_told_by": self.base_told_by,
            "base_check": self.base_check,
            "merge": self.merge,
            "modules": list(self.modules),
            "replaced": list(self.replaced),
            "parameters": self.parameters,
            "ignored": dict(self.ignored),
            "bytes": self.bytes,
            "sha256": self.sha256,
            "revision": self.revision,
        }


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a load did. Every tensor of the file and every parameter of the network is in it exactly once."""

    source: str
    """The path that was read."""
    layout: str
    """The kind of file: pi05, LeRobot, openpi PyTorch or openpi JAX; "adapter on" one of them."""
    loaded: tuple[str, ...]
    """Our parameters that were read under their own foreign name."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """Our parameters that were read from a tensor tied to them → that tensor's name in the file."""
    fresh: Mapping[str, str] = field(default_factory=dict)
    """Our parameters that the file does not hold and that keep their value → the reason."""
    merged: Mapping[str, str] = field(default_factory=dict)
    """LoRA leaves of openpi that were merged while reading → the leaf that they were merged into."""
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Tensors of the file that are not used → the reason."""
    parameters: int
    """Numbers that were read into the network."""
    bytes: int
    """Size of the files."""
    files: Mapping[str, str]
    """File name → SHA-256."""
    sha256: str
    """SHA-256 of the file; of several files: of the lines "name hash"."""
    revision: str | None = None
    """Commit on the hub that the files were downloaded from, where the download noted it."""
    notes: tuple[str, ...] = ()
    """What else one should know of how the weights were read."""
    base: Receipt | None = None
    """Of an adapter: the receipt of its base. `files` and `sha256` are those of both then."""
    adapter: AdapterReceipt | None = None
    """Of an adapter: what was done with it."""

    def render(self) -> str:
        """Return the receipt as a few lines for the console."""
        if self.base is not None and self.adapter is not None:
            return "\n".join([self.base.render(), *self.adapter.lines()])
        revision = f", revision {self.revision}" if self.revision else ""
        lines = [
            f"weights: {self.source} ({self.layout}{revision})",
            f"  loaded  {len(self.loaded)} tensors; {self.parameters:,} parameters read from {size_text(self.bytes)}",
        ]
        for title, entries in (("tied", self.tied), ("fresh", self.fresh), ("ignored", self.ignored)):
            lines.append(f"  {title:<7} {len(entries)}")
            lines.extend(f"    {name}: {reason}" for name, reason in entries.items())
        if self.merged:
            lines.append(f"  merged  {len(self.merged)} LoRA leaves")
            lines.extend(f"    {name}" for name in self.merged)
        lines.extend(f"  note    {note}" for note in self.notes)
        lines.append(f"  sha256  {self.sha256}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the receipt as plain data."""
        values: dict[str, Any] = {
            "source": self.source,
            "layout": self.layout,
            "loaded": list(self.loaded),
            "tied": dict(self.tied),
            "fresh": dict(self.fresh),
            "merged": dict(self.merged),
            "ignored": dict(self.ignored),
            "parameters": self.parameters,
            "bytes": self.bytes,
            "files": dict(self.files),
            "sha256": self.sha256,
            "revision": self.revision,
            "notes": list(self.notes),
        }
        if self.base is not None and self.adapter is not None:
            values |= {"base": self.base.to_dict(), "adapter": self.adapter.to_dict()}
        return values


WRITERS = {
    "pi05": "pi05",
    "lerobot": "LeRobot",
    "openpi": "openpi, PyTorch",
    "jax": "openpi, JAX",
    "file": "a file of weights",
}


def tell_origin(location: Location) -> str:
    """Return where weights come from, such as `runs/first (pi05), step 5,000, method lora`.

    Nothing depends on it; what cannot be told is left out.
    """
    step = _step(location)
    parts = [f"{location.given} ({WRITERS[location.kind]})"]
    parts += [] if step is None else [f"step {step:,}"]
    parts.append(f"method {_method(location)}")
    return visible(", ".join(parts))


def _step(location: Location) -> int | None:
    if location.kind == "pi05":
        try:
            step = read_checkpoint_config(location.folder).get("step")
        except UserError:
            return None
        return step if type(step) is int else None
    named = [part for part in (location.folder.name, location.folder.parent.name) if part.isdigit()]
    return int(named[0]) if named and location.kind != "file" else None


def _method(location: Location) -> str:
    """Return what was trained, as `--method` calls it where the run's own settings are there."""
    policy = _run_settings(location)
    if policy is None:
        return "lora" if location.adapter is not None else "not told"
    if policy.get("use_peft"):
        return "qlora" if policy.get("quantize") not in (None, "none") else "lora"
    if policy.get("train_expert_only"):
        return "expert"
    return "frozen-vision" if policy.get("freeze_vision_encoder") else "full"


def _run_settings(location: Location) -> dict[str, Any] | None:
    if location.kind != "pi05" or location.folder.parent.name != "checkpoints":
        return None
    settings = read_notes(
        location.folder.parent.parent / CONFIG
    )  # empty where the checkpoint was copied out of its run
    policy, peft = settings.get("policy"), settings.get("peft")
    if not isinstance(policy, dict) or not isinstance(peft, dict):
        return None
    return {**policy, "quantize": peft.get("quantize")}
