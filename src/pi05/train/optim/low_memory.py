"""AdamW for weights in bfloat16, moments in 8 or 4 bits, moments in host memory, and gradients that do not wait.

The same update as `adamw.py`'s, computed in float32, a portion of a parameter at a time so that no temporary tensor
is as large as a parameter. What is stored in fewer bits is rounded by chance (`stochastic_rounding.py`), with bits that
follow from seed, update, parameter and index. Chosen over torchao's and bitsandbytes' optimizers by measurement:
docs/decisions/. Leaves out which of it a run wants (`build.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pi05.errors import CheckpointError
from pi05.train.optim.adamw import AdamSettings, Schedule
from pi05.train.optim.gradient_release import RunningNorm
from pi05.train.optim.kernel_update import KernelUpdate, Launches
from pi05.train.optim.minifloat import FORMATS, SMALLEST, Minifloat
from pi05.train.optim.moments import Moment, ParameterState
from pi05.train.optim.plain_update import StepNumbers, move_plain
from pi05.train.optim.portion import StepInputs, compiled_update
from pi05.train.optim.stochastic_rounding import USES, rounding_key
from pi05.train.optim.way import Way
from pi05.train.parallel.shards import global_norm

StateKind = Literal["float32", "8bit", "4bit"]
MOMENTS = ("exp_avg", "exp_avg_sq")
STEPS, NORM = "step", "previous_norm"
PORTION = {"cpu": 2**18, "cuda": 2**23}
"""Values that are updated at once, a multiple of every block: what fits a cache, what keeps a GPU busy."""
PortionKind = tuple[Any, ...]
"""Length and precisions of a portion: those of one kind take the same memory."""
RunPortion = Callable[[PortionKind, Callable[[], None]], None]
"""Runs the update of one portion."""


def run_now(kind: PortionKind, update: Callable[[], None]) -> None:
    """Run the update of a portion, of whatever kind."""
    update()


class LowMemoryOptimizer:
    """AdamW over named parameters in float32 or bfloat16; takes the place of `protocol.Optimizer`.

    With `release` each gradient is used and freed during the backward pass; `apply` then only ends the step. The three
    ways take the same steps: kernels (`kernel_update.py`) give the bits of `plain_update.py` on a CPU, compiled code
    (`portion.py`) may differ by roundings. `run_portion` may look on while one portion after the other is updated in
    the plain way, or leave out those whose kind it knows, and `launches` stand for the kernels: the planner does both.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        settings: AdamSettings,
        schedule: Schedule,
        *,
        seed: int,
        state: StateKind = "float32",
        offload: bool = False,
        release: bool = False,
        way: Way = "plain",
        run_portion: RunPortion = run_now,
        launches: Launches | None = None,
    ) -> None:
        self.parameters = dict(parameters)
        self.settings = settings
        self.schedule = schedule
        self.seed = seed
        self.kind = state
        self.offload = offload
        self.release = release
        self.way: Way = way
        self._run_portion = run_portion
        self.why_no_kernel: str | None = None
        self.why_not_compiled: str | None = None
        """What the user is told where the device could have a faster update but has none."""
        self._states: dict[str, ParameterState] = {}
        self._norm = RunningNorm(settings.clip_norm)
        self._update: int | None = None
        self._inputs = StepInputs(list(self.parameters), seed) if way == "compiled" else None
        self._kernels = KernelUpdate(list(self.parameters), seed, launches) if way == "kernel" else None
        if release:
            for name, parameter in self.parameters.items():
                parameter.register_post_accumulate_grad_hook(lambda _, name=name: self._take(name))

    @property
    def remark(self) -> str:
        """How the update runs, where that is a question."""
        if self.way == "kernel":
            return "the update runs as kernels of its own"
        without = f", for want of kernels of its own ({self.why_no_kernel})" if self.why_no_kernel else ""
        if self.way == "compiled":
            return f"the update is compiled{without}"
        if self.why_not_compiled is not None:
            return f"the update is not compiled, which makes it slower ({self.why_not_compiled}){without}"
        return ""

    @property
    def measures_first(self) -> bool:
        """Whether the next step needs a backward pass of its own for the norm that clipping starts from."""
        return self.release and self._norm.previous is None

    def start_from_norm(self, norm: Float[Tensor, ""]) -> None:
        """With `release`, take `norm` as that of the step before, in the place of a pass that only measures."""
        self._norm.previous = norm

    def begin(self, update: int) -> None:
        """Forget the gradients; those that come belong to `update`, counted from 0."""
        for parameter in self.parameters.values():
            parameter.grad = None
        if self._kernels is not None:
            self._kernels.begin()
        self._update = update

    def apply(self, update: int) -> tuple[Float[Tensor, ""], float]:
        """Clip the gradients and move the parameters; return the norm before clipping and the learning rate.

        With `release` the parameters have moved already, except after the pass that only measured.
        """
        rate = self.schedule.rate(update)
        if not self.release:
            norm = global_norm([value.grad for value in self.parameters.values() if value.grad is not None])
            factor = (self.settings.clip_norm / norm).clamp(max=1.0)
            for name, parameter in self.parameters.items():
                if parameter.grad is not None:
                    self._move(name, parameter.grad, factor, update)
        else:
            norm = self._norm.finish()
        if self._kernels is not None:
            with torch.no_grad():
                self._kernels.finish()
        return norm, rate

    def _take(self, name: str) -> None:
        """Use a gradient that has just been completed, and free it."""
        gradient = self.parameters[name].grad
        if gradient is None or self._update is None:
            raise RuntimeError("a gradient came outside of a training step")
        self._norm.add(gradient)
        if not self.measures_first:
            self._move(name, gradient, self._norm.factor(), self._update)
        self.parameters[name].grad = None

    @torch.no_grad()
    def _move(self, name: str, gradient: Tensor, factor: Float[Tensor, ""], update: int) -> None:
        """Take one AdamW step with one parameter."""
        parameter = self.parameters[name]
        if not parameter.is_contiguous():
            raise ValueError(f"{name} is not contiguous")
        state = self._state_of(name)
        state.steps += 1
        portion = PORTION.get(parameter.device.type, PORTION["cuda"])
        flat, gradients = parameter.view(-1), gradient.reshape(-1)
        numbers = StepNumbers.of(self.settings, self.schedule.rate(update), state.steps)
        if self._kernels is not None:
            self._kernels.move(name, flat, gradients, factor, state, update, numbers, portion)
            return
        if self._inputs is not None:
            self._move_compiled(self._inputs, name, flat, gradients, factor, state, update, numbers)
            return
        keys = [rounding_key(self.seed, update, f"{name}/{use}") for use in USES]
        for start in range(0, len(flat), portion):
            here = slice(start, start + portion)
            self._run_portion(
                (len(flat[here]), flat.dtype, gradients.dtype, state.first.kind),
                partial(move_plain, flat[here], gradients[here], factor, state, start, keys, numbers),
            )

    def _move_compiled(
        self,
        inputs: StepInputs,
        name: str,
        flat: Tensor,
        gradients: Tensor,
        factor: Tensor,
        state: ParameterState,
        update: int,
        numbers: StepNumbers,
    ) -> None:
        """Take the step by compiled code, what is left after whole blocks in the plain way."""
        portion = PORTION.get(flat.device.type, PORTION["cuda"])
        form = None if state.first.kind is None or state.second.kind is None else (state.first.kind, state.second.kind)
        block = 1 if form is None else form[0].block
        whole = len(flat) - len(flat) % block
        run = compiled_update(form, self.settings.betas, self.settings.eps)
        tables = () if form is None else tuple(one.table(flat.device) for one in form)
        changing = inputs.numbers((numbers.kept, numbers.size, numbers.correction), flat.device)
        for number, start in enumerate(range(0, whole, portion)):
            here = slice(start, min(start + portion, whole))
            count = here.stop - start
            values = [flat[here], gradients[here]]
            if form is not None:
                values = [value.view(-1, block) for value in values]
            values = [value.data for value in values]  # no views: Dynamo would compile for what they are views of
            first, second = state.first.on_device(start, count), state.second.on_device(start, count)
            place = inputs.starts(portion, number, flat.device)
            keys = inputs.keys(name, update, flat.device)
            run(*values, first, second, tables, place, keys, (*changing, factor))
            state.first.put_back(start, count, first)
            state.second.put_back(start, count, second)
            del first, second  # before the next portion comes from host memory
        if whole < len(flat):
            pairs = [rounding_key(self.seed, update, f"{name}/{use}") for use in USES]
            move_plain(flat[whole:], gradients[whole:], factor, state, whole, pairs, numbers)

    def _state_of(self, name: str) -> ParameterState:
        if name not in self._states:
            parameter = self.parameters[name]
            kinds: tuple[Minifloat | None, Minifloat | None] = (None, None)
            if self.kind != "float32" and parameter.numel() >= SMALLEST:
                kinds = FORMATS[self.kind]
            first, second = (Moment(parameter, kind, self.offload) for kind in kinds)
            self._states[name] = ParameterState(first, second)
        return self._states[name]

    def make_moments(self) -> dict[str, list[Tensor]]:
        """Make the moments of every parameter now, which its first step would do; return them by parameter."""
        states = {name: self._state_of(name) for name in self.parameters}
        return {name: [*state.first.parts, *state.second.parts] for name, state in states.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return all that the next step depends on: `exp_avg/NAME`, `exp_avg.scales/NAME`, `step/NAME` and so on.

        Moments in float32 have the shape of their parameter, as PyTorch's own AdamW has them, and either reads both.
        """
        if self.offload and torch.cuda.is_available():
            torch.cuda.synchronize()  # copies into host memory run behind the program
        found = {}
        for name, state in self._states.items():
            for label, part in _labelled(name, state):
                found[label] = part.view(self._shape_of(name, label, part))
            found[f"{STEPS}/{name}"] = torch.tensor(float(state.steps))
        if self.release and self._norm.previous is not None:
            found[NORM] = self._norm.previous
        return found

    def _shape_of(self, name: str, label: str, part: Tensor) -> torch.Size:
        """Return the shape of a part in a checkpoint."""
        return self.parameters[name].shape if label.partition("/")[0] in MOMENTS else part.shape

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` returned. Raises CheckpointError for names or shapes that do not fit."""
        left = dict(tensors)
        if self.release and NORM in left:
            self._norm.previous = left.pop(NORM).to(next(iter(self.parameters.values())).device, copy=True)
        self._states.clear()
        for name in self.parameters:
            if f"{STEPS}/{name}" not in left:
                continue
            state = self._state_of(name)
            state.steps = int(left.pop(f"{STEPS}/{name}"))
            for label, part in _labelled(name, state):
                stored = left.pop(label, None)
                shapes = (part.shape, self._shape_of(name, label, part))
                if stored is None or stored.shape not in shapes or stored.dtype != part.dtype:
                    raise CheckpointError(
                        f"the optimizer state of {name} is incomplete, or of another shape or kind",
                        wanted=f"{label}: {part.dtype} {tuple(part.shape)}",
                        found="nothing" if stored is None else f"{stored.dtype} {tuple(stored.shape)}",
                        remedy="use another checkpoint of the run",
                    )
                part.copy_(stored.view(-1))
        if left:
            raise CheckpointError(
                "the optimizer state belongs to other parameters",
                wanted=f"moments of the {len(self.parameters)} trainable parameters",
                found=", ".join(sorted(left)[:5]),
                remedy="resume with the settings that the run was started with",
            )

    def moment_bytes(self) -> int:
        """Return the bytes of all moments, those of parameters that have not moved yet included."""
        return sum(state_bytes(value.numel(), self.kind) for value in self.parameters.values())


def state_bytes(count: int, kind: StateKind) -> int:
    """Return the bytes of both moments of a parameter with `count` values."""
    if kind == "float32" or count < SMALLEST:
        return 8 * count
    return sum(codes + 4 * scales for codes, scales in (form.packed_sizes(count) for form in FORMATS[kind]))


def _labelled(name: str, state: ParameterState) -> list[tuple[str, Tensor]]:
    """Return the tensors of a parameter's state with their names in a checkpoint."""
    found = []
    for moment, value in zip(MOMENTS, (state.first, state.second), strict=True):
        labels = (moment,) if value.kind is None else (f"{moment}.codes", f"{moment}.scales")
        found += [(f"{label}/{name}", part) for label, part in zip(labels, value.parts, strict=True)]
    return found
