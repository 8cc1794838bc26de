"""The receipt of a load: what became of every tensor, and which bytes it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a load did. Every tensor of the file and every parameter of the network is in it exactly once."""

    source: str
    """The path that was read."""
    layout: str
    """The kind of file: pi05, LeRobot, openpi PyTorch or openpi JAX."""
    loaded: tuple[str, ...]
    """Our parameters that were read under their own foreign name."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """Our parameters that were read from a tensor tied to them → that tensor's name in the file."""
    fresh: Mapping[str, str] = field(default_factory=dict)
    """Our parameters that the file does not hold and that keep their value → the reason."""
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

    def render(self) -> str:
        """Return the receipt as a few lines for the console."""
        lines = [
            f"weights: {self.source} ({self.layout})",
            f"  loaded  {len(self.loaded)} tensors; {self.parameters:,} parameters read from {_size(self.bytes)}",
        ]
        for title, entries in (("tied", self.tied), ("fresh", self.fresh), ("ignored", self.ignored)):
            lines.append(f"  {title:<7} {len(entries)}")
            lines.extend(f"    {name}: {reason}" for name, reason in entries.items())
        lines.append(f"  sha256  {self.sha256}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the receipt as plain data."""
        return {
            "source": self.source,
            "layout": self.layout,
            "loaded": list(self.loaded),
            "tied": dict(self.tied),
            "fresh": dict(self.fresh),
            "ignored": dict(self.ignored),
            "parameters": self.parameters,
            "bytes": self.bytes,
            "files": dict(self.files),
            "sha256": self.sha256,
        }


def _size(count: int) -> str:
    """Return a size in bytes as text, to three digits."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.4g} GB"
