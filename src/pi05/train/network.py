"""The network of a run: its sizes, its weights, its precision.

Weights come from a base checkpoint, strictly and with a receipt, or from the generator when training from scratch was
asked for by name. Leaves out data, optimizer and run folders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

import pi05
from pi05.checkpoint.load import read_config, read_model
from pi05.checkpoint.locate import Location, locate
from pi05.checkpoint.peft.kept_base import keep_base, keep_merged
from pi05.checkpoint.receipt import Receipt
from pi05.errors import CheckpointError, ConfigError
from pi05.machine import choose_device, keep_freed_memory
from pi05.model import config as model_config
from pi05.model import inference
from pi05.model.config import ModelConfig
from pi05.model.pi05 import Pi05
from pi05.sources.resolve import is_name
from pi05.train.config import TrainConfig
from pi05.train.lora import LoraPlan, adapt, base_weights, freeze_base, parameters_of_plan
from pi05.train.method import Part
from pi05.train.parallel.ranks import local_rank
from pi05.train.parameters import freeze, parameters_of


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network ready to train, and where its weights came from."""

    model: Pi05
    receipt: Receipt | None
    """None when the weights were drawn, or will come from the run's checkpoint."""
    lora: LoraPlan | None = None
    """What LoRA trains; None for the other methods."""


def own_device(name: str) -> torch.device:
    """Return the device of `--policy.device` for this process, and make it the current one.

    Of the processes that torchrun starts on a machine each takes the GPU of its number, one alone the first: PyTorch
    makes none current that has no number. Raises ConfigError when it is not there.
    """
    device = choose_device(name, local_rank())
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        keep_freed_memory()
    return device


def locate_start(config: TrainConfig) -> Location | None:
    """Find the base of a run, once for all that is taken from it; None when training from scratch.

    Raises ConfigError when there is neither a base nor the wish to train from scratch, CheckpointError when the base is
    not there.
    """
    if config.policy.path is None:
        if config.from_scratch:
            return None
        raise ConfigError(
            "there are no weights to start from",
            wanted="--policy.path=BASE, a local π₀.₅ checkpoint; or --preset tiny, which brings one",
            found="neither",
            remedy="give --policy.path, or --from_scratch to train from random weights on purpose",
        )
    if not Path(config.policy.path).exists() and not is_name(config.policy.path, "model"):
        raise CheckpointError(
            "the base checkpoint is not there",
            wanted=f"a folder or file at --policy.path={config.policy.path}",
            found="no such path, and no OWNER/NAME of the hub",
            remedy="correct --policy.path",
        )
    return locate(config.policy.path)


def sizes_from_scratch(config: TrainConfig) -> ModelConfig:
    """Return the sizes that `from_scratch` builds."""
    sizes = model_config.tiny() if config.network == "tiny" else model_config.pi05()
    horizon = config.policy.chunk_size or sizes.horizon
    tokens = config.policy.tokenizer_max_length or sizes.max_prompt_tokens
    return replace(sizes, horizon=horizon, max_prompt_tokens=tokens)


def choose_sizes(config: TrainConfig, base: Location | None) -> ModelConfig:
    """Return the network's sizes: the base's, with chunk size and prompt length as asked.

    Raises ConfigError for `n_action_steps`, or delays, beyond the chunk.
    """
    if config.from_scratch or base is None:
        sizes = sizes_from_scratch(config)
    else:
        sizes = read_config(base)
        sizes = replace(
            sizes,
            horizon=config.policy.chunk_size or sizes.horizon,
            max_prompt_tokens=config.policy.tokenizer_max_length or sizes.max_prompt_tokens,
        )
    config.policy.steps_to_execute(sizes.horizon)
    config.require_delay_within(sizes.horizon)
    return sizes


def build_network(config: TrainConfig, sizes: ModelConfig, device: torch.device, base: Location | None) -> Network:
    """Build the network with weights from the base, or drawn from the seed when training from scratch.

    A base that is an adapter is merged with its own base. With LoRA the network has its new adapters. What becomes
    bfloat16 or is quantised does so on the CPU: the device never has to hold it in float32.
    """
    dtype = compute_dtype(config.precision)
    if config.from_scratch or base is None:
        model = Pi05(sizes, dtype)
        model.initialize(torch.Generator().manual_seed(config.seed))
        return Network(model=hold_matrices(model, config.precision).to(device), receipt=None)
    model, receipt = read_model(base, _first_device(config, device), torch.float32, sizes, dtype)
    lora = adapt(hold_matrices(model, config.precision), config)
    return Network(model=model.to(device), receipt=receipt, lora=lora)


def rebuild_network(
    config: TrainConfig, sizes: ModelConfig, device: torch.device, folder: Path, base: Mapping[str, str] | None
) -> Network:
    """Build the network that the checkpoint at `folder` has the trained values for.

    Without LoRA it is empty; with LoRA it stands on the base that the run keeps. Raises CheckpointError when that base
    is not the one that `base` records.
    """
    if not config.uses_adapters or base is None:
        with torch.device("meta"):
            model = hold_matrices(Pi05(sizes, compute_dtype(config.precision)), config.precision)
        return Network(model=model.to_empty(device=device), receipt=None)
    path = (folder / base["path"]).resolve()
    if not path.exists():
        raise CheckpointError(
            "the base weights of the run are not there",
            wanted=str(path),
            found="nothing",
            remedy="copy the whole run folder, with base/ in it",
        )
    dtype = compute_dtype(config.precision)
    model, receipt = read_model(locate(path), _first_device(config, device), torch.float32, sizes, dtype)
    if receipt.sha256 != base["sha256"]:
        raise CheckpointError(
            "the base weights of the run have changed; its adapters do not fit them any more",
            wanted=f"SHA-256 {base['sha256']}, as {folder} records",
            found=f"{receipt.sha256} in {path}",
            remedy=f"restore the weights there; the run was started from {base.get('source')}",
        )
    lora = adapt(model, config)
    return Network(model=model.to(device), receipt=receipt, lora=lora)


def _first_device(config: TrainConfig, device: torch.device) -> torch.device:
    return torch.device("cpu") if reads_on_host(config) else device


def reads_on_host(config: TrainConfig) -> bool:
    """Tell whether the base is read into host memory first, since it shall not reach the device in float32."""
    return config.precision == "bf16-sr" or (config.uses_adapters and holds_less_than_float32(config))


def holds_less_than_float32(config: TrainConfig) -> bool:
    """Tell whether LoRA's frozen base is rounded or quantised."""
    return config.precision != "float32" or config.peft.quantize != "none"


def chosen(network: Network, part: Part) -> dict[str, nn.Parameter]:
    """Return the parameters that the settings ask to train, by name; what nothing reads is among them."""
    return (
        parameters_of(network.model, part) if network.lora is None else parameters_of_plan(network.model, network.lora)
    )


def trainable(network: Network, part: Part) -> dict[str, nn.Parameter]:
    """Switch gradients off for what stays as it is; return the trainable parameters by name."""
    return freeze(network.model, part) if network.lora is None else freeze_base(network.model, network.lora)


def keep_weights(
    network: Network, config: TrainConfig, base: Location | None, root: Path, tell: Callable[[str], None]
) -> dict[str, str] | None:
    """Return what checkpoints record of the base; with LoRA, whose checkpoints lack it, the run keeps it first."""
    if network.receipt is None or base is None:
        return None
    if network.lora is None:
        return {"path": network.receipt.source, "sha256": network.receipt.sha256}
    if base.adapter is None:
        return keep_base(root, base, network.receipt.sha256, tell)
    model = network.model
    if holds_less_than_float32(config):  # it has the weights of that base no more
        model, _ = read_model(base, "cpu", torch.float32, model.config)
    sizes = {"model": model.config.to_dict(), "pi05_version": pi05.__version__}
    return keep_merged(root, base_weights(model), sizes, str(base.given), tell)


def compute_dtype(precision: str) -> torch.dtype:
    """Return the precision of the towers' arithmetic."""
    return torch.float32 if precision == "float32" else torch.bfloat16


def hold_matrices(model: Pi05, precision: str) -> Pi05:
    """With `bf16-sr` round the towers' matrices and the embedding to bfloat16, to the nearest; return the model."""
    if precision == "bf16-sr":
        inference.hold_matrices(model, torch.bfloat16)
    return model
