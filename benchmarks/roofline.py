"""What bounds a training step on a GPU: products, attention, the rest, the update. A prediction, not a measurement.

    python benchmarks/roofline.py
    python benchmarks/roofline.py --gpu rtx4090 --batch 8

What is counted and at which rates is `pi05/train/plan/roofline.py`'s, which `pi05 plan` and `pi05 train` ask, too.
Prints a table and writes benchmarks/results/roofline_GPU_DATE.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import pi05
from pi05.commands.train import read_training_settings
from pi05.machine import machine_info
from pi05.model.config import pi05 as full_size
from pi05.train.config import TrainConfig
from pi05.train.method import MEANINGS, Method
from pi05.train.plan.gpus import GPUS, Gpu
from pi05.train.plan.roofline import (
    ATTENTION_SHARE,
    BANDWIDTH_SHARE,
    FLOAT32_SHARE,
    FUSED_SHARE,
    LAUNCH,
    PRODUCTS_SHARE,
    count_operations,
)
from pi05.train.plan.step_on_shapes import Shapes

HERE = Path(__file__).parent


def predict_step(
    gpu: Gpu, batch: int, horizon: int, degree: str, masked: bool, method: Method = "full"
) -> dict[str, Any]:
    """Count one step and return its parts with their seconds."""
    settings = {**MEANINGS[method].settings, "precision": "mixed", "activation_checkpointing": degree}
    sizes, shapes = replace(full_size(), horizon=horizon), Shapes(batch=batch, cameras=2, prompt_tokens=64)
    operations = count_operations(read_settings(settings), sizes, shapes, padded=masked)
    return {
        "batch": batch,
        "horizon": horizon,
        "checkpointing": degree,
        "masked": masked,
        "method": method,
        "parts": {name: vars(part) for name, part in operations.parts(gpu).items()},
        "samples_per_second_eager": batch / operations.seconds(gpu),
        "samples_per_second_compiled": batch / operations.seconds(gpu, compiled=True),
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
