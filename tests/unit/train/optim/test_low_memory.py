"""The optimizer that saves memory: the same steps as PyTorch's AdamW where nothing is rounded, exact resume, bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from fake_cuda import DEVICE, fake_cuda
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pi05.errors import CheckpointError
from pi05.train.optim import low_memory
from pi05.train.optim.adamw import AdamSettings, AdamW, Ema, Schedule
from pi05.train.optim.low_memory import LowMemoryOptimizer, StateKind, state_bytes
from pi05.train.optim.way import Way
from pi05.train.plan.live_memory import BLOCK, LiveStorage

SCHEDULE = Schedule(peak=1e-3, warmup_steps=2, decay_steps=10, end=1e-4)
SETTINGS = AdamSettings(weight_decay=0.1)
SAME_FORMULA = 2e-7
"""Absolute, on weights near 1; the same formula with its roundings in another order."""

every_kind = pytest.mark.parametrize("kind", ["float32", "8bit", "4bit"])
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def parameters(dtype: torch.dtype = torch.float32) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    sizes = {"matrix": (90, 70), "bias": (7,), "unused": (64, 64)}
    return {
        name: nn.Parameter(torch.randn(size, generator=generator).to(torch.float32 if len(size) == 1 else dtype))
        for name, size in sizes.items()
    }


def set_gradients(values: dict[str, nn.Parameter], seed: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, value in values.items():
        drawn = torch.randn(value.shape, generator=generator) * scale
        value.grad = None if name == "unused" else drawn.to(value.dtype)


def walk(values: dict[str, nn.Parameter], optimizer: AdamW | LowMemoryOptimizer, steps: range) -> None:
    for number in steps:
        optimizer.begin(number)
        set_gradients(values, number)
        optimizer.apply(number)


@pytest.mark.parametrize("scale", [0.001, 10.0])
def test_without_rounding_it_is_adamw_with_clipping(scale: float) -> None:
    plain, ours = parameters(), parameters()
    one = AdamW(plain, SETTINGS, SCHEDULE)
    other = LowMemoryOptimizer(ours, SETTINGS, SCHEDULE, seed=0)
    for number in range(6):
        set_gradients(plain, number, scale)
        set_gradients(ours, number, scale)
        assert [float(x) for x in one.apply(number)] == [float(x) for x in other.apply(number)]
    assert max(float((plain[name] - ours[name]).detach().abs().max()) for name in plain) < SAME_FORMULA
    assert torch.equal(ours["unused"], parameters()["unused"])
    assert set(one.tensors()) == set(other.tensors())


@every_kind
@every_dtype
def test_portions_do_not_change_the_result(
    kind: StateKind, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for portion in (2**18, 2**10):
        monkeypatch.setitem(low_memory.PORTION, "cpu", portion)
        values = parameters(dtype)
        optimizer = LowMemoryOptimizer(values, SETTINGS, SCHEDULE, seed=1, state=kind)
        walk(values, optimizer, range(4))
        found.append({**values, **optimizer.tensors()})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@every_kind
@every_dtype
def test_stopped_and_continued_it_takes_the_same_steps(kind: StateKind, dtype: torch.dtype, tmp_path: Path) -> None:
    whole, halved = parameters(dtype), parameters(dtype)
    walk(whole, LowMemoryOptimizer(whole, SETTINGS, SCHEDULE, seed=1, state=kind), range(8))
    first = LowMemoryOptimizer(halved, SETTINGS, SCHEDULE, seed=1, state=kind)
    walk(halved, first, range(5))
    save_file(first.tensors(), tmp_path / "optimizer.safetensors")
    torch.rand(100)  # the global generator plays no part
    second = LowMemoryOptimizer(halved, SETTINGS, SCHEDULE, seed=1, state=kind)
    second.load_tensors(load_file(tmp_path / "optimizer.safetensors"))
    walk(halved, second, range(5, 8))
    assert all(torch.equal(whole[name], halved[name]) for name in whole)


@pytest.mark.parametrize("first", [AdamW, LowMemoryOptimizer])
def test_moments_in_float32_are_read_by_either(first: type, tmp_path: Path) -> None:
    """`--optimizer_offload` may change on resume, and decides which of the two a run has."""

    def build(kind: type, values: dict[str, nn.Parameter]) -> AdamW | LowMemoryOptimizer:
        return kind(values, SETTINGS, SCHEDULE, **({} if kind is AdamW else {"seed": 0}))  # type: ignore[no-any-return]

    (other,) = {AdamW, LowMemoryOptimizer} - {first}
    whole, halved = parameters(), parameters()
    walk(whole, build(first, whole), range(6))
    before = build(first, halved)
    walk(halved, before, range(3))
    save_file(
        {name: value.contiguous() for name, value in before.tensors().items()}, tmp_path / "optimizer.safetensors"
    )
    after = build(other, halved)
    after.load_tensors(load_file(tmp_path / "optimizer.safetensors"))
    walk(halved, after, range(3, 6))
    assert max(float((whole[name] - halved[name]).detach().abs().max()) for name in whole) < SAME_FORMULA
    flat = {name: value.flatten() if value.ndim else value for name, value in before.tensors().items()}
    LowMemoryOptimizer(halved, SETTINGS, SCHEDULE, seed=0).load_tensors(flat)  # as it was written at first


def test_another_seed_rounds_differently() -> None:
    found = []
    for seed in (1, 2):
        values = parameters(torch.bfloat16)
        walk(values, LowMemoryOptimizer(values, SETTINGS, SCHEDULE, seed=seed), range(3))
        found.append(values["matrix"].detach())
    assert 0.001 < float((found[0] != found[1]).float().mean()) < 0.5


def test_parameters_of_one_shape_round_differently() -> None:
    values = {name: nn.Parameter(torch.full((64, 64), 1.2).bfloat16()) for name in ("a", "b")}
    optimizer = LowMemoryOptimizer(values, SETTINGS, SCHEDULE, seed=0)
    for value in values.values():
        value.grad = torch.ones(64, 64).bfloat16()
    optimizer.apply(5)
    assert not torch.equal(values["a"], values["b"])


def test_weight_and_moments_are_rounded_independently() -> None:
    """All values alike but the largest of each block, so that each rounding is up or down with one probability."""
    count = 2**16
    weight = nn.Parameter(torch.full((count,), 1.2).bfloat16())
    optimizer = LowMemoryOptimizer({"w": weight}, AdamSettings(clip_norm=1e9), SCHEDULE, seed=3, state="8bit")
    weight.grad = torch.ones(count).bfloat16()
    weight.grad[::256] = 1.7
    optimizer.apply(5)
    state = optimizer._states["w"]
    alike = torch.arange(count) % 256 != 0
    ups = [
        values[alike].double() for values in (weight.detach(), *(m.read(0, count) for m in (state.first, state.second)))
    ]
    assert [len(values.unique()) for values in ups] == [2, 2, 2]
    correlations = torch.corrcoef(torch.stack(ups)) - torch.eye(3)
    assert correlations.abs().max() < 5 / count**0.5


def test_bfloat16_weights_move_by_what_they_should_on_average() -> None:
    """Steps a hundredth of the weights' spacing: to the nearest, none would move."""
    count, steps, rate = 2**16, 50, 1e-5
    weight = nn.Parameter(torch.full((count,), 1.2).bfloat16())
    start = float(weight.detach()[0])
    schedule = Schedule(peak=rate, warmup_steps=0, decay_steps=100, end=rate)
    optimizer = LowMemoryOptimizer({"w": weight}, AdamSettings(clip_norm=1e9), schedule, seed=0)
    for number in range(steps):
        weight.grad = torch.ones(count, dtype=torch.bfloat16)
        optimizer.apply(number)
    moved = start - float(weight.detach().double().mean())
    spacing = 2.0**-7
    deviation = (steps * rate * spacing / count) ** 0.5
    assert abs(moved - steps * rate) < 5 * deviation
    assert 0.02 < float((weight != start).float().mean()) < 0.1


@every_kind
def test_bytes_of_the_moments(kind: StateKind) -> None:
    values = {"w": nn.Parameter(torch.randn(512, 1024)), "b": nn.Parameter(torch.randn(10))}
    optimizer = LowMemoryOptimizer(values, SETTINGS, SCHEDULE, seed=0, state=kind)
    for value in values.values():
        value.grad = torch.randn_like(value)
    optimizer.apply(0)
    kept = sum(tensor.nbytes for name, tensor in optimizer.tensors().items() if not name.startswith("step/"))
    assert optimizer.moment_bytes() == kept == state_bytes(2**19, kind) + 80
    assert state_bytes(2**19, kind) / 2**19 == {"float32": 8, "8bit": 2.03125, "4bit": 1.25}[kind]


@pytest.mark.parametrize(("kind", "worst", "slope"), [("8bit", 0.04, 0.005), ("4bit", 0.6, 0.15)])
def test_how_far_packed_moments_lead_away(kind: StateKind, worst: float, slope: float) -> None:
    """40 steps with gradients whose sizes differ by orders of magnitude; distances against float32's movement."""
    generator = torch.Generator().manual_seed(0)
    plain, ours = ({"w": nn.Parameter(torch.zeros(256, 256))} for _ in range(2))
    settings = AdamSettings(clip_norm=1e9)
    optimizers = [
        LowMemoryOptimizer(plain, settings, SCHEDULE, seed=0),
        LowMemoryOptimizer(ours, settings, SCHEDULE, seed=0, state=kind),
    ]
    rows, values = torch.randn(256, 1, generator=generator), torch.randn(256, 256, generator=generator)
    sizes = torch.exp(1.5 * rows + values) * 1e-4
    for number in range(40):
        gradient = sizes * (torch.randn(256, 256, generator=generator) + 0.3)
        for weights, optimizer in zip((plain, ours), optimizers, strict=True):
            weights["w"].grad = gradient.clone()
            optimizer.apply(number)
    wanted, found = plain["w"].detach(), ours["w"].detach()
    assert float((found - wanted).norm() / wanted.norm()) < worst
    assert abs(float((found * wanted).sum() / wanted.square().sum()) - 1) < slope
    assert float(found.abs().max() / wanted.abs().max()) < 3


def test_state_that_does_not_fit_is_refused() -> None:
    values = parameters()
    optimizer = LowMemoryOptimizer(values, SETTINGS, SCHEDULE, seed=0, state="8bit")
    walk(values, optimizer, range(1))
    tensors = optimizer.tensors()

    def refused(match: str, state: StateKind = "8bit", only: str | None = None, **changed: Tensor) -> None:
        kept = {name: value for name, value in values.items() if only is None or name == only}
        fresh = LowMemoryOptimizer(kept, SETTINGS, SCHEDULE, seed=0, state=state)
        with pytest.raises(CheckpointError, match=match):
            fresh.load_tensors({**tensors, **changed})

    refused("other parameters", only="matrix")
    refused("matrix is incomplete, or of another shape or kind", state="float32")
    refused("matrix is incomplete", **{"exp_avg.codes/matrix": torch.zeros(3, dtype=torch.uint8)})


def test_nothing_is_offloaded_where_the_device_is_the_host() -> None:
    """The path through host memory is the same code; on a GPU `tests/gpu` compares the two."""
    found = []
    for offload in (False, True):
        values = parameters(torch.bfloat16)
        walk(values, LowMemoryOptimizer(values, SETTINGS, SCHEDULE, seed=0, state="8bit", offload=offload), range(3))
        found.append(values)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


class NoLaunch:
    """Stands for the kernels, which need nothing for themselves."""

    def launch_packed(self, *_: Any) -> None:
        """Move nothing."""

    launch_float32 = launch_group = launch_packed


@pytest.mark.parametrize("way", get_args(Way))
@every_kind
def test_moments_from_host_memory_are_on_the_device_a_portion_at_a_time(
    kind: StateKind, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled code and kernels are left out here: on a GPU they need nothing for themselves."""
    portion, grown = 2**14, {}
    monkeypatch.setitem(low_memory.PORTION, "cuda", portion)
    monkeypatch.setattr(low_memory, "compiled_update", lambda *_: lambda *_: None)
    for count in (1, 5):
        with fake_cuda():
            weight = nn.Parameter(torch.empty(count * portion, device=DEVICE))
            gradient, factor = torch.empty_like(weight), torch.ones((), device=DEVICE)
            optimizer = LowMemoryOptimizer(
                {"w": weight}, SETTINGS, SCHEDULE, seed=0, state=kind, offload=True, way=way, launches=NoLaunch()
            )
            optimizer._move("w", gradient, factor, 0)  # makes moments, tables and keys
            tracker = LiveStorage(device="cuda")
            tracker.adopt((weight, gradient, factor), "held")
            with tracker, tracker.growth() as growth:
                optimizer._move("w", gradient, factor, 1)
            grown[count] = growth()
    assert 0 <= grown[5] - grown[1] < 4 * BLOCK, "numbers of the portion before"
    if way != "plain":
        assert 0 <= grown[1] - state_bytes(portion, kind) < 12 * BLOCK, "beside them a few numbers"


def test_the_average_of_bfloat16_weights_is_float32() -> None:
    values = parameters(torch.bfloat16)
    ema = Ema(values, decay=0.999)
    start = {name: value.detach().float().clone() for name, value in values.items()}
    for value in values.values():
        value.data += 1
    ema.update()
    for name, average in ema.tensors().items():
        assert average.dtype == torch.float32
        torch.testing.assert_close(average, 0.999 * start[name] + 0.001 * values[name].detach().float())
    with ema.in_place():
        assert values["matrix"].dtype == torch.float32
    assert values["matrix"].dtype == torch.bfloat16
