"""The kernels of the update, run by Triton's interpreter: the bits of the plain update, for every form.

On a machine with a GPU the same is asked of the compiled kernels (`tests/gpu/test_update.py`): there the interpreter
would take their place in the whole process.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_kernels import SPECIAL, Both, Update, assert_same, gradients
from torch import nn

from pi05.train.optim import low_memory
from pi05.train.optim.adamw import AdamSettings, Schedule
from pi05.train.optim.kernel_check import why_no_kernel
from pi05.train.optim.kernel_update import kernels
from pi05.train.optim.low_memory import LowMemoryOptimizer, StateKind

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None, reason="no Triton here (`make kernels` installs it)"
    ),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # NumPy's, of infinity, in the interpreter
    pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: tests/gpu runs the compiled kernels"),
]
CPU = torch.device("cpu")
KINDS: tuple[StateKind, ...] = ("float32", "8bit", "4bit")
DTYPES = (torch.float32, torch.bfloat16)
SCHEDULE = Schedule(peak=1e-3, warmup_steps=2, decay_steps=10, end=1e-4)


@pytest.fixture(autouse=True, scope="module")
def _interpreted() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        kernels()  # decorated, and thereby interpreted, once and for all; Triton's own functions are (`conftest.py`)
        yield


@pytest.mark.parametrize("gradient", DTYPES, ids=str)
@pytest.mark.parametrize("weight", DTYPES, ids=str)
@pytest.mark.parametrize("state", KINDS)
def test_a_kernel_gives_the_bits_of_the_plain_update(
    state: StateKind, weight: torch.dtype, gradient: torch.dtype
) -> None:
    """Of every form: a tensor of several programs with a rest, strewn with numbers of every sort."""
    assert_same(Update(state=state, weight=weight, gradient=gradient, counts=(2300,), special=SPECIAL), CPU)


@settings(max_examples=12)
@given(
    state=st.sampled_from(KINDS),
    dtypes=st.tuples(st.sampled_from(DTYPES), st.sampled_from(DTYPES)),
    counts=st.lists(st.integers(1, 1100), min_size=1, max_size=2).map(tuple),
    special=st.lists(st.sampled_from(SPECIAL), max_size=3).map(tuple),
    factor=st.sampled_from([1.0, 0.37, 1e-30, 0.0, float("nan")]),
    seed=st.integers(0, 2**16),
)
def test_whatever_the_shape(
    state: StateKind,
    dtypes: tuple[torch.dtype, torch.dtype],
    counts: tuple[int, ...],
    special: tuple[float, ...],
    factor: float,
    seed: int,
) -> None:
    """Several tensors, which with moments in float32 are one group."""
    weight, gradient = dtypes
    update = Update(
        state=state,
        weight=weight,
        gradient=gradient,
        counts=counts,
        special=special,
        factor=factor,
        seed=seed,
        steps=1,
    )
    assert_same(update, CPU)


@pytest.mark.parametrize("state", ["8bit", "4bit"])
def test_every_code_is_read_as_it_was_written(state: StateKind) -> None:
    """Gradients of 0: the moments decay, from every code, with scales from the smallest numbers to the largest."""
    update = Update(state=state, weight=torch.float32, gradient=torch.float32, counts=(2048,))
    both = Both(update, CPU)
    for side in (both.plain, both.ours):
        for moment in (side.states[0].first, side.states[0].second):
            codes, scales = moment.parts
            codes.copy_(torch.arange(len(codes)).to(torch.uint8))
            scales.copy_(torch.logspace(-44, 30, len(scales), dtype=torch.float64))
    both.take(0, [torch.zeros(2048)])
    both.assert_same()


@pytest.mark.parametrize("release", [False, True])
@pytest.mark.parametrize(
    ("state", "dtype"), [("8bit", torch.bfloat16), ("4bit", torch.float32), ("float32", DTYPES[1])]
)
def test_an_optimizer_takes_the_same_steps(
    state: StateKind, dtype: torch.dtype, release: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Matrices, small vectors and one that is never used; during the backward pass, too; stopped and continued."""
    monkeypatch.setattr("pi05.train.optim.low_memory.SMALLEST", 600)
    monkeypatch.setattr("pi05.train.optim.kernel_update.SMALLEST", 600)

    def weights() -> dict[str, nn.Parameter]:
        generator = torch.Generator().manual_seed(0)
        sizes = {"matrix": (30, 43), "bias": (7,), "scale": (40,), "unused": (64,)}
        return {
            name: nn.Parameter(torch.randn(size, generator=generator).to(torch.float32 if len(size) == 1 else dtype))
            for name, size in sizes.items()
        }

    def walk(values: dict[str, nn.Parameter], optimizer: LowMemoryOptimizer, steps: range) -> None:
        for step in steps:
            generator = torch.Generator().manual_seed(step)
            slopes = {name: torch.randn(value.shape, generator=generator) for name, value in values.items()}
            for _ in range(1 + optimizer.measures_first):
                optimizer.begin(step)
                losses = [(slopes[name] * value.float()).sum() for name, value in values.items() if name != "unused"]
                torch.stack(losses).sum().backward()
                optimizer.apply(step)

    def build(values: dict[str, nn.Parameter], way: low_memory.Way) -> LowMemoryOptimizer:
        return LowMemoryOptimizer(values, AdamSettings(), SCHEDULE, seed=1, state=state, release=release, way=way)

    plain, ours = weights(), weights()
    one, other = build(plain, "plain"), build(ours, "kernel")
    walk(plain, one, range(4))
    walk(ours, other, range(2))
    ours = {name: nn.Parameter(value.detach().clone()) for name, value in ours.items()}
    again = build(ours, "kernel")
    again.load_tensors({name: value.clone() for name, value in other.tensors().items()})
    walk(ours, again, range(2, 4))
    assert all(torch.equal(plain[name], ours[name]) for name in plain)
    wanted, found = one.tensors(), again.tensors()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


@dataclass
class Launches:
    """Stands in for the kernels and notes what they are given."""

    bytes: dict[str, list[int]] = field(default_factory=dict)

    def launch_packed(self, values: Any, *_: Any) -> None:
        self.bytes.setdefault("packed", []).append(values.moved_bytes)

    def launch_float32(self, values: Any, *_: Any) -> None:
        self.bytes.setdefault("float32", []).append(values.moved_bytes)

    def launch_group(self, group: list[Any], _: Any) -> None:
        self.bytes.setdefault("group", []).append(sum(each.moved_bytes for each in group))


@pytest.mark.parametrize(
    ("state", "dtype", "per_value"),
    [
        ("8bit", torch.float32, 16),
        ("8bit", torch.bfloat16, 10),
        ("4bit", torch.float32, 14),
        ("4bit", torch.bfloat16, 8),
        ("float32", torch.bfloat16, 22),
    ],
)
def test_what_a_step_moves_and_launches(state: StateKind, dtype: torch.dtype, per_value: int) -> None:
    """One launch for each matrix, one for all vectors; every value of weight and moments is read and written once.

    That the kernels read and write nothing else, and nothing twice, is seen by `test_loads_and_stores`.
    """
    count = 2**18
    values = {"a": nn.Parameter(torch.zeros(count, dtype=dtype)), "b": nn.Parameter(torch.zeros(count, dtype=dtype))}
    values |= {f"vector {index}": nn.Parameter(torch.zeros(100 + index)) for index in range(5)}
    launches = Launches()
    optimizer = LowMemoryOptimizer(
        values, AdamSettings(), SCHEDULE, seed=0, state=state, way="kernel", launches=launches
    )
    for value in values.values():
        value.grad = torch.ones_like(value)
    optimizer.apply(0)
    kind = "float32" if state == "float32" else "packed"
    assert {name: len(found) for name, found in launches.bytes.items()} == {kind: 2, "group": 1}
    scales = {"8bit": 16 / 256, "4bit": 16 / 32, "float32": 0}[state]
    assert launches.bytes[kind] == [count * (per_value + scales)] * 2
    assert launches.bytes["group"] == [28 * sum(100 + index for index in range(5))]


@pytest.mark.parametrize("state", KINDS)
def test_loads_and_stores(state: StateKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the interpreter reads and writes is what `moved_bytes` says, but for the step's own numbers.

    Halves of bytes are read twice, from one line of the cache.
    """
    from triton.runtime import interpreter

    moved = {"load": 0, "store": 0}
    builder = interpreter.InterpreterBuilder

    def counted(name: str, original: Any) -> Any:
        def call(self: Any, pointers: Any, *rest: Any) -> Any:
            mask = rest[0] if name == "load" else rest[1]
            moved[name] += int(mask.data.sum()) * pointers.get_element_ty().primitive_bitwidth // 8
            return original(self, pointers, *rest)

        return call

    for name in moved:
        method = f"create_masked_{name}"
        monkeypatch.setattr(builder, method, counted(name, getattr(builder, method)))
    update = Update(state=state, counts=(2048,), steps=1)
    both = Both(update, CPU)
    both.take(0, gradients(update, 0))
    state_bytes = sum(part.nbytes for part in both.ours.parts())
    doubled = 2048 if state == "4bit" else 0  # codes of both moments
    numbers = 2 * (1 + 4) * 4 if state != "float32" else 2 * (1 + 2) * 4 + 2 * 7 * 8  # a row of the group's table, too
    assert moved == {"load": state_bytes + 2 * 2048 + doubled + numbers, "store": state_bytes}


def test_every_device_is_tried_before_it_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels pass the check of a run's start; those that are off by a bit, or fail, do not, and it says why."""
    right = kernels()
    assert why_no_kernel(CPU, "4bit", torch.bfloat16) is None

    def off_by_a_bit(values: Any, *rest: Any) -> None:
        right.launch_packed(values, *rest)
        values.weight[-1:].view(torch.int16).add_(1)

    def broken(*_: Any) -> None:
        raise RuntimeError("no compiler\nat all")

    for launch, reason in (
        (off_by_a_bit, "the kernel leads to other weights: "),
        (broken, "RuntimeError: no compiler"),
    ):
        changed = SimpleNamespace(
            launch_packed=launch,
            launch_float32=right.launch_float32,
            launch_group=right.launch_group,
        )
        monkeypatch.setattr("pi05.train.optim.kernel_update.kernels", lambda changed=changed: changed)
        assert str(why_no_kernel(CPU, "8bit", torch.bfloat16)).startswith(reason)
