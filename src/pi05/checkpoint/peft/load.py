"""A network out of an adapter and its base: the base is loaded and verified, the adapter applied, merged or not.

The base is found in `locate_base.py`, the adapter's own files are read in `adapter.py`; the arithmetic is in
`model/lora.py`.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from pi05.checkpoint.locate import Location
from pi05.checkpoint.peft.adapter import Adapter, apply_adapter, read_adapter
from pi05.checkpoint.peft.locate_base import AdapterBase
from pi05.checkpoint.receipt import AdapterReceipt, Receipt
from pi05.checkpoint.tensors import combine_hashes
from pi05.checkpoint.weights import decide_sizes, open_tensors, read_full
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
    base: AdapterBase,
    device: torch.device | str,
    dtype: torch.dtype,
    config: ModelConfig | None,
    compute_dtype: torch.dtype | None,
    merge: bool,
) -> tuple[Pi05, Receipt]:
    """Build the network of an adapter on its base, and say what was read of both.

    An adapter that was trained on a quantised base gets the base with the values that its codes stand for: on the
    original weights it is another policy. Raises CheckpointError for a base that is not the recorded one or does not
    fit, and for an adapter that does not fit it.
    """
    folder = location.folder
    sizes = config if config is not None else adapted_sizes(location, base)
    exact = dtype if base.quantized is None else torch.float32  # codes are those of the base as it is
    compute_dtype = compute_dtype or dtype
    if base.below is None:
        model, base_receipt = read_full(base.location, device, exact, sizes, compute_dtype)
    else:
        model, base_receipt = read_adapted(base.location, base.below, device, exact, sizes, compute_dtype, True)
    if base.sha256 is not None and base.sha256 != base_receipt.sha256:
        raise CheckpointError(
            "the base is not the one that the adapter was trained on; nothing was loaded",
            wanted=f"SHA-256 {base.sha256}, recorded in {folder}",
            found=f"{base_receipt.sha256} of {base.location.given} ({base.told_by})",
            remedy="give the folder of the right base (base=…)",
        )
    adapter = read_adapter(folder, model)
    if base.quantized is not None:
        round_frozen(model, base.quantized, tuple(adapter.full))
        model.to(dtype)
    apply_adapter(model, adapter)
    if merge:
        merge_lora(model)
    return model, _receipt(location, model, base_receipt, adapter, base, merge)


def _how(model: Pi05, found: AdapterBase, merge: bool) -> str:
    """Say whether the adapter was merged, and into what."""
    told = (MERGED if model.action_in.weight.dtype == torch.float32 else MERGED_ROUNDED) if merge else APART
    return told if found.quantized is None else f"{told}; base rounded to {found.quantized}, as in training"


def adapted_sizes(location: Location, base: AdapterBase) -> ModelConfig:
    """Return the sizes that adapter and base tell together; horizon and prompt length are the adapter's."""
    if location.config is not None:
        return location.config
    if base.below is not None:
        return replace(adapted_sizes(base.location, base.below), **location.sizes)
    return replace(decide_sizes(base.location, open_tensors(base.location).shapes, None), **location.sizes)


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
            base=str(found.location.given),
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
