"""Compiled layers together with everything else that changes a step: the losses of the same steps uncompiled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from network_modes import Mode, compilations, in_mode
from small_network import CONFIG, SETTINGS, make_batch, make_model
from torch import nn

from pi05.model.layers import Linear
from pi05.model.lora import LoraSpec, add_lora
from pi05.model.pi05 import Pi05
from pi05.model.quantize import quantize_frozen
from pi05.train.network import hold_matrices
from pi05.train.optim.adamw import AdamSettings, AdamW, Schedule
from pi05.train.optim.low_memory import LowMemoryOptimizer
from pi05.train.parameters import freeze
from pi05.train.step import TrainState, train_step

FLOAT32_TOLERANCE = 1e-6
"""Relative; the traced code runs the same kernels."""
BFLOAT16_TOLERANCE = 1e-3
"""Relative, on losses; three steps."""


@dataclass(frozen=True, kw_only=True)
class Combination:
    """What a step is made of besides compilation."""

    method: str = "full"
    precision: str = "float32"
    recomputed: Any = 0.0
    lora: LoraSpec | None = None
    quantize: Any = None
    optimizer: dict[str, Any] | None = None
    flow_samples: int = 1


LORA = LoraSpec(rank=2, alpha=2)
COMBINATIONS = {
    "selective, flow draws": Combination(recomputed="selective", flow_samples=3),
    "expert": Combination(method="expert"),
    "bf16-sr, release": Combination(precision="bf16-sr", optimizer={"release": True, "state": "8bit"}),
    "lora, selective": Combination(lora=LORA, recomputed="selective"),
    "dora, mixed": Combination(lora=replace(LORA, dora=True), precision="mixed"),
    "qlora, nf4, mixed": Combination(lora=LORA, quantize="nf4", precision="mixed"),
    "qlora, int8, recomputed": Combination(lora=LORA, quantize="int8", recomputed=1.0),
}


def build(made: Combination) -> tuple[Pi05, TrainState]:
    model = make_model()
    if made.precision != "float32":
        model.compute_dtype = torch.bfloat16
    hold_matrices(model, made.precision)
    parameters = freeze(model, made.method)
    if made.lora is not None:
        parameters = adapt(model, made)
    schedule = Schedule(peak=1e-2, warmup_steps=0, decay_steps=100, end=1e-2)
    settings = AdamSettings(clip_norm=1e9)
    optimizer: AdamW | LowMemoryOptimizer = (
        AdamW(parameters, settings, schedule)
        if made.optimizer is None
        else LowMemoryOptimizer(parameters, settings, schedule, seed=0, **made.optimizer)
    )
    return model, TrainState(step=0, seed=5, model=model, optimizer=optimizer)


def adapt(model: Pi05, made: Combination) -> dict[str, nn.Parameter]:
    assert made.lora is not None
    maps = [name for name, module in model.named_modules() if type(module) is Linear and ("layers." in name)]
    model.requires_grad_(False)
    add_lora(model, dict.fromkeys(maps, made.lora), torch.Generator().manual_seed(1))
    if made.quantize is not None:
        quantize_frozen(model, made.quantize, ())
    adapters = {name: value for name, value in model.named_parameters() if "lora_" in name}
    for value in adapters.values():
        value.requires_grad_(True)
    return adapters


@dataclass
class Run:
    """What three steps and the samplings between them gave."""

    losses: list[float] = field(default_factory=list)
    actions: list[torch.Tensor] = field(default_factory=list)
    compiled: list[int] = field(default_factory=list)
    """Pieces of code after each step and its sampling."""


def trained(made: Combination, backend: str | None) -> Run:
    model, state = build(made)
    run = Run()
    settings = replace(SETTINGS, flow_samples=made.flow_samples)
    with in_mode(model, Mode(made.recomputed, backend)):
        for step in range(3):
            run.losses.append(float(train_step(state, [make_batch(3, step)], settings).loss))
            model.eval()
            noise = torch.zeros(3, CONFIG.horizon, CONFIG.action_dim)
            run.actions.append(model.sample_actions(make_batch(3, 9), noise, num_steps=2))
            model.train()
            run.compiled.append(compilations())
    return run


QUICK = ("expert",)
"""The others are slow."""


@pytest.fixture(params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in COMBINATIONS])
def made(request: pytest.FixtureRequest) -> Combination:
    return COMBINATIONS[request.param]


@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_a_compiled_step_is_the_step(made: Combination) -> None:
    """Losses and sampled actions; and once a step and a sampling have been compiled, nothing is compiled again."""
    plain, compiled = trained(made, None), trained(made, "aot_eager")
    tolerance = FLOAT32_TOLERANCE if made.precision == "float32" else BFLOAT16_TOLERANCE
    assert compiled.losses == pytest.approx(plain.losses, rel=tolerance)
    assert len(set(plain.losses)) == 3
    for found, wanted in zip(compiled.actions, plain.actions, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=10 * tolerance * float(wanted.abs().max()))
    assert 4 <= compiled.compiled[0] <= 10, "vision, language, its last layer, expert; with a gradient and without"
    assert compiled.compiled == compiled.compiled[:1] * 3
