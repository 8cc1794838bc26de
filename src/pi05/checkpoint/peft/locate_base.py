"""Where is the base of an adapter, and which base must it be?

An adapter is worth nothing on other weights than those it was trained on. pi05 records path and SHA-256 of the base;
PEFT records a path as it was typed, which may have moved or hold other weights by now.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi05.checkpoint.file_fields import AdapterNames, read_fields
from pi05.checkpoint.file_names import ADAPTER_CONFIG
from pi05.checkpoint.locate import Location, locate, read_config_file
from pi05.checkpoint.sidecar import read_sidecar
from pi05.errors import CheckpointError
from pi05.files import expand_home
from pi05.model.quantize import CODE_KINDS, CodeKind
from pi05.sources.resolve import is_name, resolve

KEPT = "base"
"""Where a LoRA run of pi05 keeps its base: RUN/base."""


@dataclass(frozen=True)
class AdapterBase:
    """The base that an adapter is to be applied to, located."""

    location: Location
    sha256: str | None
    """What the base's files must hash to (`Receipt.sha256`); None when the adapter records nothing."""
    told_by: str
    """Who said that it is there."""
    quantized: CodeKind | None = None
    """How the base was held while the adapter was trained on it; None: not in codes."""
    below: AdapterBase | None = None
    """The base of this base, where this one is an adapter itself."""


def locate_base(location: Location, base: str | Path | None = None, above: tuple[Path, ...] = ()) -> AdapterBase | None:
    """Find the base of a located adapter, down to full weights; None when it holds full weights itself.

    `base` is the caller's own word for it and goes first. A recorded path is tried as it is when absolute, else from
    the adapter's folder, then from the working directory; what PEFT recorded may be a name on the hub, too. `above`
    are the adapters that this one is the base of. Raises CheckpointError with all places that were tried, for adapters
    that are each other's base, and for a `base` that nothing would be applied to.
    """
    adapter = location.adapter
    if adapter is None:
        if base is not None:
            raise CheckpointError(
                "a base was given for a checkpoint that holds full weights",
                wanted="an adapter, which is trained on a base",
                found=str(location.given),
                remedy="leave the base out (base=…, --base); the weights of the checkpoint are complete",
            )
        return None
    above = (*above, adapter.resolve())
    record = _recorded(adapter)
    sha256 = record.get("sha256") if isinstance(record.get("sha256"), str) else None
    tried = []
    for told_by, path in _places(adapter, base, record):
        if path.exists() and path.resolve() != adapter.resolve():
            found = locate(path)
            if found.adapter is not None and found.adapter.resolve() in above:
                raise CheckpointError(
                    "adapters are each other's base",
                    wanted="full weights at the end of the chain",
                    found=" on ".join(str(folder) for folder in (*above, found.adapter)),
                    remedy="give the folder of the base (base=…)",
                )
            below = locate_base(found, None, above)
            return AdapterBase(found, sha256, told_by, recorded_quantization(adapter), below)
        tried.append(f"{path} ({told_by})")
        if base is not None:
            break
    on_hub = None if base is not None else _from_hub(adapter, tried)
    if on_hub is not None:
        found = locate(on_hub)
        return AdapterBase(found, sha256, "on the hub", recorded_quantization(adapter), locate_base(found, None, above))
    raise CheckpointError(
        "the base of the adapter is not there",
        wanted=f"full weights under the adapter {adapter}" + (f", SHA-256 {sha256}" if sha256 else ""),
        found="nothing at " + "; ".join(tried) if tried else "no base is recorded",
        remedy="give the folder of the base, or its name on the hub (base=…)",
    )


def _from_hub(adapter: Path, tried: list[str]) -> Path | None:
    """Return the folder of the base that PEFT recorded a hub's name of; None, and in `tried` why, if it has none."""
    name = read_fields(adapter / ADAPTER_CONFIG, AdapterNames).get("base_model_name_or_path")
    if not isinstance(name, str) or not is_name(name, "model"):
        return None
    try:
        return resolve(name, "model")
    except CheckpointError as error:
        tried.append(f"{error.problem}: {error.found}; {error.remedy}")
        return None


def _recorded(adapter: Path) -> dict[str, Any]:
    """Return what pi05 recorded of the base, in config.json of a checkpoint or in the sidecar of an export."""
    for values in _notes(adapter):
        if isinstance(values.get("base"), dict):
            return dict(values["base"])
    return {}


def recorded_quantization(adapter: Path) -> CodeKind | None:
    """Return what the frozen weights were rounded to while the adapter was trained. Raises CheckpointError."""
    told = next((values["frozen_precision"] for values in _notes(adapter) if "frozen_precision" in values), "float32")
    for kind in CODE_KINDS:
        if told == kind:
            return kind
    if told in ("float32", "bfloat16"):
        return None
    raise CheckpointError(
        "the adapter was trained on a base in an unknown precision",
        wanted=f"float32, bfloat16, {' or '.join(CODE_KINDS)}",
        found=f"frozen_precision {told!r} in {adapter}",
        remedy="upgrade pi05",
    )


def _notes(adapter: Path) -> tuple[dict[str, Any], ...]:
    config = read_config_file(adapter)
    return config if config.get("format") == "pi05" else {}, read_sidecar(adapter) or {}


def _places(adapter: Path, base: str | Path | None, record: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Yield (who says so, path) in the order in which they count."""
    if base is not None:
        yield "as given", resolve(base, "model")
        return
    if isinstance(record.get("path"), str):
        for path in _readings(record["path"], adapter):
            yield "recorded by pi05", path
    folder = adapter.resolve()
    if folder.parent.name == "checkpoints":
        yield "kept inside the run", folder.parent.parent / KEPT
    told = read_fields(adapter / ADAPTER_CONFIG, AdapterNames).get("base_model_name_or_path")
    if told:
        for path in _readings(told, adapter):
            yield ADAPTER_CONFIG, path


def _readings(path: str, adapter: Path) -> list[Path]:
    """Return what a recorded path may mean."""
    plain = expand_home(path)
    return [plain] if plain.is_absolute() else [adapter / plain, Path.cwd() / plain]
