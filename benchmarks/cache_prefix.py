"""Time training of the expert with `--cache_prefix` and without, in one process that alternates between the two.

Both sides take the trainer's own step (forward, backward, clipping, AdamW) with the same weights, frames, noise and
flow times; the cached side reads its prefixes from the file first, which lies in the system's page cache. The shapes
are those of `train_step.py`: a medium network, batch 4, two cameras, prompts of 40 to 60 tokens, horizon 50, float32.

    OMP_NUM_THREADS=2 python benchmarks/cache_prefix.py --threads 2 --rounds 12

Prints a table, with the sizes at full scale, and writes benchmarks/results/cache_prefix_DATE.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import train_step as shapes
from torch import Tensor
from train_step_ours import sizes as medium_sizes

import pi05
from pi05.data.prefix_cache import PrefixCache, file_bytes, write_prefixes
from pi05.machine import machine_info
from pi05.model.config import ModelConfig
from pi05.model.config import pi05 as full_size
from pi05.model.pi05 import Pi05
from pi05.train.cached_prefix import stack_prefix
from pi05.train.optim.adamw import AdamSettings, AdamW, Schedule
from pi05.train.parameters import freeze
from pi05.train.plan.flops import expert_work, flops_per_sample
from pi05.train.step import LossSettings, TrainState, train_step
from pi05.types import Batch

HERE = Path(__file__).parent
SHORTEST, LONGEST, PADDED = 40, 60, 64
FULL_TOKENS = 64
"""Prompt tokens at full scale: LIBERO's longest, padded."""
DATA_SETS = (1_000, 50_000, 500_000)
"""Frames."""
LOSS_TOLERANCE = 1e-5
"""Relative: the prefix was computed beside other frames."""


@dataclass(frozen=True)
class Frames:
    """All frames of the data set, and the steps over them."""

    batch: Batch

    def take(self, rows: np.ndarray, prefix: Tensor | None = None) -> Batch:
        """Return some frames; with their prefixes they bring no pictures."""
        whole, chosen = self.batch, torch.from_numpy(rows)
        assert whole.token_mask is not None
        assert whole.actions is not None
        images = whole.images[chosen] if prefix is None else whole.images[chosen][:, :0]
        return replace(
            whole,
            images=images,
            tokens=whole.tokens[chosen],
            token_mask=whole.token_mask[chosen],
            actions=whole.actions[chosen],
            prefix=prefix,
        )


def main() -> int:
    """Parse the arguments, build the cache, let both sides take turns, print and write what came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=12, help="timed steps of each side, after two for warming up")
    parser.add_argument("--frames", type=int, default=48, help="frames of the data set")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder) / "prefix.npy", arguments.frames, arguments.rounds)
    result = {
        "benchmark": "cache_prefix",
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "versions": {"pi05": pi05.__version__, "torch": torch.__version__},
        "threads": arguments.threads,
        "load_before_and_after": [load, os.getloadavg()[0]],
        "shapes": {**shapes.SHAPES, "batch": shapes.BATCH, "prompt": [SHORTEST, LONGEST, PADDED], "dtype": "float32"},
        **result,
        "full_scale": full_scale(),
    }
    show(result)
    path = HERE / "results" / f"cache_prefix_{result['date']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {path}")
    return 0 if result["same_loss"] else 1


def measure(path: Path, count: int, rounds: int) -> dict[str, Any]:
    """Build the cache of `count` frames, then step on both sides in turns."""
    sizes = medium_sizes()
    frames = draw_frames(sizes, count)
    model = Pi05(sizes)
    generator = torch.Generator().manual_seed(0)
    model.initialize(generator)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "modulation" in name:  # zero at first, which would close every branch that reads the prefix
                value.normal_(std=0.02, generator=generator)
    shape = prefix_shape(sizes, count, shapes.CAMERAS, PADDED)
    announced = file_bytes(shape, torch.float32)
    started = time.perf_counter()
    write_prefixes(path, shape, torch.float32, prefixes(model, frames, count))
    building = time.perf_counter() - started
    cache = PrefixCache(path, np.arange(count), torch.float32)
    sides = {name: state_of(copy.deepcopy(model)) for name in ("without", "cached")}
    settings = LossSettings(kind="lerobot", robot_action_dim=shapes.ROBOT_DIMS)
    order = np.random.default_rng(1)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    losses: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 2):
        rows = order.choice(count, shapes.BATCH, replace=False)
        for name, state in sides.items():
            began = time.perf_counter()
            prefix = cache.read(rows, shape[4]) if name == "cached" else None
            losses[name].append(float(train_step(state, [frames.take(rows, prefix)], settings).loss))
            seconds[name].append(time.perf_counter() - began)
    timed = {name: values[2:] for name, values in seconds.items()}
    median = {name: statistics.median(values) for name, values in timed.items()}
    saved = (median["without"] - median["cached"]) / shapes.BATCH
    apart = max(abs(a - b) / abs(a) for a, b in zip(losses["without"], losses["cached"], strict=True))
    return {
        "frames": count,
        "bytes_announced": announced,
        "bytes_on_disk": path.stat().st_size,
        "bytes_per_frame": announced // count,
        "build_seconds": building,
        "build_seconds_per_frame": building / count,
        "seconds": timed,
        "median_seconds": median,
        "ratio_of_medians": median["without"] / median["cached"],
        "ratio_of_best": min(timed["without"]) / min(timed["cached"]),
        "saved_seconds_per_sample": saved,
        "break_even_epochs": building / count / saved,
        "losses": losses,
        "largest_relative_loss_difference": apart,
        "same_loss": apart <= LOSS_TOLERANCE,
    }


def draw_frames(sizes: ModelConfig, count: int) -> Frames:
    """Return random pictures, prompts and actions."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(SHORTEST, LONGEST + 1, (count, 1), generator=generator)
    actions = torch.zeros(count, sizes.horizon, sizes.action_dim)
    actions[..., : shapes.ROBOT_DIMS] = torch.randn(count, sizes.horizon, shapes.ROBOT_DIMS, generator=generator)
    pictures = (count, shapes.CAMERAS, sizes.image_size, sizes.image_size, 3)
    return Frames(
        Batch(
            images=torch.randint(0, 256, pictures, generator=generator, dtype=torch.uint8),
            image_mask=None,
            tokens=torch.randint(2, sizes.vocab_size, (count, PADDED), generator=generator),
            token_mask=torch.arange(PADDED) < lengths,
            actions=actions,
            trimmed=True,
        )
    )


def prefixes(model: Pi05, frames: Frames, count: int) -> Iterator[Tensor]:
    """Yield the prefixes of all frames, a batch at a time, as the trainer computes them."""
    with torch.no_grad():
        for first in range(0, count, shapes.BATCH):
            yield stack_prefix(model.read_prefix(frames.take(np.arange(first, min(first + shapes.BATCH, count))))[0])


def state_of(model: Pi05) -> TrainState:
    """Return the state of a run that trains the expert."""
    rate = shapes.LEARNING_RATE
    schedule = Schedule(peak=rate, warmup_steps=0, decay_steps=10**6, end=rate)
    settings = AdamSettings(weight_decay=shapes.WEIGHT_DECAY, clip_norm=shapes.CLIP)
    return TrainState(step=0, seed=0, model=model, optimizer=AdamW(freeze(model, "expert"), settings, schedule))


def prefix_shape(sizes: ModelConfig, frames: int, cameras: int, tokens: int) -> tuple[int, ...]:
    """Return the shape of the file."""
    length = cameras * sizes.patches_per_image + tokens
    return (frames, sizes.depth, 2, sizes.num_kv_heads, length, sizes.head_dim)


def full_scale() -> list[dict[str, Any]]:
    """Return the sizes of the file for π₀.₅ itself in bfloat16, and what of a step's work it saves."""
    sizes, found = full_size(), []
    for cameras in (2, 3):
        per_frame = file_bytes(prefix_shape(sizes, 1, cameras, FULL_TOKENS), torch.bfloat16)
        whole = flops_per_sample(sizes, cameras=cameras, prompt_tokens=FULL_TOKENS, part="expert")
        ends, layers = expert_work(sizes, cameras * sizes.patches_per_image + FULL_TOKENS, 0)
        kept = (ends + layers).forward + (ends + layers).backward
        found.append(
            {
                "cameras": cameras,
                "prompt_tokens": FULL_TOKENS,
                "horizon": sizes.horizon,
                "bytes_per_frame": per_frame,
                "gigabytes": {str(frames): per_frame * frames / 1e9 for frames in DATA_SETS},
                "tflop_per_sample": {"without": whole / 1e12, "cached": kept / 1e12},
                "bytes_read_per_tflop_saved": per_frame / ((whole - kept) / 1e12),
            }
        )
    return found


def show(result: dict[str, Any]) -> None:
    """Print what came out."""
    median, per_frame = result["median_seconds"], result["bytes_per_frame"] / 1e6
    print(
        f"step without {median['without']:.3f} s, cached {median['cached']:.3f} s (medians): "
        f"{result['ratio_of_medians']:.2f} × (of the best {result['ratio_of_best']:.2f} ×), losses apart by "
        f"{result['largest_relative_loss_difference']:.1e}; load {result['load_before_and_after'][0]:.1f}"
    )
    print(
        f"{per_frame:.2f} MB a frame, {result['bytes_announced'] / 1e6:.1f} MB announced, "
        f"{result['bytes_on_disk'] / 1e6:.1f} MB on disk; built in {result['build_seconds']:.1f} s, earned back after "
        f"{result['break_even_epochs']:.2f} epochs"
    )
    for each in result["full_scale"]:
        parts = ", ".join(f"{int(frames):,} frames {size:,.0f} GB" for frames, size in each["gigabytes"].items())
        work = each["tflop_per_sample"]
        print(
            f"full scale, {each['cameras']} cameras: {each['bytes_per_frame'] / 1e6:.1f} MB a frame ({parts}); "
            f"{work['without']:.2f} TFLOP a sample become {work['cached']:.2f}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
