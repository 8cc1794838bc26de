"""What bounds a training step on a GPU: products, attention, the rest, the update. A prediction, not a measurement.

    python benchmarks/roofline.py
    python benchmarks/roofline.py --gpu rtx4090 --batch 8

The real network, loss and backward pass run on shapes (`meta`); each operation's arithmetic and the bytes that it reads
and writes are counted. An operation takes as long as the slower of both at the rates below, and no less than a launch.
Prints a table and writes benchmarks/results/roofline_DATE.json. Left out: loading of data, gaps between kernels.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import pi05
from pi05.commands.train import read_training_settings
from pi05.machine import machine_info
from pi05.model.config import pi05 as full_size
from pi05.model.flow import reduce_loss
from pi05.train.activations import apply_from_outside
from pi05.train.config import TrainConfig
from pi05.train.method import MEANINGS, Method
from pi05.train.plan.gpus import GPUS, Gpu
from pi05.train.plan.live_memory import fused_kernels
from pi05.train.plan.step_on_shapes import build_on_meta
from pi05.types import Batch

HERE = Path(__file__).parent
PRODUCTS_SHARE = 0.8
"""Share of the maker's bfloat16 peak that large products reach. Assumption: 790 of 989 TFLOP/s on an H200."""
FLOAT32_SHARE = 1 / 16
"""Rate of float32 products (without TF32) over the bfloat16 peak. Makers' figures: 67 of 989 on an H200."""
ATTENTION_SHARE = {"flash": 0.35, "efficient": 0.12}
"""Share of the peak in attention, forward and backward together, at head widths of 72 and 256. Assumptions."""
BANDWIDTH_SHARE = 0.85
"""Share of the memory's peak that kernels reach. Assumption."""
FUSED_SHARE = 1 / 3
"""What compilation leaves of the traffic and launches of norms, rotation, GELU, casts and sums. Assumption."""
LAUNCH = 4e-6
"""Seconds that a kernel takes at least. Assumption."""
UPDATE_BYTES = 28 + 12
"""Per trained value: AdamW reads weight, gradient, moments and writes all but the gradient; the norm reads the
gradients, clipping reads and writes them. All float32."""

aten = torch.ops.aten
PRODUCTS = (aten.mm.default, aten.addmm.default, aten.bmm.default)
ATTENTION = (
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_efficient_attention_backward.default,
)


@dataclass
class Part:
    """What operations of a kind do."""

    kernels: int = 0
    flops: float = 0.0
    bytes: float = 0.0
    seconds: float = 0.0

    def add(self, flops: float, size: float, seconds: float) -> None:
        """Count a kernel."""
        self.kernels += 1
        self.flops += flops
        self.bytes += size
        self.seconds += max(seconds, LAUNCH)


class Roofline(TorchDispatchMode):
    """Counts what the operations inside do, by kind."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self.peak, self.bandwidth = gpu.bf16_tflops * 1e12, gpu.bandwidth_gbs * 1e9 * BANDWIDTH_SHARE
        names = ("products", "float32 products", "attention", "masked attention", "weights to bfloat16", "other")
        self.parts = {name: Part() for name in names}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and count it."""
        result = func(*args, **(kwargs or {}))
        given, made = tensors_of(args), tensors_of((result,))
        size = sum(each.numel() * each.element_size() for each in (*given, *made))
        if func in PRODUCTS:
            left, right = args[-2:]
            flops = 2.0 * left.numel() * right.shape[-1]
            kind, share = (
                ("products", PRODUCTS_SHARE) if left.dtype == torch.bfloat16 else ("float32 products", FLOAT32_SHARE)
            )
            self.parts[kind].add(flops, size, max(flops / (share * self.peak), size / self.bandwidth))
        elif func in ATTENTION:
            backward = func is ATTENTION[1]
            query, key, _, bias = args[1:5] if backward else args[:4]
            flops = (10.0 if backward else 4.0) * query.numel() * key.shape[2]
            masked = bias is not None
            rate = ATTENTION_SHARE["efficient" if masked else "flash"] * self.peak
            self.parts["masked attention" if masked else "attention"].add(flops, size, flops / rate)
        elif not (func.is_view or shares_memory(given, made)):
            weight = func is aten._to_copy.default and isinstance(args[0], torch.nn.Parameter)
            kind = "weights to bfloat16" if weight else "other"
            self.parts[kind].add(0.0, size, size / self.bandwidth)
        return result


def tensors_of(values: Any) -> list[Tensor]:
    """Return the tensors among nested arguments."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += tensors_of(value)
    return found


def shares_memory(given: list[Tensor], made: list[Tensor]) -> bool:
    """Tell whether an operation returns what it was given, as views and `detach` do; in-place work has two inputs."""
    return (
        len(given) == 1 == len(made)
        and given[0].untyped_storage()._cdata == made[0].untyped_storage()._cdata
        and given[0].dtype == made[0].dtype
    )


def predict_step(
    gpu: Gpu, batch: int, horizon: int, degree: str, masked: bool, method: Method = "full"
) -> dict[str, Any]:
    """Count one step and return its parts with their seconds."""
    settings = {**MEANINGS[method].settings, "precision": "mixed", "activation_checkpointing": degree}
    config = read_settings(settings)
    sizes = replace(full_size(), horizon=horizon)
    model, parameters = build_on_meta(config, sizes)
    apply_from_outside(model, compile_layers=False, recompute_activations=config.recomputed)
    with torch.device("meta"):
        inputs = Batch(
            images=torch.empty(batch, 2, 224, 224, 3, dtype=torch.uint8),
            image_mask=None,
            tokens=torch.empty(batch, 64, dtype=torch.int64),
            token_mask=torch.empty(batch, 64, dtype=torch.bool) if masked else None,
            actions=torch.empty(batch, horizon, 32),
            action_mask=torch.empty(batch, horizon, dtype=torch.bool),
            trimmed=True,
        )
        noise, time = torch.empty(batch, horizon, 32), torch.empty(batch)
    counted = Roofline(gpu)
    with counted, fused_kernels():
        losses = model.loss(inputs, noise=noise, time=time)
        total, count = reduce_loss(losses, inputs.action_mask, 32, config.loss)
        (total / count).backward()
    moved = sum(each.numel() for each in parameters.values() if each.grad is not None)
    update = Part(kernels=0, bytes=moved * UPDATE_BYTES, seconds=moved * UPDATE_BYTES / counted.bandwidth)
    parts = {**counted.parts, "clipping and update": update}
    eager = sum(part.seconds for part in parts.values())
    loose = parts["other"].seconds + parts["weights to bfloat16"].seconds
    return {
        "batch": batch,
        "horizon": horizon,
        "checkpointing": degree,
        "masked": masked,
        "method": method,
        "parts": {name: vars(part) for name, part in parts.items()},
        "samples_per_second_eager": batch / eager,
        "samples_per_second_compiled": batch / (eager - loose * (1 - FUSED_SHARE)),
    }


def read_settings(settings: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration of some settings by flag."""
    words = [f"--{path}={str(value).lower() if isinstance(value, bool) else value}" for path, value in settings.items()]
    return read_training_settings(words)[0].config


def main() -> None:
    """Predict the steps that the speed target names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", default="h200", choices=sorted(GPUS))
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 64])
    arguments = parser.parse_args()
    gpu = GPUS[arguments.gpu]
    cases = [
        predict_step(gpu, batch, 10, degree, masked)
        for batch in arguments.batch
        for degree, masked in (("none", True), ("selective", True), ("selective", False), ("full", True))
    ]
    cases += [
        predict_step(gpu, batch, 10, degree, True, "lora")
        for batch in arguments.batch
        for degree in ("selective", "full")
    ]
    table = Table(title=f"{gpu.title}: milliseconds of a step. Predicted, not measured")
    for column in ("method", "batch", "recomputed", "prompts", *cases[0]["parts"], "samples/s eager", "compiled"):
        table.add_column(column, justify="right")
    for case in cases:
        times = [f"{part['seconds'] * 1e3:.1f}" for part in case["parts"].values()]
        speeds = [f"{case[f'samples_per_second_{how}']:.0f}" for how in ("eager", "compiled")]
        masked = "padded" if case["masked"] else "of one length"
        table.add_row(case["method"], str(case["batch"]), case["checkpointing"], masked, *times, *speeds)
    Console(width=200).print(table)
    result = {
        "what": "prediction from shapes and assumed rates; nothing here was measured on a GPU",
        "gpu": vars(gpu),
        "assumptions": {
            "products_share": PRODUCTS_SHARE,
            "float32_share": FLOAT32_SHARE,
            "attention_share": ATTENTION_SHARE,
            "bandwidth_share": BANDWIDTH_SHARE,
            "fused_share": FUSED_SHARE,
            "launch_seconds": LAUNCH,
        },
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "versions": {"pi05": pi05.__version__, "torch": torch.__version__},
        "cases": cases,
    }
    path = HERE / "results" / f"roofline_{arguments.gpu}_{date.today().isoformat()}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
