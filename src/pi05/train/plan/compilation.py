"""Are the layers of a run compiled, where nobody says? On CUDA by what the roofline predicts for this run; never else.

What compilation saves differs by method: it joins norms, GELU, casts and the adapters' sums, and leaves products as
they are. It takes its time at the start of each session, so a short run is better off without. No GPU has been
measured: the choice is told with its numbers, and `--policy.compile_model` overrules it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pi05.model.config import ModelConfig
from pi05.train.config import TrainConfig
from pi05.train.parallel.kind import World, divided_by
from pi05.train.plan.counted_on import counted_on
from pi05.train.plan.gpus import Gpu
from pi05.train.plan.memory import ONE_GPU, planned_kind
from pi05.train.plan.roofline import count_operations
from pi05.train.plan.step_on_shapes import Shapes

START_SECONDS = 60.0
"""What compiling takes at the start of a session. Assumption: three forms of the layers took 35 s on a busy CPU."""
FLAG = "--policy.compile_model"
"""What says it instead of this module."""


@dataclass(frozen=True, kw_only=True)
class Compilation:
    """A choice, and what it rests on."""

    chosen: bool
    reason: str
    """In words, with the prediction where there is one."""

    @property
    def told(self) -> str:
        """The line that says it, and the flag that overrules it."""
        return f"{FLAG} is {str(self.chosen).lower()}: {self.reason}"


def choose_compilation(
    config: TrainConfig,
    sizes: ModelConfig,
    shapes: Shapes,
    gpu: Gpu,
    steps: int,
    missing: str | None = None,
    world: World = ONE_GPU,
) -> Compilation | None:
    """Choose for a session of so many `steps` on a GPU, one of `world`; None where the user has chosen.

    `missing` says what the machine lacks to compile at all. Takes as long as a step on shapes.
    """
    if config.policy.compile_model is not None:
        return None
    if config.deterministic:
        return Compilation(chosen=False, reason="with --deterministic: compiled kernels may differ between starts")
    if missing is not None:
        return Compilation(chosen=False, reason=f"{missing}, and compiling takes it")
    if not gpu.bf16_tflops:
        return Compilation(chosen=False, reason=f"nothing is known of the speed of {gpu.title}")
    operations = count_operations(config, sizes, shapes, kernels=counted_on(config, sizes, gpu))
    over = divided_by(planned_kind(config, sizes, gpu, world), world)
    plain, compiled = (operations.seconds(gpu, compiled=each, over=over) for each in (False, True))
    saved = steps * (plain - compiled)
    chosen = saved > START_SECONDS
    least = f"for {START_SECONDS:g} s at the start" if chosen else f"less than the {START_SECONDS:g} s at the start"
    reason = (
        f"{config.method} is predicted to take {_shown(compiled)} a step compiled and {_shown(plain)} not, "
        f"which saves {_duration(saved)} in {steps:,} steps, {least}; not measured"
    )
    return Compilation(chosen=chosen, reason=reason)


def _shown(seconds: float) -> str:
    return f"{1e3 * seconds:,.0f} ms" if seconds >= 0.01 else f"{1e3 * seconds:.2f} ms"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
