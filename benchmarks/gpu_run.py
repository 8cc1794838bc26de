"""A run of the real network with drawn weights, for `gpu_day.py`: built on the device, stepped, timed, watched.

Sizes are those of full size on a GPU, of the tiny network in a rehearsal on a CPU, where memory is not looked at.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from pi05.commands.train import read_training_settings
from pi05.model.config import ModelConfig, tiny
from pi05.model.config import pi05 as full_size
from pi05.train.activations import apply_from_outside
from pi05.train.config import TrainConfig
from pi05.train.device.varlen import flash_varlen, why_no_varlen
from pi05.train.network import trainable
from pi05.train.optim.adamw import Schedule
from pi05.train.optim.build import build_optimizer
from pi05.train.parallel.placement import outline
from pi05.train.plan.gpus import GIB, GPUS, Gpu
from pi05.train.plan.memory import predict
from pi05.train.plan.report import describe_gpu
from pi05.train.plan.step_on_shapes import Shapes
from pi05.train.step import LossSettings, TrainState, train_step
from pi05.types import Batch

PROMPTS = (56, 64, 72)
"""Padded prompt lengths of LIBERO's tasks."""
CAMERAS, PROMPT = 2, 64
SPREAD = 0.02
"""Standard deviation of the drawn weights."""
SCHEDULE = Schedule(peak=1e-6, warmup_steps=0, decay_steps=100, end=1e-6)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where the parts run, and how large."""

    device: torch.device
    gpu: Gpu
    sizes: ModelConfig
    batches: tuple[int, int]
    """The small and the large batch."""

    @classmethod
    def here(cls, *, rehearse: bool) -> Bench:
        """Return the bench of this machine."""
        if rehearse:
            return cls(device=torch.device("cpu"), gpu=GPUS["h200"], sizes=tiny(), batches=(2, 3))
        device = torch.device("cuda", 0)
        torch.cuda.set_device(device)
        gpu = describe_gpu(torch.cuda.get_device_name(device), torch.cuda.get_device_properties(device).total_memory)
        return cls(device=device, gpu=gpu, sizes=replace(full_size(), horizon=50), batches=(8, 32))

    @property
    def on_gpu(self) -> bool:
        """Whether this is no rehearsal."""
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Wait until the device has done everything."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def clean(self) -> None:
        """Give back what a part has left."""
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def memory(self) -> dict[str, float]:
        """Return the peaks of the allocator, in GiB."""
        if not self.on_gpu:
            return {}
        return {
            "allocated_gib": torch.cuda.max_memory_allocated(self.device) / GIB,
            "reserved_gib": torch.cuda.max_memory_reserved(self.device) / GIB,
        }

    def timed(self, work: Callable[[], Any], repeat: int = 5) -> float:
        """Return the milliseconds that `work` takes, the median of some runs behind one that does not count."""
        work()
        times = []
        for _ in range(repeat):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - started)
        return 1e3 * sorted(times)[len(times) // 2]

    @contextmanager
    def limited(self, gib: float) -> Iterator[None]:
        """Let PyTorch have no more memory than a smaller card has."""
        if not self.on_gpu:
            yield
            return
        total = torch.cuda.get_device_properties(self.device).total_memory / GIB
        torch.cuda.set_per_process_memory_fraction(min(1.0, gib / total), self.device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, self.device)


def settings(*flags: str) -> TrainConfig:
    """Return the configuration that training flags describe."""
    return read_training_settings(["--policy.path=base", *flags])[0].config


def fits(bench: Bench, config: TrainConfig, batch: int) -> str | None:
    """Return why a run is left out on this GPU, or None where it is predicted to fit."""
    if not bench.on_gpu:
        return None
    shapes = Shapes(batch=batch, cameras=CAMERAS, prompt_tokens=max(PROMPTS))
    needed = predict(config, bench.sizes, shapes, gpu=bench.gpu).needed_beside_cuda
    free = torch.cuda.mem_get_info(bench.device)[0]
    return None if needed <= free else f"needs {needed / GIB:.1f} GiB by prediction, {free / GIB:.1f} are free"


def draw_state(
    bench: Bench, config: TrainConfig, *, compiled: bool = False, sizes: ModelConfig | None = None
) -> TrainState:
    """Build a run on the device: weights are drawn there, nothing is read."""
    network = outline(config, sizes or bench.sizes)
    model = network.model.to_empty(device=bench.device)
    generator = torch.Generator(bench.device).manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if not value.is_floating_point():
                value.random_(0, 256 if value.dtype == torch.uint8 else 100, generator=generator)
            elif name.endswith(".scales"):
                value.fill_(SPREAD)
            else:
                value.normal_(std=SPREAD, generator=generator)
    if why_no_varlen(bench.device, model.compute_dtype, model.config.head_dim) is None:
        model.varlen = flash_varlen()  # as a run does once its probe has passed
    parameters = trainable(network, config.part)
    apply_from_outside(
        model,
        compile_layers=compiled,
        recompute_activations=config.recomputed,
        offload_activations=config.activation_offload,
        dropout=config.draws_dropout,
    )
    optimizer = build_optimizer(config, parameters, SCHEDULE, bench.device)
    return TrainState(step=0, seed=0, model=model, optimizer=optimizer, dropout=config.draws_dropout)


def draw_batch(bench: Bench, size: int, prompt: int = PROMPT, *, masked: bool = True, seed: int = 0) -> Batch:
    """Draw a batch, in page-locked memory on a GPU's host, and return it on the device."""
    generator = torch.Generator().manual_seed(seed)
    side, sizes = bench.sizes.image_size, bench.sizes
    lengths = prompt - torch.arange(size)[:, None] % 8
    batch = Batch(
        images=torch.randint(0, 256, (size, CAMERAS, side, side, 3), generator=generator, dtype=torch.uint8),
        image_mask=None,
        tokens=torch.randint(1, sizes.vocab_size, (size, prompt), generator=generator),
        token_mask=torch.arange(prompt) < lengths if masked else None,
        actions=torch.randn(size, sizes.horizon, sizes.action_dim, generator=generator),
        action_mask=torch.ones(size, sizes.horizon, dtype=torch.bool),
        trimmed=True,
        counted_tokens=int(lengths.clamp(max=prompt).sum()) if masked else None,
    )
    return (batch.pin_memory() if bench.on_gpu else batch).to(bench.device, non_blocking=True)


def take_steps(bench: Bench, state: TrainState, batches: Sequence[Batch]) -> dict[str, Any]:
    """Take a step with each batch; return times, and what the allocator held. The first step does not count."""
    losses, norms, times = [], [], []
    for batch in batches:
        bench.wait()
        started = time.perf_counter()
        result = train_step(state, [batch], LossSettings(robot_action_dim=7))
        bench.wait()
        times.append(time.perf_counter() - started)
        losses.append(float(result.loss))
        norms.append(float(result.grad_norm))
    rest = sorted(times[1:]) or times
    middle = rest[len(rest) // 2]
    return {
        "first_step_s": times[0],
        "step_ms": 1e3 * middle,
        "samples_per_second": len(batches[0].tokens) / middle,
        "losses": losses,
        "grad_norms": norms,
        **bench.memory(),
    }
