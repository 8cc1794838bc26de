"""A network out of an adapter and its base: the base is found, loaded and verified, the adapter applied, merged or not.

The adapter's own files are read in `adapter.py`, its arithmetic is in `model/lora.py`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from pi05.checkpoint.locate import Location, locate
from pi05.checkpoint.peft.adapter import Adapter, apply_adapter, read_adapter
from pi05.checkpoint.peft.locate_base import AdapterBase, locate_base
from pi05.checkpoint.receipt import AdapterReceipt, Receipt
from pi05.checkpoint.tensors import combine_hashes
from pi05.checkpoint.weights import decide_sizes, open_source, read_full
from pi05.errors import CheckpointError
from pi05.model.config import ModelConfig
from pi05.model.lora import merge_lora
from pi05.model.pi05 import Pi05
from pi05.model.quantize import round_frozen

VERIFIED = "verified: the SHA-256 that the adapter records"
NOT_VERIFIED = "base not verified: the adapter records no hash"
MERGED, APART = "merged into the base in float32", "kept apart, not merged"
MERGED_ROUNDED = "merged in float32 into the base as it was rounded when loaded, and rounded again"


def read_adapted(
    location: Location,
    device: torch.device | str,
    dtype: torch.dtype,
    config: ModelConfig | None,
    compute_dtype: torch.dtype | None,
    base: str | Path | None,
    merge: bool,
    above: tuple[Path, ...] = (),
) -> tuple[Pi05, Receipt]:
    """Build the network of an adapter on its base, and say what was read of both.

    An adapter that was trained on a quantised base gets the base with the values that its codes stand for: on the
    original weights it is another policy.
    `above` are the adapters that this one is the base of. Raises CheckpointError for a base that is missing, is not the
    recorded one or does not fit, and for an adapter that does not fit it.
    """
    folder, found, below, above = _base(location, base, above)
    sizes = config if config is not None else _sizes(location, below, above)
    exact = dtype if found.quantized is None else torch.float32  # codes are those of the base as it is
    compute_dtype = compute_dtype or dtype
    if below.adapter is None:
        model, base_receipt = read_full(below, device, exact, sizes, compute_dtype)
    else:
        model, base_receipt = read_adapted(below, device, exact, sizes, compute_dtype, None, True, above)
    if found.sha256 is not None and found.sha256 != base_receipt.sha256:
        raise CheckpointError(
            "the base is not the one that the adapter was trained on; nothing was loaded",
            wanted=f"SHA-256 {found.sha256}, recorded in {folder}",
            found=f"{base_receipt.sha256} of {found.path} ({found.told_by})",
            remedy="give the folder of the right base (base=…)",
        )
    adapter = read_adapter(folder, model)
    if found.quantized is not None:
        round_frozen(model, found.quantized, tuple(adapter.full))
        model.to(dtype)
    apply_adapter(model, adapter)
    if merge:
        merge_lora(model)
    return model, _receipt(location, model, base_receipt, adapter, found, merge)


def _how(model: Pi05, found: AdapterBase, merge: bool) -> str:
    """Say whether the adapter was merged, and into what."""
    told = (MERGED if model.action_in.weight.dtype == torch.float32 else MERGED_ROUNDED) if merge else APART
    return told if found.quantized is None else f"{told}; base rounded to {found.quantized}, as in training"


def adapted_sizes(location: Location, base: str | Path | None) -> ModelConfig:
    """Return the sizes of an adapter's network, without reading its weights."""
    _, _, below, above = _base(location, base, ())
    return _sizes(location, below, above)


def _sizes(location: Location, below: Location, above: tuple[Path, ...]) -> ModelConfig:
    """Return the sizes that adapter and base tell together; horizon and prompt length are the adapter's."""
    if location.config is not None:
        return location.config
    if below.adapter is None:
        return replace(decide_sizes(below, open_source(below).shapes, None), **location.sizes)
    _, _, lower, above = _base(below, None, above)
    return replace(_sizes(below, lower, above), **location.sizes)


def _base(
    location: Location, base: str | Path | None, above: tuple[Path, ...]
) -> tuple[Path, AdapterBase, Location, tuple[Path, ...]]:
    """Return the adapter's folder, where its base is, and the adapters met so far, this one included."""
    folder = location.adapter
    if folder is None:
        raise ValueError(f"{location.path} holds full weights")
    above = (*above, folder.resolve())
    found = locate_base(folder, base)
    below = locate(found.path)
    if below.adapter is not None and below.adapter.resolve() in above:
        raise CheckpointError(
            "adapters are each other's base",
            wanted="full weights at the end of the chain",
            found=" on ".join(str(path) for path in (*above, below.adapter)),
            remedy="give the folder of the base (base=…)",
        )
    return folder, found, below, above


def _receipt(
    location: Location, model: Pi05, base: Receipt, adapter: Adapter, found: AdapterBase, merge: bool
) -> Receipt:
    """Return the receipt of both: the adapter's modules are on top of what was loaded from the base."""
    files = {**{f"base/{name}": value for name, value in base.files.items()}, **adapter.files}
    return replace(
        base,
        source=str(location.path),
        layout=f"adapter on {base.layout}",
        bytes=base.bytes + adapter.bytes,
        files=files,
        sha256=combine_hashes(files),
        revision=location.revision,
        notes=location.notes,
        base=base,
        adapter=AdapterReceipt(
            source=str(location.adapter),
            base=str(found.path),
            base_told_by=found.told_by,
            base_check=NOT_VERIFIED if found.sha256 is None else VERIFIED,
            merge=_how(model, found, merge),
            modules=tuple(adapter.specs),
            replaced=tuple(adapter.full),
            parameters=sum(tensor.numel() for group in (adapter.lora, adapter.full) for tensor in group.values()),
            ignored=adapter.ignored,
            bytes=adapter.bytes,
            sha256=combine_hashes(dict(adapter.files)),
            revision=location.revision,
        ),
    )
