"""One step: accumulation equals the big batch, draws are reproducible, what is frozen stays, results are complete."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_network import ROBOT_DIM, SETTINGS, make_batch, make_model, make_state
from torch import Tensor, nn

from pi05.model.lora import LoraSpec, add_lora
from pi05.train.activations import apply_from_outside
from pi05.train.network import hold_matrices
from pi05.train.optim.low_memory import LowMemoryOptimizer
from pi05.train.parallel.ranks import Ranks
from pi05.train.parallel.split import Parallel
from pi05.train.parameters import freeze, group_of
from pi05.train.step import LossSettings, draw_delays, draw_flow, draw_generator, train_step
from pi05.types import Batch

ACCUMULATION_TOLERANCE = 2e-6
"""Absolute, on gradients; the same sums in another order."""


def part(batch: Batch, rows: slice) -> Batch:
    cut = {f.name: v[rows] for f in dataclasses.fields(batch) if isinstance(v := getattr(batch, f.name), Tensor)}
    return dataclasses.replace(batch, **cut)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["masked", "lerobot", "openpi"])
def test_accumulation_equals_the_big_batch(kind: str) -> None:
    """Passes with different numbers of padded steps; a mean of means would give another gradient."""
    settings = LossSettings(kind=kind, robot_action_dim=ROBOT_DIM)
    batch = make_batch(6)
    assert batch.action_mask is not None
    assert batch.action_mask[:2].sum() != batch.action_mask[2:].sum() / 2
    found = []
    for passes in ([batch], [part(batch, slice(0, 2)), part(batch, slice(2, 6))]):
        model = make_model()
        result = train_step(make_state(model, freeze(model, "full")), passes, settings)
        found.append((result, gradients(model)))
    (whole, big), (split, summed) = found
    assert float(whole.loss) == pytest.approx(float(split.loss), rel=1e-6)
    assert float(whole.grad_norm) == pytest.approx(float(split.grad_norm), rel=1e-5)
    assert set(big) == set(summed)
    assert max(float((big[name] - summed[name]).abs().max()) for name in big) < ACCUMULATION_TOLERANCE
    assert torch.allclose(whole.sample_losses, split.sample_losses)
    assert (whole.samples, split.samples) == (6, 6)


def test_masked_loss_is_the_mean_over_what_counts() -> None:
    model, batch = make_model(), make_batch(4)
    assert batch.action_mask is not None
    result = train_step(make_state(model, freeze(model, "full")), [batch], SETTINGS)
    with torch.no_grad():
        losses = make_model().loss(batch, generator=draw_generator(5, 0, 0, torch.device("cpu")))
    counted = losses[..., :ROBOT_DIM][batch.action_mask]
    assert float(result.loss) == pytest.approx(float(counted.mean()), rel=1e-6)


@pytest.mark.parametrize("kind", ["masked", "lerobot", "openpi"])
def test_losses_in_detail_are_those_that_count(kind: str) -> None:
    """They say which frame or dimension makes a loss: what the network does with padding is nobody's fault."""
    model, batch = make_model(), make_batch(4)
    assert batch.action_mask is not None
    assert not batch.action_mask.all()
    settings = LossSettings(kind=kind, robot_action_dim=ROBOT_DIM)
    result = train_step(make_state(model, freeze(model, "full")), [batch], settings)
    with torch.no_grad():
        losses = make_model().loss(batch, generator=draw_generator(5, 0, 0, torch.device("cpu")))
    counts = torch.ones_like(losses)
    if kind != "openpi":
        counts[..., ROBOT_DIM:] = 0
    if kind == "masked":
        counts[~batch.action_mask] = 0
    assert torch.allclose(result.sample_losses, (losses * counts).sum(dim=(1, 2)), rtol=1e-5)
    dimensions = (losses * counts).sum(dim=(0, 1))
    assert torch.allclose(result.dimension_losses, dimensions[: len(result.dimension_losses)], rtol=1e-5)
    assert float(dimensions[len(result.dimension_losses) :].sum()) == 0
    assert float(result.sample_losses.sum() / counts.sum()) == pytest.approx(float(result.loss), rel=1e-5)
    assert float(result.dimension_losses.sum() / counts.sum()) == pytest.approx(float(result.loss), rel=1e-5)


def test_draws_follow_from_seed_step_and_pass() -> None:
    device = torch.device("cpu")

    def drawn(*key: int) -> list[float]:
        return torch.rand(3, generator=draw_generator(*key, device)).tolist()

    keys = [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 0)]
    assert len({tuple(drawn(*key)) for key in keys}) == len(keys)
    assert drawn(1, 7, 2) == drawn(1, 7, 2)


def test_every_step_draws_anew() -> None:
    state = make_state(model := make_model(), freeze(model, "full"))
    drawn = []
    for state.step in range(3):
        ((noise, time),) = draw_flow(state, [make_batch(2)], 1)
        drawn += [noise.flatten().tolist(), time.tolist()]
    assert len(set(map(tuple, drawn))) == 6


@pytest.mark.parametrize("flow_samples", [1, 2])
def test_two_gpus_draw_what_one_would(flow_samples: int) -> None:
    """The first pass of both, then the second: 3 + 3 samples, then 1 + 1."""
    state = make_state(model := make_model(), freeze(model, "full"))
    (alone, second) = draw_flow(state, [make_batch(6), make_batch(2)], flow_samples)
    shares = []
    for rank in range(2):
        state.parallel = Parallel(ranks=Ranks(rank=rank, world_size=2))
        shares.append(draw_flow(state, [make_batch(3), make_batch(1)], flow_samples))
    for index, whole in enumerate((alone, second)):
        for part_of_both, wanted in zip(zip(shares[0][index], shares[1][index], strict=True), whole, strict=True):
            assert torch.equal(torch.cat(part_of_both), wanted)


def test_the_same_state_takes_the_same_step() -> None:
    found = []
    for _ in range(2):
        model = make_model()
        state = make_state(model, freeze(model, "full"), ema=True)
        for seed in range(3):
            train_step(state, [make_batch(3, seed)], SETTINGS)
        assert state.step == 3
        assert state.ema is not None
        found.append({**dict(model.named_parameters()), **{"ema/" + n: t for n, t in state.ema.tensors().items()}})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_released_gradients_give_the_steps_of_kept_ones() -> None:
    """Where nothing is clipped; the first step too, whose norm a pass of its own measures."""
    found = []
    for release in (False, True):
        state = make_state(model := make_model(), parameters := freeze(model, "full"))
        settings, schedule = state.optimizer.settings, state.optimizer.schedule
        state.optimizer = LowMemoryOptimizer(parameters, settings, schedule, seed=0, release=release)
        losses = [float(train_step(state, [make_batch(3, seed)], SETTINGS).loss) for seed in range(3)]
        found.append((losses, [value.detach() for value in model.parameters()]))
    (losses, values), (released_losses, released_values) = found
    assert losses == released_losses
    assert all(torch.equal(left, right) for left, right in zip(values, released_values, strict=True))


class Second(Ranks):
    """The second of two processes, as far as its own draws go; the other one adds nothing."""

    def sum(self, value: Tensor) -> Tensor:
        return value


def test_each_gpu_drops_other_inputs() -> None:
    found = []
    for ranks in (Ranks(), Second(rank=1, world_size=2)):
        model = make_model()
        add_lora(model, {"expert.layers.0.mlp.up": LoraSpec(rank=2, alpha=2, dropout=0.5)})
        with torch.no_grad():
            model.expert.layers[0].mlp.up.lora_b.fill_(1.0)
        state = make_state(model, freeze(model, "expert"))
        state.dropout, state.parallel = True, Parallel(ranks=ranks)
        torch.manual_seed(0)
        train_step(state, [make_batch(3)], SETTINGS)
        found.append(torch.rand(4).tolist())  # where the layers' generator has come to
    assert found[0] != found[1]


@pytest.mark.parametrize("kind", ["torch", "8bit", "release", "bf16-sr"])
def test_the_average_follows_the_weights_of_every_optimizer(kind: str) -> None:
    model = make_model()
    if kind == "bf16-sr":
        hold_matrices(model, "bf16-sr")
    state = make_state(model, parameters := freeze(model, "full"), ema=True)
    if kind != "torch":
        plain = state.optimizer
        state.optimizer = LowMemoryOptimizer(
            parameters, plain.settings, plain.schedule, seed=0, state="8bit", release=kind == "release"
        )
    expected = {name: value.detach().float().clone() for name, value in parameters.items()}
    for seed in range(3):
        train_step(state, [make_batch(3, seed)], SETTINGS)
        for name, value in parameters.items():
            expected[name] = 0.9 * expected[name] + 0.1 * value.detach().float()
    assert state.ema is not None
    for name, value in state.ema.tensors().items():
        assert torch.allclose(value, expected[name], rtol=1e-5, atol=1e-6), name
    assert not torch.equal(state.ema.tensors()["action_out.bias"], parameters["action_out.bias"])


@pytest.mark.parametrize(
    ("method", "frozen"),
    [
        ("full", set()),
        ("frozen-vision", {"vision tower"}),
        ("expert", {"vision tower", "vision head", "embedding", "language model"}),
    ],
)
def test_frozen_parts_stay_and_the_others_move(method: str, frozen: set[str]) -> None:
    model = make_model()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    state = make_state(model, freeze(model, method))
    train_step(state, [make_batch(3)], SETTINGS)
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    unused = {
        "language.norm.scale",
        *(
            name
            for name in before
            if name.startswith("language.layers.1.") and ("mlp" in name or "attention.out" in name)
        ),
        "language.layers.1.attention.query.weight",
    }
    assert {name for name in before if group_of(name) not in frozen} - unused == moved
    assert all(model.get_parameter(name).grad is None for name in before if group_of(name) in frozen)


def test_a_frozen_prefix_keeps_no_graph() -> None:
    model, batch = make_model(), make_batch(2)
    freeze(model, "expert")
    tokens, valid = model.embed_prefix(batch)
    cache = model.prefill(tokens, valid)
    assert all(not tensor.requires_grad for pair in cache for tensor in pair)
    freeze(model, "frozen-vision")
    assert all(tensor.requires_grad for pair in model.prefill(*model.embed_prefix(batch)) for tensor in pair)


@pytest.mark.parametrize("method", ["full", "expert"])
def test_recomputed_activations_change_nothing(method: str) -> None:
    plain, recomputing = make_model(), make_model()
    names = list(plain.state_dict())
    apply_from_outside(recomputing, compile_layers=False, recompute_activations=True)
    assert list(recomputing.state_dict()) == names
    for model in (plain, recomputing):
        train_step(make_state(model, freeze(model, method)), [make_batch(3)], SETTINGS)
    wanted, found = gradients(plain), gradients(recomputing)
    assert set(wanted) == set(found)
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_recomputing_keeps_less_for_the_backward_pass() -> None:
    def kept_bytes(recompute: bool) -> int:
        model, total = make_model(), 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        apply_from_outside(model, compile_layers=False, recompute_activations=recompute)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.loss(make_batch(8), generator=torch.Generator().manual_seed(0))
        return total

    assert kept_bytes(True) < 0.5 * kept_bytes(False)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_compiled_layers_give_the_same_gradients() -> None:
    """Recomputed, which compiles what plain layers do and more."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    plain, compiled = make_model(), make_model()
    apply_from_outside(compiled, compile_layers=True, recompute_activations=True)
    for model in (plain, compiled):
        train_step(make_state(model, freeze(model, "full")), [make_batch(3)], SETTINGS)
    wanted, found = gradients(plain), gradients(compiled)
    assert set(wanted) == set(found)
    scale = max(float(value.abs().max()) for value in wanted.values())
    assert max(float((wanted[name] - found[name]).abs().max()) for name in wanted) < 1e-5 * scale
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert 0 < graphs <= 8, "one graph per kind of layer, not one per layer"


def test_flow_samples_share_one_prefix_and_average_the_draws() -> None:
    model = make_model()
    encoded: list[int] = []
    model.vision.register_forward_hook(lambda *_: encoded.append(1))
    settings = dataclasses.replace(SETTINGS, flow_samples=3)
    batch = make_batch(4)
    state = make_state(model, freeze(model, "full"))
    drawn = draw_generator(state.seed, state.step, 0, torch.device("cpu"))
    with torch.no_grad():
        expected = model.loss(batch, generator=drawn, flow_samples=3)[..., :ROBOT_DIM]
    encoded.clear()
    result = train_step(state, [batch], settings)
    assert len(encoded) == 1
    assert batch.action_mask is not None
    torch.testing.assert_close(result.loss, expected[batch.action_mask].mean())


DELAYED = dataclasses.replace(SETTINGS, max_delay=4)


@pytest.mark.parametrize("kind", ["masked", "lerobot", "openpi"])
def test_accumulation_with_delays_equals_the_big_batch(kind: str) -> None:
    settings = dataclasses.replace(DELAYED, kind=kind)
    batch, found = make_batch(6), []
    for passes in ([batch], [part(batch, slice(0, 2)), part(batch, slice(2, 6))]):
        model = make_model()
        result = train_step(make_state(model, freeze(model, "full")), passes, settings)
        found.append((float(result.loss), gradients(model)))
    (loss, big), (split_loss, summed) = found
    assert loss == pytest.approx(split_loss, rel=1e-6)
    assert max(float((big[name] - summed[name]).abs().max()) for name in big) < ACCUMULATION_TOLERANCE


def test_the_loss_is_the_mean_over_what_is_not_committed() -> None:
    model, batch = make_model(), make_batch(6)
    state = make_state(model, freeze(model, "full"))
    ((noise, time),), (delay,) = draw_flow(state, [batch], 1), draw_delays(state, [batch], 4)
    assert batch.action_mask is not None
    assert delay is not None
    assert delay.max() > 0
    with torch.no_grad():
        losses = make_model().loss(batch, noise, time, delay=delay)[..., :ROBOT_DIM]
    counts = batch.action_mask & (torch.arange(losses.shape[1]) >= delay[:, None])
    assert float(train_step(state, [batch], DELAYED).loss) == pytest.approx(float(losses[counts].mean()), rel=1e-6)


def test_one_action_is_always_left_to_learn() -> None:
    state = make_state(model := make_model(), freeze(model, "full"))
    for state.step in range(20):
        batch = make_batch(8, state.step)
        (delay,) = draw_delays(state, [batch], 5)
        assert batch.action_mask is not None
        assert delay is not None
        assert (delay < batch.action_mask.sum(dim=1)).all()
        assert (delay >= 0).all()
    whole = dataclasses.replace(batch, action_mask=None)
    (free,) = draw_delays(state, [whole], 5)
    assert free is not None
    assert (delay <= free).all()
    assert (delay < free).any()


def test_two_gpus_draw_the_delays_of_one_and_every_step_anew() -> None:
    state = make_state(model := make_model(), freeze(model, "full"))
    whole = [dataclasses.replace(make_batch(count), action_mask=None) for count in (6, 2)]
    halves = [dataclasses.replace(make_batch(count), action_mask=None) for count in (3, 1)]
    alone, shares = draw_delays(state, whole, 5), []
    for rank in range(2):
        state.parallel = Parallel(ranks=Ranks(rank=rank, world_size=2))
        shares.append(draw_delays(state, halves, 5))
    for index, wanted in enumerate(alone):
        assert wanted is not None
        assert torch.equal(torch.cat([each[index] for each in shares]), wanted)
    state.parallel, state.step = Parallel(), 1
    assert [each.tolist() for each in draw_delays(state, whole, 5)] != [each.tolist() for each in alone]


def test_without_delays_nothing_is_drawn_and_the_step_is_the_old_one() -> None:
    """With delays noise and times are the same ones, so that two runs differ by the delays alone."""
    state = make_state(model := make_model(), freeze(model, "full"))
    assert draw_delays(state, [make_batch(2), make_batch(3)], 0) == [None, None]
    seen: list[dict[str, object]] = []
    plain = model.loss
    model.loss = lambda batch, **drawn: seen.append(drawn) or plain(batch, **drawn)  # type: ignore[method-assign]
    for settings in (SETTINGS, DELAYED):
        state.step = 0
        train_step(state, [make_batch(3)], settings)
    assert seen[0]["delay"] is None
    assert seen[1]["delay"] is not None
    for name in ("noise", "time"):
        assert torch.equal(seen[0][name], seen[1][name])  # type: ignore[arg-type]
