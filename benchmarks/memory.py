"""Predicted memory of full-size π₀.₅ on LIBERO's shapes against the targets; on a CUDA GPU, measured too.

    python benchmarks/memory.py
    python benchmarks/memory.py --measure
    python benchmarks/memory.py --methods="LoRA;QLoRA" --keep benchmarks/results/memory_DATE.json

Prompts of 48 to 60 tokens are padded to 48, 56 or 64; the longest is taken. Horizons are 50, since 10 has
never needed more. Prints tables and writes benchmarks/results/memory_DATE.json with the machine, the versions and the
date of each case: with `--keep` cases that are not run again are taken from earlier files, the last of which counts
first. `--measure` runs what fits the GPU of
this machine with random weights, two steps each, and compares the peak of PyTorch's allocator with the prediction.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import pi05
from pi05.commands.train import read_training_settings
from pi05.machine import machine_info
from pi05.model.config import ModelConfig
from pi05.model.config import pi05 as full_size
from pi05.model.pi05 import Pi05
from pi05.train.activations import apply_from_outside
from pi05.train.cached_prefix import stack_prefix
from pi05.train.config import TrainConfig
from pi05.train.lora import adapt
from pi05.train.network import Network, compute_dtype, hold_matrices, trainable
from pi05.train.optim.adamw import Ema, Schedule
from pi05.train.optim.build import build_optimizer
from pi05.train.plan.gpus import GIB, GPUS
from pi05.train.plan.memory import MemoryPrediction, predict
from pi05.train.plan.step_on_shapes import Shapes
from pi05.train.step import LossSettings, TrainState, train_step
from pi05.types import Batch

HERE = Path(__file__).parent
CAMERAS, PROMPT_TOKENS = 2, 64
FULL = ("--activation_checkpointing=full",)
SMALL = (*FULL, "--precision=bf16-sr", "--optimizer_state=8bit", "--gradient_release=true")
METHODS: dict[str, tuple[str, ...]] = {
    "full": (),
    "full, cheap work recomputed": ("--activation_checkpointing=selective",),
    "full, recomputed": FULL,
    "full, recomputed, moving average": (*FULL, "--ema.enable=true"),
    "full, recomputed, 8-bit moments": (*FULL, "--optimizer_state=8bit"),
    "full, recomputed, 8-bit moments, release": (*FULL, "--optimizer_state=8bit", "--gradient_release=true"),
    "full, recomputed, moments on the host, release": (*FULL, "--optimizer_offload=true", "--gradient_release=true"),
    "full, bf16-sr, recomputed, 8-bit moments": (*FULL, "--precision=bf16-sr", "--optimizer_state=8bit"),
    "full, bf16-sr, recomputed, 8-bit moments, release": SMALL,
    "full, bf16-sr, recomputed, 4-bit moments, release": (*SMALL, "--optimizer_state=4bit"),
    "full, bf16-sr, recomputed, moments on the host, release": (
        *FULL,
        "--precision=bf16-sr",
        "--optimizer_offload=true",
        "--gradient_release=true",
    ),
    "expert": ("--method=expert",),
    "expert, prefix cached": ("--method=expert", "--augment=false", "--cache_prefix=true"),
    "LoRA": ("--method=lora",),
    "LoRA, recomputed": ("--method=lora", *FULL),
    "LoRA of the expert": ("--method=lora", "--policy.train_expert_only=true"),
    "QLoRA": ("--method=qlora",),
    "QLoRA, recomputed": ("--method=qlora", *FULL),
}
BATCHES, HORIZONS = (1, 8, 32), (50,)
TARGETS = (
    ("full fine-tuning, batch 8", "full, bf16-sr, recomputed, 8-bit moments, release", 8, 22.0),
    ("full fine-tuning, batch 32", "full, bf16-sr, recomputed, 8-bit moments, release", 32, 30.0),
    ("LoRA, batch 8", "LoRA, recomputed", 8, 10.0),
    ("QLoRA, batch 1", "QLoRA", 1, 6.0),
)
"""What, with which method, at which batch, at most how many GiB of PyTorch's allocator."""
NOT_MEASURED = "No GPU has been measured yet: every number here is a prediction."


@dataclass(frozen=True, kw_only=True)
class Case:
    """A method at a batch size and a horizon."""

    method: str
    batch: int
    horizon: int

    @property
    def config(self) -> TrainConfig:
        """The configuration of the run."""
        flags = [f"--batch_size={self.batch}", "--output_dir=none", *METHODS[self.method]]
        return read_training_settings(flags)[0].config

    @property
    def sizes(self) -> ModelConfig:
        """The network."""
        return replace(full_size(), horizon=self.horizon)

    @property
    def shapes(self) -> Shapes:
        """The batch."""
        return Shapes(batch=self.batch, cameras=CAMERAS, prompt_tokens=PROMPT_TOKENS)


def main() -> int:
    """Predict, measure where asked and possible, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="run on the CUDA GPU of this machine too")
    parser.add_argument("--methods", type=methods_of, default=list(METHODS), help="separated by semicolons; else all")
    parser.add_argument("--batches", type=sizes_of, default=list(BATCHES), help="separated by commas")
    parser.add_argument("--horizons", type=sizes_of, default=list(HORIZONS), help="separated by commas")
    parser.add_argument("--keep", type=Path, nargs="+", default=[], help="files whose other cases are taken over")
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"memory_{date.today().isoformat()}.json")
    arguments = parser.parse_args()
    if arguments.measure and not torch.cuda.is_available():
        parser.error("--measure needs a CUDA GPU, and PyTorch sees none")
    cases = [
        Case(method=method, batch=batch, horizon=horizon)
        for method in arguments.methods
        for horizon in arguments.horizons
        for batch in arguments.batches
    ]
    records = []
    for case in cases:
        prediction = predict(case.config, case.sizes, case.shapes)
        records.append(record(case, prediction, arguments.measure))
        print(f"{case}: {prediction.peak / GIB:.1f} GiB", flush=True)
    records = with_kept(records, arguments.keep)
    console = Console(width=190)
    show(records, console)
    targets = check_targets(records)
    show_targets(targets, console)
    content = {
        "benchmark": "memory",
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "versions": {"pi05": pi05.__version__, "torch": torch.__version__},
        "shapes": {"cameras": CAMERAS, "prompt_tokens": PROMPT_TOKENS, "network": full_size().to_dict()},
        "measured_on": torch.cuda.get_device_name() if arguments.measure else None,
        "remark": None if arguments.measure else NOT_MEASURED,
        "targets": targets,
        "cases": records,
    }
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(f"wrote {arguments.out}" if arguments.measure else f"{NOT_MEASURED} Wrote {arguments.out}.")
    return 0


def with_kept(records: Sequence[dict[str, Any]], files: Sequence[Path]) -> list[dict[str, Any]]:
    """Return cases with those of earlier files that were not run again, at any horizon, in the order of `METHODS`."""
    found = list(records)
    for file in reversed(files):
        earlier = json.loads(file.read_text(encoding="utf-8"))
        again = {(each["method"], each["batch"]) for each in found}
        kept = [each for each in earlier["cases"] if (each["method"], each["batch"]) not in again]
        found += [{"date": earlier["date"], **each} for each in kept]
    order = {method: index for index, method in enumerate(METHODS)}
    return sorted(found, key=lambda each: (order[each["method"]], each["horizon"], each["batch"]))


def methods_of(text: str) -> list[str]:
    """Return the methods of a flag."""
    names = text.split(";") if text else []
    if unknown := [name for name in names if name not in METHODS]:
        raise argparse.ArgumentTypeError(f"no method {unknown[0]!r}; there are: {'; '.join(METHODS)}")
    return names


def sizes_of(text: str) -> list[int]:
    """Return the positive whole numbers of a flag."""
    sizes = [int(each) for each in text.split(",")]
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not all positive")
    return sizes


def record(case: Case, prediction: MemoryPrediction, measured: bool) -> dict[str, Any]:
    """Return a case as plain data, with the measured peak where it was asked for and the case fits."""
    found: dict[str, Any] = {
        "date": date.today().isoformat(),
        "method": case.method,
        "flags": list(METHODS[case.method]),
        "batch": case.batch,
        "horizon": case.horizon,
        "parts": prediction.parts,
        "peak": prediction.peak,
        "host": prediction.host,
        "fits": [name for name, gpu in GPUS.items() if prediction.needed <= gpu.memory],
    }
    if measured and prediction.needed <= torch.cuda.mem_get_info()[0]:
        found["measured"] = measure(case)
        found["off_by"] = found["peak"] / found["measured"] - 1
    return found


def measure(case: Case) -> int:
    """Take two steps on the GPU with random weights; return the peak of PyTorch's allocator in the second one."""
    device, config = torch.device("cuda"), case.config
    torch.manual_seed(0)
    state = build(case, device)
    shown = random_batch(case, device)
    batches = [shown]
    train_step(state, batches, LossSettings())
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    if config.cache_prefix:
        with torch.no_grad():
            prefix = stack_prefix(state.model.read_prefix(shown)[0])  # type: ignore[operator]
        batches = [replace(shown, images=shown.images[:, :0], prefix=prefix)]
        del prefix
    train_step(state, batches, LossSettings(flow_samples=config.flow_samples))
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated()
    del state, shown, batches
    gc.collect()
    torch.cuda.empty_cache()
    return peak


def build(case: Case, device: torch.device) -> TrainState:
    """Return the state of a run on the GPU, as the training loop builds it."""
    config = case.config
    with device:
        model = hold_matrices(Pi05(case.sizes, compute_dtype(config.precision)), config.precision)
    network = Network(model=model, receipt=None, lora=adapt(model, config))
    parameters = trainable(network, config.part)
    apply_from_outside(model, compile_layers=False, recompute_activations=config.recomputed)
    schedule = Schedule(peak=1e-5, warmup_steps=0, decay_steps=100, end=1e-6)
    return TrainState(
        step=0,
        seed=0,
        model=model,
        optimizer=build_optimizer(config, parameters, schedule, device),
        ema=Ema(parameters, config.ema.decay) if config.ema.enable else None,
    )


def random_batch(case: Case, device: torch.device) -> Batch:
    """Return a batch of the case's shapes."""
    count, side, sizes = case.batch, case.sizes.image_size, case.sizes
    valid = torch.ones(count, PROMPT_TOKENS, dtype=torch.bool)
    valid[0, -4:] = False
    batch = Batch(
        images=torch.randint(0, 256, (count, CAMERAS, side, side, 3), dtype=torch.uint8),
        image_mask=None,
        tokens=torch.randint(0, sizes.vocab_size, (count, PROMPT_TOKENS)),
        token_mask=valid,
        actions=torch.randn(count, sizes.horizon, sizes.action_dim),
        action_mask=torch.ones(count, sizes.horizon, dtype=torch.bool),
        trimmed=True,
    )
    return batch.to(device)


def show(records: Sequence[dict[str, Any]], console: Console) -> None:
    """Print the table of all cases, in GiB."""
    table = Table(title="Peak of a training step, GiB", title_justify="left")
    parts = ("weights", "gradients", "optimizer", "average", "activations", "workspace")
    for column in ("method", "batch", "horizon", *parts, "step", "measured", "smallest GPU"):
        table.add_column(column, justify="left" if column in ("method", "smallest GPU") else "right")
    for each in records:
        sizes = [f"{each['parts'][name] / GIB:.1f}" for name in parts]
        measured = f"{each['measured'] / GIB:.1f} ({each['off_by']:+.0%})" if "measured" in each else ""
        smallest = min(each["fits"], key=lambda name: GPUS[name].memory, default="none")
        step = f"{each['peak'] / GIB:.1f}"
        table.add_row(each["method"], str(each["batch"]), str(each["horizon"]), *sizes, step, measured, smallest)
    console.print(table)


def check_targets(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each target with the largest peak over the horizons that were run; targets not run are left out."""
    found = []
    for what, method, batch, limit in TARGETS:
        runs = [each for each in records if (each["method"], each["batch"]) == (method, batch)]
        if runs:
            peak = max(each["peak"] for each in runs) / GIB
            row = {"what": what, "method": method, "flags": list(METHODS[method]), "limit_gib": limit}
            found.append({**row, "peak_gib": round(peak, 2), "met": peak <= limit})
    return found


def show_targets(targets: Sequence[dict[str, Any]], console: Console) -> None:
    """Print the targets."""
    table = Table(title="Targets, GiB of PyTorch's allocator", title_justify="left")
    for column in ("target", "at most", "a step", "", "with"):
        table.add_column(column)
    for each in targets:
        met = "met" if each["met"] else "missed"
        sizes = [f"{each[name]:.1f}" for name in ("limit_gib", "peak_gib")]
        table.add_row(each["what"], *sizes, met, each["method"])
    console.print(table)


if __name__ == "__main__":
    raise SystemExit(main())
