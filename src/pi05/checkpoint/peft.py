"""LoRA adapters of π₀.₅ in PEFT's file format, as LeRobot writes and reads them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pi05.checkpoint.peft_names import resolve_targets
from pi05.model.lora import LoraSpec
from pi05.model.pi05 import Pi05

__all__ = ["Adapter", "apply_adapter", "read_adapter", "resolve_targets", "write_adapter"]


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """The content of an adapter folder, under our names, checked against the network that it is for."""

    specs: Mapping[str, LoraSpec]
    """Our module name → its adapter."""
    lora: Mapping[str, Tensor]
    """Our parameter name ("<module>.lora_a", …) → value, float32."""
    full: Mapping[str, Tensor]
    """Our parameter name → value, for modules that were trained in full (`modules_to_save`)."""
    config: Mapping[str, Any]
    """adapter_config.json."""
    ignored: Mapping[str, str]
    """Tensors of the file that are not used → the reason."""
    files: Mapping[str, str]
    """File name → SHA-256."""
    bytes: int
    """Size of the files."""


def read_adapter(folder: Path, model: Pi05) -> Adapter:
    """Read an adapter folder for `model`, strictly; the model is not touched."""
    raise NotImplementedError


def apply_adapter(model: Pi05, adapter: Adapter) -> None:
    """Put the adapter onto the base that `model` holds, unmerged."""
    raise NotImplementedError


def write_adapter(
    folder: Path, model: Pi05, *, base: str, full: Collection[str] = (), extra: Mapping[str, Any] | None = None
) -> None:
    """Write adapter_config.json and adapter_model.safetensors of `model`'s adapters as PEFT does."""
    raise NotImplementedError
