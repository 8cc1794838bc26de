"""Numbers about a run between two log lines: losses, speed, waiting for data, memory, time left.

Times come from a monotonic clock around work that has finished: reading the losses waits for the device first. Leaves
out where the numbers go (`sinks.py`).
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pi05.train.parallel.ranks import Ranks
from pi05.train.parameters import kernel_norm
from pi05.train.records.durations import duration
from pi05.train.step import StepResult

Clock = Callable[[], float]


class Meter:
    """Collects step results without waiting for the device, and turns them into one record per log interval."""

    def __init__(
        self,
        *,
        total_steps: int,
        train_frames: int,
        first_step: int,
        samples: int,
        clock: Clock,
        peak: float | None = None,
    ) -> None:
        self.samples = samples
        self.steps = 0
        """Steps of this session."""
        self._peak = peak
        self._total_steps = total_steps
        self._train_frames = train_frames
        self._clock = clock
        self._results: list[StepResult] = []
        self._interval_start = clock()
        self._start = (self._interval_start, first_step)
        self._waited = 0.0
        self._paused = 0.0
        self._work = 0.0

    def waited(self, seconds: float) -> None:
        """Count time in which the step had no data to work on."""
        self._waited += seconds

    def paused(self, seconds: float) -> None:
        """Count time that belongs to validation and saving, not to training speed."""
        self._paused += seconds

    def add(self, result: StepResult, work: float = 0.0) -> None:
        """Take in one step, and the useful operations of it on this device."""
        self._work += work
        self._results.append(result)
        self.steps += 1
        self.samples += result.samples

    def record(self, parameters: Mapping[str, Tensor], ranks: Ranks | None = None) -> dict[str, float | int | str]:
        """Return the metrics since the last record, and start a new interval.

        Waiting and memory are those of the process with the most.
        """
        losses = torch.stack([result.loss for result in self._results]).mean()
        norms = torch.stack([result.grad_norm for result in self._results]).mean()
        loss, grad_norm, param_norm = torch.stack([losses, norms, kernel_norm(parameters).to(losses)]).tolist()
        now = self._clock()
        elapsed = max(now - self._interval_start - self._paused, 1e-9)
        latest = self._results[-1]
        device = latest.loss.device
        waited, memory, reserved = self._waited / elapsed, peak_memory_gb(device), peak_reserved_gb(device)
        if ranks is not None:
            waited, memory, reserved = ranks.maxima([waited, memory, reserved])
        record: dict[str, float | int | str] = {
            "type": "train",
            "step": latest.step,
            "samples": self.samples,
            "epochs": self.samples / self._train_frames,
            "loss": loss,
            "grad_norm": grad_norm,
            "param_norm": param_norm,
            "learning_rate": latest.learning_rate,
            "samples_per_second": sum(result.samples for result in self._results) / elapsed,
            "data_wait": waited,
            "memory_gb": memory,
            "seconds_left": self._seconds_left(now, latest.step),
        }
        if reserved:
            record["memory_reserved_gb"] = reserved
        if self._work:
            record["tflops_per_second"] = self._work / elapsed / 1e12
        if self._work and self._peak is not None:
            record["mfu"] = self._work / elapsed / self._peak
        self._results, self._waited, self._paused, self._interval_start = [], 0.0, 0.0, now
        self._work = 0.0
        return record

    def _seconds_left(self, now: float, step: int) -> float:
        """Extrapolate from the whole session, validation and saving included."""
        started, first_step = self._start
        return (now - started) / max(step - first_step, 1) * (self._total_steps - step)


def peak_memory_gb(device: torch.device) -> float:
    """Return the most memory used so far: of the GPU, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def peak_reserved_gb(device: torch.device) -> float:
    """Return the most memory that PyTorch has taken from the GPU so far, gaps between blocks included; 0 on a CPU."""
    return torch.cuda.max_memory_reserved(device) / 1e9 if device.type == "cuda" else 0.0


def non_finite(values: Float[Tensor, " N"]) -> list[int]:
    """Return the positions that hold NaN or infinity."""
    return torch.nonzero(~torch.isfinite(values)).flatten().tolist()


def render_line(record: Mapping[str, float | int | str], total_steps: int) -> str:
    """Return a train record as one console line."""
    value = {key: float(entry) for key, entry in record.items() if not isinstance(entry, str)}
    parts: Sequence[str] = (
        f"step {int(value['step']):>{len(str(total_steps))},}/{total_steps:,}",
        f"samples {int(value['samples']):,}",
        f"epochs {value['epochs']:.2f}",
        f"loss {value['loss']:.4f}",
        f"grad {value['grad_norm']:.3f}",
        f"lr {value['learning_rate']:.2e}",
        f"{value['samples_per_second']:.1f} samples/s",
        *((f"{value['tflops_per_second']:.3g} TFLOP/s",) if "tflops_per_second" in value else ()),
        *((f"MFU {value['mfu']:.0%}",) if "mfu" in value else ()),
        f"data wait {value['data_wait']:.0%}",
        f"memory {value['memory_gb']:.1f} GB"
        + (f" ({value['memory_reserved_gb']:.1f} reserved)" if "memory_reserved_gb" in value else ""),
        f"left {duration(value['seconds_left'])}",
    )
    return " · ".join(parts)
