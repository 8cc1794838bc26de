"""Weights from any readable layout into the network: strictly, all or nothing, with a receipt.

Every tensor of the file is loaded, tied, merged, or ignored by name with a reason; every parameter of the network gets
a value. All of that is checked, and every value read, before there is a network. Peers print a line and go on
with random weights when a load fails; here it is an error. The work is in `weights.py` (full weights) and
`peft/load.py` (an adapter on its base).
"""

from __future__ import annotations

from pathlib import Path

import torch

from pi05.checkpoint.locate import Location, Weights, locate
from pi05.checkpoint.peft.load import adapted_sizes, read_adapted
from pi05.checkpoint.peft.locate_base import AdapterBase, locate_base
from pi05.checkpoint.receipt import Receipt, tell_origin
from pi05.checkpoint.weights import decide_sizes, open_tensors, read_full
from pi05.model.config import ModelConfig
from pi05.model.pi05 import Pi05


def load_model(
    path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    config: ModelConfig | None = None,
    compute_dtype: torch.dtype | None = None,
    *,
    base: str | Path | None = None,
    merge: bool = True,
    weights: Weights = "ema",
) -> Pi05:
    """Build the network that a checkpoint holds; `read_model` returns the receipt as well.

    `path` is a folder of pi05 (checkpoint or run), LeRobot, openpi PyTorch or openpi JAX (orbax), of full weights,
    sharded or not, or of an adapter. Or it is a file: .safetensors with any of their names, or an .npz of openpi's JAX
    parameters. An adapter is applied to `base` (default: the base that it records). `weights="raw"` reads the weights
    beside the EMA from an openpi JAX folder. The other options are those of `read_model`. Raises CheckpointError for
    anything that does not fit.
    """
    location = locate(path, weights)
    found = locate_base(location, base)
    model, _ = read_model(location, device, dtype, config, compute_dtype, base=found, merge=merge)
    model.origin = tell_origin(location)
    return model


def read_model(
    location: Location,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    config: ModelConfig | None = None,
    compute_dtype: torch.dtype | None = None,
    *,
    base: AdapterBase | None = None,
    merge: bool = True,
) -> tuple[Pi05, Receipt]:
    """Build the network that a located checkpoint holds, and say what was read.

    `dtype` is the precision of the parameters, `compute_dtype` that of the towers' arithmetic (default: the same).
    `config` is needed where the file does not tell its head counts. An adapter is applied to `base`, which is looked
    for where it is not given, and merged in float32; with `merge=False` it is kept apart as LoRA modules. Raises
    CheckpointError for anything that does not fit.
    """
    base = base or locate_base(location)
    if base is None:
        return read_full(location, device, dtype, config, compute_dtype)
    return read_adapted(location, base, device, dtype, config, compute_dtype, merge)


def read_config(location: Location, base: AdapterBase | None = None) -> ModelConfig:
    """Return the sizes of the network in a located checkpoint, without reading its weights."""
    base = base or locate_base(location)
    if base is None:
        return decide_sizes(location, open_tensors(location).shapes, None)
    return adapted_sizes(location, base)
