"""Weights from any readable layout into the network: strictly, all or nothing, with a receipt.

Every tensor of the file is loaded, tied, merged, or ignored by name with a reason; every parameter of the network gets
a value. All of that is checked, and every tensor read once, before the network is touched. Peers print a line and go on
with random weights when a load fails; here it is an error. The work is in `weights.py` (full weights) and
`peft/load.py` (an adapter on its base).
"""

from __future__ import annotations

from pathlib import Path

import torch

from pi05.checkpoint.locate import Weights, locate
from pi05.checkpoint.peft.load import adapted_sizes, read_adapted
from pi05.checkpoint.receipt import Receipt
from pi05.checkpoint.weights import decide_sizes, fill_full, open_source, read_full
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
    """Build the network that a checkpoint holds; see `read_model`, which returns the receipt as well."""
    return read_model(path, device, dtype, config, compute_dtype, base=base, merge=merge, weights=weights)[0]


def read_model(
    path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    config: ModelConfig | None = None,
    compute_dtype: torch.dtype | None = None,
    *,
    base: str | Path | None = None,
    merge: bool = True,
    weights: Weights = "ema",
) -> tuple[Pi05, Receipt]:
    """Build the network that a checkpoint holds, and say what was read.

    `path`: folder of pi05 (checkpoint or run), LeRobot, openpi PyTorch or openpi JAX (orbax), of full weights or of an
    adapter; one .safetensors file with any of their names; an .npz of openpi's JAX parameters. `dtype` is the precision
    of the parameters, `compute_dtype` that of the towers' arithmetic (default: the same). `config` is needed where the
    file does not tell its head counts. An adapter is applied to `base` (default: the base that it records) and merged
    in float32, or kept apart as LoRA modules with `merge=False`. `weights="raw"` reads the weights beside the EMA from
    an openpi JAX folder. Raises CheckpointError for anything that does not fit.
    """
    location = locate(path, weights)
    if location.adapter is not None:
        return read_adapted(location, device, dtype, config, compute_dtype, base, merge)
    return read_full(location, device, dtype, config, compute_dtype)


def load_weights(model: Pi05, path: str | Path, *, base: str | Path | None = None, weights: Weights = "ema") -> Receipt:
    """Replace all parameters of `model` by those of the checkpoint at `path`; on an error the model is as it was.

    An adapter is merged into its base first, in memory of its own.
    """
    location = locate(path, weights)
    if location.adapter is None:
        return fill_full(model, location)
    first = next(model.parameters())
    merged, receipt = read_adapted(location, first.device, first.dtype, model.config, None, base, True)
    model.load_state_dict(merged.state_dict(), strict=True)
    return receipt


def read_config(path: str | Path, *, base: str | Path | None = None) -> ModelConfig:
    """Return the sizes of the network in a checkpoint, without reading its weights."""
    location = locate(path)
    if location.adapter is None:
        return decide_sizes(location, open_source(location).shapes, None)
    return adapted_sizes(location, base)
