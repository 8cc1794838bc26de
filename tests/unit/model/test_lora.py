"""Adapters on linear maps: what they compute, where they sit, how they merge, what they leave alone."""

from __future__ import annotations

import math
from copy import deepcopy
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from pi05.errors import ConfigError
from pi05.model.layers import Linear
from pi05.model.lora import (
    LoraLinear,
    LoraSpec,
    add_lora,
    load_lora_state,
    lora_modules,
    lora_state,
    merge_lora,
)
from pi05.model.pi05 import Pi05

TARGETS = [
    "vision.blocks.0.attention.query",
    "language.layers.0.mlp.down",
    "expert.layers.1.attention.value",
    "time_in",
]
MERGE_TOLERANCE = 2e-5
"""Relative, for a whole network; float32 sums in another order."""


def filled(base: Linear, spec: LoraSpec, seed: int = 0) -> LoraLinear:
    """Return the map with an adapter that changes something."""
    generator = torch.Generator().manual_seed(seed)
    module = LoraLinear(base, spec, generator)
    with torch.no_grad():
        module.lora_b.normal_(generator=generator)
        if module.lora_magnitude is not None:
            module.lora_magnitude.mul_(1 + 0.3 * torch.rand(base.out_features, generator=generator))
    return module


def with_adapters(model: Pi05, **settings: object) -> Pi05:
    spec = LoraSpec(**{"rank": 3, "alpha": 6.0, **settings})  # type: ignore[arg-type]
    add_lora(model, dict.fromkeys(TARGETS, spec), torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for module in lora_modules(model).values():
            module.lora_b.normal_(std=0.2, generator=generator)
            if module.lora_magnitude is not None:
                module.lora_magnitude.mul_(1.2)
    return model


def test_formula():
    base, x = Linear(5, 4), torch.randn(2, 3, 5)
    module = filled(base, LoraSpec(rank=2, alpha=6))
    change = (x @ module.lora_a.T) @ module.lora_b.T * 3
    assert torch.allclose(module(x), F.linear(x, base.weight, base.bias) + change, atol=1e-6)


@pytest.mark.parametrize("scaling", [1.0, 3.0])
def test_in_bfloat16_it_is_as_exact_as_with_a_product_in_float32(scaling):
    """Against float64: result and input's gradient are no further off than when input and sum are cast to float32.

    The adapters' own gradients are rounded as all gradients of full fine-tuning in this precision are.
    """
    generator = torch.Generator().manual_seed(0)
    base = Linear(96, 64)
    module = filled(base, LoraSpec(rank=8, alpha=8 * scaling))
    with torch.no_grad():
        module.lora_b.mul_(0.05)
    x, gradient = (torch.randn(200, size, generator=generator) for size in (96, 64))
    low = x.bfloat16()

    def outcome(forward, dtype):
        given = low.to(dtype).requires_grad_()
        weights = [module.lora_a.detach().to(dtype).requires_grad_(), module.lora_b.detach().to(dtype).requires_grad_()]
        result = forward(given, *weights)
        return [result, *torch.autograd.grad(result, (given, *weights), gradient.bfloat16().to(result.dtype))]

    def exact(given, a, b):
        return F.linear(given, base.weight.double(), base.bias.double()) + scaling * F.linear(F.linear(given, a), b)

    def cast(given, a, b):
        wide = given.float()
        return (Linear.forward(base, given) + scaling * F.linear(F.linear(wide, a.float()), b.float())).to(given.dtype)

    truth = outcome(exact, torch.float64)
    mine = [module(given := low.clone().requires_grad_())]
    mine += torch.autograd.grad(mine[0], (given, module.lora_a, module.lora_b), gradient.bfloat16())
    given, a, b = (
        low.clone().requires_grad_(),
        *(p.detach().clone().requires_grad_() for p in (module.lora_a, module.lora_b)),
    )
    theirs = [cast(given, a, b)]
    theirs += torch.autograd.grad(theirs[0], (given, a, b), gradient.bfloat16())
    for name, wanted, one, other in zip(("result", "x", "a", "b"), truth, mine, theirs, strict=True):
        wanted = wanted.detach()
        ours, peft = (float((each.detach().double() - wanted).norm() / wanted.norm()) for each in (one, other))
        assert ours < 0.006, (name, ours, peft)  # bfloat16 rounds by up to 0.4 %
        if name in ("result", "x"):
            assert ours < 1.3 * peft, (name, ours, peft)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("alpha", "multiplied"), [(2, False), (6, True)])
def test_a_scale_of_one_costs_no_pass_over_the_output(alpha, multiplied, dtype):
    """Below float32 no scale does: the product itself takes it."""
    module, done = filled(Linear(5, 4), LoraSpec(rank=2, alpha=alpha)), []

    class Operations(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            done.append(func)
            return func(*args, **(kwargs or {}))

    with Operations():
        module(torch.randn(3, 5, dtype=dtype))
    assert (torch.ops.aten.mul.Tensor in done) is (multiplied and dtype == torch.float32)


def test_formula_of_dora():
    """Each row of the changed weight is brought to the trained length."""
    base, x = Linear(5, 4), torch.randn(7, 5)
    module = filled(base, LoraSpec(rank=2, alpha=2, dora=True))
    changed = base.weight + module.lora_b @ module.lora_a
    rows = changed / changed.norm(dim=1, keepdim=True) * module.lora_magnitude[:, None]
    assert torch.allclose(module(x), F.linear(x, rows, base.bias), atol=1e-5)


@pytest.mark.parametrize(("rslora", "scaling"), [(False, 2.0), (True, 4.0)])
def test_scaling(rslora, scaling):
    assert LoraSpec(rank=4, alpha=8, rslora=rslora).scaling == scaling


@pytest.mark.parametrize("named", ["rank=0", "alpha=nan", "alpha=inf", "dropout=1.0", "dropout=-0.1"])
def test_impossible_settings(named):
    name, _, value = named.partition("=")
    number = int(value) if name == "rank" else float(value)
    with pytest.raises(ConfigError, match=f"LoRA {name} is impossible"):
        LoraSpec(**{"rank": 4, "alpha": 4.0, name: number})


@pytest.mark.parametrize("dora", [False, True])
def test_a_fresh_adapter_changes_nothing(model, batch, noise, time, dora):
    before = model.loss(batch, noise, time)
    names = {name: id(parameter) for name, parameter in model.named_parameters()}
    spec = LoraSpec(rank=3, alpha=6, dora=dora)
    add_lora(model, dict.fromkeys(TARGETS, spec))
    assert torch.allclose(model.loss(batch, noise, time), before, atol=1e-6 if dora else 0)
    now = {name: id(parameter) for name, parameter in model.named_parameters()}
    assert {name: now[name] for name in names} == names
    parts = ["lora_a", "lora_b", *(["lora_magnitude"] if dora else [])]
    assert set(now) - set(names) == {f"{target}.{part}" for target in TARGETS for part in parts}
    assert sorted(lora_modules(model)) == sorted(TARGETS)


def test_first_values_follow_the_generator_and_the_models_order(model):
    spec = LoraSpec(rank=3, alpha=6)
    states = []
    for order in (TARGETS, TARGETS[::-1]):
        copy = deepcopy(model)
        add_lora(copy, dict.fromkeys(order, spec), torch.Generator().manual_seed(7))
        states.append(lora_state(copy))
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name])
        bound = 1 / math.sqrt(value.shape[1]) if name.endswith("lora_a") else 0.0
        assert value.abs().max() <= bound
        assert value.dtype == torch.float32


def test_wrong_names_leave_the_model_alone(model):
    spec = LoraSpec(rank=3, alpha=6)
    for wrong, error in (("time_inn", KeyError), ("vision.norm", TypeError), ("embedding", TypeError)):
        with pytest.raises(error, match=wrong):
            add_lora(model, {"time_in": spec, wrong: spec})
        assert not lora_modules(model)
    add_lora(model, {"time_in": spec})
    with pytest.raises(TypeError, match="time_in is a LoraLinear"):
        add_lora(model, {"time_in": spec})


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("rslora", [False, True])
def test_merged_equals_unmerged(model, batch, noise, time, dora, rslora):
    with_adapters(model, dora=dora, rslora=rslora)
    unmerged = model.loss(batch, noise, time).detach()
    names = [name for name, _ in model.named_parameters() if "lora_" not in name]
    merge_lora(model)
    assert [name for name, _ in model.named_parameters()] == names
    assert type(model.time_in) is Linear
    difference = (model.loss(batch, noise, time) - unmerged).detach().abs().max()
    assert difference <= MERGE_TOLERANCE * unmerged.max()


def test_merging_keeps_precision_and_parameter():
    """A bfloat16 weight is upcast, changed in float32, rounded once."""
    base = Linear(6, 5).to(torch.bfloat16)
    holder = nn.ModuleDict({"map": filled(base, LoraSpec(rank=2, alpha=1))})
    wanted = (base.weight.float() + 0.5 * holder["map"].lora_b @ holder["map"].lora_a).bfloat16()
    merge_lora(holder)
    assert holder["map"].weight is base.weight
    assert base.weight.dtype == torch.bfloat16
    assert torch.equal(base.weight, wanted)
    assert base.bias is holder["map"].bias


@pytest.mark.parametrize("dora", [False, True])
def test_float32_adapter_on_a_bfloat16_base(dora):
    base, x = Linear(64, 32).to(torch.bfloat16), torch.randn(9, 64).bfloat16()
    module = filled(base, LoraSpec(rank=4, alpha=4, dora=dora))
    result = module(x)
    assert result.dtype == torch.bfloat16
    result.float().square().sum().backward()
    assert {part.grad.dtype for part in (module.lora_a, module.lora_b)} == {torch.float32}
    exact = F.linear(x.double(), module.merged_weight().double(), base.bias.double())
    assert (result - exact).abs().max() < 2**-7 * exact.abs().max()


def test_dropout_only_in_training():
    module = filled(Linear(50, 20), LoraSpec(rank=4, alpha=4, dropout=0.5))
    x = torch.randn(3, 50)
    assert module.training
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))
    without = LoraLinear(module, LoraSpec(rank=4, alpha=4))
    load_lora_state(nn.ModuleDict({"map": without}), lora_state(nn.ModuleDict({"map": module})))
    assert torch.equal(module(x), without(x))


def test_an_adapter_is_in_the_mode_of_its_map():
    """A model that samples does so with new adapters too, and after they were merged."""
    model = nn.ModuleDict({"map": Linear(50, 20)}).eval()
    add_lora(model, {"map": LoraSpec(rank=4, alpha=4, dropout=0.5)})
    assert not model["map"].training
    merge_lora(model)
    assert not model["map"].training


def test_state_goes_out_and_in(model, batch, noise, time):
    """A network of the same base with the state of another computes the same, bit for bit."""
    other = deepcopy(model)
    with_adapters(model, dora=True)
    add_lora(other, {name: module.spec for name, module in lora_modules(model).items()})
    load_lora_state(other, {name: tensor.clone() for name, tensor in lora_state(model).items()})
    assert torch.equal(model.loss(batch, noise, time), other.loss(batch, noise, time))
    assert lora_state(model)["time_in.lora_a"].data_ptr() == model.time_in.lora_a.data_ptr()


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape"])
def test_state_that_does_not_fit_changes_nothing(model, fault):
    with_adapters(model)
    state = {name: tensor + 1 for name, tensor in lora_state(model).items()}
    before = {name: tensor.clone() for name, tensor in lora_state(model).items()}
    if fault == "missing":
        del state["time_in.lora_b"]
    elif fault == "unexpected":
        state["time_out.lora_a"] = torch.zeros(2, 2)
    else:
        state["time_in.lora_b"] = torch.zeros(2, 2)
    with pytest.raises(ValueError, match=r"time_(in|out)\.lora_"):
        load_lora_state(model, state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in lora_state(model).items())


@pytest.mark.parametrize("dora", [False, True])
def test_meta_device(config, model, dora):
    """A resumed run builds the network without values, then fills it."""
    with_adapters(model, dora=dora)
    with torch.device("meta"):
        empty = Pi05(config)
    add_lora(empty, {name: module.spec for name, module in lora_modules(model).items()}, torch.Generator())
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    empty = empty.to_empty(device="cpu")
    empty.load_state_dict(model.state_dict(), strict=True)
    assert all(torch.equal(value, lora_state(model)[name]) for name, value in lora_state(empty).items())


@pytest.mark.filterwarnings("ignore")  # torch.compile's own
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("dora", "recompute"),
    [(True, True), *(pytest.param(dora, False, marks=pytest.mark.slow) for dora in (False, True))],
)
def test_compiled_and_recomputed_layers(model, batch, noise, time, dora, recompute):
    """Layers are wrapped after the adapters are on; losses and gradients stay."""
    with_adapters(model, dora=dora)
    plain = deepcopy(model)
    for layer in (model.vision.blocks[0], model.language.layers[0], model.expert.layers[0]):  # one of each kind
        forward = torch.compile(layer.forward, backend="aot_eager")
        layer.forward = partial(checkpoint, forward, use_reentrant=False) if recompute else forward
    losses = [network.loss(batch, noise, time).mean() for network in (model, plain)]
    for loss in losses:
        loss.backward()
    assert torch.allclose(*losses, rtol=1e-5)
    for name, tensor in lora_modules(plain).items():
        assert torch.allclose(tensor.lora_b.grad, lora_modules(model)[name].lora_b.grad, rtol=1e-3, atol=1e-6), name


@given(
    rank=st.integers(1, 9),
    inputs=st.integers(1, 12),
    outputs=st.integers(1, 12),
    alpha=st.floats(-4, 4),
    rslora=st.booleans(),
    dora=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_merged_weight_does_what_the_map_does(rank, inputs, outputs, alpha, rslora, dora, bias, seed):
    generator = torch.Generator().manual_seed(seed)
    base = Linear(inputs, outputs, bias=bias).double()
    spec = LoraSpec(rank=rank, alpha=alpha, rslora=rslora, dora=dora)
    module = filled(base.float(), spec, seed)
    x = torch.randn(4, inputs, generator=generator)
    merged = F.linear(x, module.merged_weight(), base.bias)
    scale = 1 + float(merged.detach().abs().max()) + abs(spec.scaling) * 100
    assert (module(x) - merged).detach().abs().max() <= 1e-5 * scale
