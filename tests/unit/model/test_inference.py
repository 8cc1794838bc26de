"""Compiled and rounded networks act as the plain one, within what rounding allows; a chunk is three graphs."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from small_network import CONFIG, make_batch, make_model
from torch import Tensor

from pi05.errors import ConfigError
from pi05.model.flow import Velocity
from pi05.model.inference import compile_sampling, in_one_thread, set_up_inference, steer_first
from pi05.model.pi05 import Pi05
from pi05.model.quantize import quantized_weights

INPUTS = ("images", "image_mask", "tokens", "token_mask")
ROUNDING = 1e-5
"""Absolute; the same sums in another order."""
EIGHT_BITS = 0.05
"""Absolute, on actions that reach 3: weights within 0.4 % of the largest of 64."""


def noise(count: int) -> Tensor:
    return torch.randn(count, CONFIG.horizon, CONFIG.action_dim, generator=torch.Generator().manual_seed(2))


def sampled(model: Pi05, count: int = 2, **options: object) -> Tensor:
    return model.sample_actions(make_batch(count), noise(count), num_steps=2, **options)  # type: ignore[arg-type]


@pytest.fixture
def graphs() -> object:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    return lambda: torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
def test_a_chunk_is_three_graphs(graphs) -> None:
    """Traced, not built: `eager` runs what Dynamo has recorded. A second chunk of the same shape records nothing."""
    plain, model = make_model(), make_model()
    compile_sampling(model, backend="eager")
    assert torch.equal(sampled(model), sampled(plain))
    assert graphs() == 3
    assert torch.equal(sampled(model), sampled(plain))
    assert graphs() == 3
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
def test_committed_actions_are_in_the_graph_and_steering_is_not(graphs) -> None:
    plain, model = make_model(), make_model()
    compile_sampling(model, backend="eager")
    committed = (noise(2) + 1, torch.tensor([2, 0]))
    assert torch.equal(sampled(model, committed=committed), sampled(plain, committed=committed))
    assert graphs() == 3
    half = lambda velocity, x_t, time: velocity(x_t, time) / 2  # noqa: E731
    assert torch.equal(sampled(model, steer=half), sampled(plain, steer=half))
    assert not torch.equal(sampled(model, steer=half), sampled(model))


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_built_graphs_give_the_same_actions(graphs) -> None:
    plain, model = make_model(), make_model()
    compile_sampling(model)
    assert torch.allclose(sampled(model), sampled(plain), atol=ROUNDING)
    assert torch.allclose(sampled(model, 3), sampled(plain, 3), atol=ROUNDING)


def test_matrices_lie_as_a_cpu_reads_them_and_hold_what_they_held() -> None:
    plain, model = make_model(), make_model()
    set_up_inference(model)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, plain.get_parameter(name))
    assert {matrix.weight.t().is_contiguous() for matrix in model.tower_maps.values()} == {True}
    assert torch.allclose(sampled(model), sampled(plain), atol=ROUNDING)


def test_bfloat16_holds_half_and_moves_the_actions_a_little() -> None:
    plain, model = make_model(), make_model()
    set_up_inference(model, precision="bfloat16")
    assert {value.dtype for name, value in model.named_parameters() if name.endswith("up.weight")} == {torch.bfloat16}
    assert model.action_in.weight.dtype == torch.float32
    moved = (sampled(model) - sampled(plain)).abs().max()
    assert 0 < moved < EIGHT_BITS


def test_float32_on_request_undoes_the_usual_arithmetic_of_a_gpu() -> None:
    plain, model = make_model(), make_model()
    model.compute_dtype = torch.bfloat16
    set_up_inference(model, precision="float32")
    assert torch.allclose(sampled(model), sampled(plain), atol=ROUNDING)


def test_int8_holds_codes_and_moves_the_actions_a_little() -> None:
    plain, model = make_model(), make_model()
    set_up_inference(model, precision="int8")
    assert set(quantized_weights(model)) == {*plain.tower_maps, "embedding"}
    moved = (sampled(model) - sampled(plain)).abs().max()
    assert 0 < moved < EIGHT_BITS


def test_int8_is_not_compiled() -> None:
    with pytest.raises(ConfigError, match="cannot be compiled"):
        set_up_inference(make_model(), precision="int8", compile=True)


def test_one_thread_runs_all_that_is_asked_from_others() -> None:
    where = in_one_thread(lambda: threading.get_ident())
    found = [where()]
    asking = threading.Thread(target=lambda: found.append(where()))
    asking.start()
    asking.join()
    assert found[0] == found[1] != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        in_one_thread(lambda: 1 / 0)()


def test_what_steers_a_few_rows_steers_those_that_fill_up() -> None:
    """Every row is what it would be without the others, and what steers sees the first ones only."""
    model, rows = make_model(), [0, 1, 0, 0]
    batch = make_batch(2)
    few = noise(2)

    def half(velocity: Velocity, x_t: Tensor, time: Tensor) -> Tensor:
        assert (len(x_t), len(time)) == (2, 2)
        return velocity(x_t, time) / 2

    wanted = model.sample_actions(batch, few, num_steps=2, steer=half)
    filled = replace(
        batch,
        actions=None,
        action_mask=None,
        **{name: each[rows] for name in INPUTS if (each := getattr(batch, name)) is not None},
    )
    found = model.sample_actions(filled, few[rows], num_steps=2, steer=steer_first(half, 2, rows))
    torch.testing.assert_close(found, wanted[rows], rtol=0, atol=ROUNDING)
