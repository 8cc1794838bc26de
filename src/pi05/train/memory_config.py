"""In which precision a run trains, and how it saves memory. Torch-free; the docstrings under the fields are help texts.

The fields are part of `TrainConfig` (`config.py`), which extends this class: `precision` is `--precision`. What they
cost in memory and time is predicted by `plan/`; what excludes what is in `exclusions.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pi05.settings.schema import Checked

DEGREES = "none, selective, full, auto, or a share of the layers from 0 to 1"
"""What `--activation_checkpointing` takes, besides `flag`."""

Degree = float | Literal["selective"]
"""How much is recomputed: a share of the layers from 0 (nothing) to 1 (all), or in all layers what is cheap."""


@dataclass(frozen=True, kw_only=True)
class MemorySettings(Checked):
    """Precision of weights and arithmetic, and what is not kept on the GPU."""

    precision: Literal["mixed", "bf16-sr", "float32"] = "mixed"
    """Precision of weights and arithmetic. Plain bfloat16 weights are refused: 70 % of them do not move in a step at a
    learning rate of 2.5e-5, 96 % at the schedule's end.
    - mixed: float32 weights, bfloat16 compute; take it wherever it fits.
    - bf16-sr: bfloat16 weights and gradients, half the memory; updates are rounded up or down by chance, so that small
      ones count on average; for full fine-tuning on a GPU that mixed does not fit.
    - float32: everything in float32; for tiny networks on a CPU, and to compare numbers."""
    optimizer_state: Literal["float32", "8bit", "4bit"] = "float32"
    """How AdamW's two moments are kept.
    - float32: 8 bytes per parameter, the reference.
    - 8bit: 2 bytes, steps within a few per cent of float32's; the first thing to try where memory is short.
    - 4bit: 1.3 bytes, noisier steps; where 8bit does not fit either."""
    optimizer_offload: bool = False
    """Keep AdamW's moments in the host's memory: less on the GPU and the same result, but each step moves them both
    ways; for long steps (many samples), and a host with memory to spare."""
    gradient_release: bool = False
    """Use and free each gradient during the backward pass, on one GPU: none are kept. Clipping then goes by the norm of
    the step before and that of this step so far, and there is one forward pass per step."""
    activation_checkpointing: str = "flag"
    """Activations that are computed again in the backward pass instead of being kept.
    - none: the fastest where it fits.
    - selective: all but large products and attention; half the memory of activations for 8 % more time (on a CPU).
    - full: every layer; the least memory, for about a third more time (on a CPU).
    - 0 to 1: this share of the layers, such as 0.5.
    - auto: the least of these that fits the GPU by prediction; on a CPU none.
    - flag: full with `--policy.gradient_checkpointing`, else none."""
    activation_offload: bool = False
    """Keep what full recomputation starts from in the host's memory; needs `--activation_checkpointing=full`."""
    cache_prefix: bool = False
    """Compute vision and language once per frame and keep their keys and values on disk, about 10 MB per frame at full
    size; for small data sets and many epochs. Needs `--policy.train_expert_only` and `--augment=false`."""

    def _limits(self) -> None:
        self._require(self._recomputed_share(asked=False) is not None, "activation_checkpointing", DEGREES)

    def recomputed_where(self, *, asked: bool) -> Degree:
        """Return how much is recomputed where `--policy.gradient_checkpointing` is `asked` for or not."""
        return "selective" if self.activation_checkpointing == "selective" else self._recomputed_share(asked) or 0.0

    def _recomputed_share(self, asked: bool) -> float | None:
        """Return the share of the layers that `activation_checkpointing` means; None where it means nothing."""
        words = {"flag": float(asked), "none": 0.0, "auto": 0.0, "selective": 1.0, "full": 1.0}
        share = words.get(self.activation_checkpointing)
        if share is None and re.fullmatch(r"0?\.\d+|[01](\.0*)?", self.activation_checkpointing):
            share = float(self.activation_checkpointing)
        return share

    @property
    def memory_saving_flags(self) -> tuple[str, ...]:
        """Flags by which weights or moments are kept in fewer bits, or in host memory."""
        state = f"--optimizer_state={self.optimizer_state}"
        flags = {
            state: self.optimizer_state != "float32",
            "--precision=bf16-sr": self.precision == "bf16-sr",
            "--optimizer_offload": self.optimizer_offload,
        }
        return tuple(flag for flag, asked in flags.items() if asked)

    @property
    def own_optimizer(self) -> bool:
        """Whether the step is that of `optim/low_memory.py`, not PyTorch's own AdamW."""
        return bool(self.memory_saving_flags) or self.gradient_release
