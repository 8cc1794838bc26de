"""Both peers' float32 numbers in the precisions that training computes in: loss, every gradient, sampled actions.

`mixed`: float32 weights, bfloat16 arithmetic. `bf16-sr`: the towers' matrices are held in bfloat16, too. A bfloat16
number has 8 significant bits, a unit in the last place is 2⁻⁸ = 0.4 % of the value. Tolerances are about twice what
was measured without compilation (given with each), which fuses and so rounds at fewer places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from network_modes import FEW_MODES, in_mode

from pi05.checkpoint.lerobot.names import lerobot_layout
from pi05.checkpoint.load import load_model
from pi05.checkpoint.openpi.jax_names import jax_layout
from pi05.model import flow
from pi05.model.pi05 import Pi05
from pi05.train.network import hold_matrices

FLOW_TOLERANCE = 2e-2
"""Absolute, for actions, which reach 5, as against openpi's own bfloat16 (measured: 7e-3 openpi, 8e-3 LeRobot)."""
LOSS_TOLERANCE = 2e-3
"""Relative, for the mean loss (measured: 4e-4 and 8e-4)."""
ELEMENT_TOLERANCE = 2**-7
"""Relative to the largest of all squared errors (measured: 2e-3 and 4e-3)."""
GRADIENT_TOLERANCE = 1.5e-2
"""Relative, for all gradients as one vector: length of the difference over length (measured: 7e-3 and 7e-3)."""
WORST_GRADIENT_TOLERANCE = 4e-2
"""Relative, for the worst single tensor (measured: 1.5e-2 and 2e-2)."""
GRADIENT_NOISE = 1e-5
"""Of the global norm: a tensor whose gradient is smaller, as that of a key bias, holds only rounding (of 4e-6)."""


@dataclass(frozen=True)
class Peer:
    """What a peer computed, one name for both."""

    name: str
    loss: float
    elements: np.ndarray
    actions: np.ndarray


@pytest.fixture(scope="module", params=["openpi", "lerobot"])
def peer(request, openpi, lerobot) -> Peer:
    if request.param == "openpi":
        found = openpi.outputs
        return Peer("openpi", float(found["loss_mean"]), found["sq_err"], found["sample_actions"])
    found, loss = lerobot.outputs, lerobot.extra["mean_loss"]
    return Peer("lerobot", loss, found["train.loss_per_element"], found["infer.actions_padded_10steps"])


@pytest.fixture(scope="module")
def recorded(peer, openpi, lerobot):
    return openpi if peer.name == "openpi" else lerobot


@pytest.fixture(scope="module", params=["mixed", "bf16-sr"])
def precision(request) -> str:
    return request.param


@pytest.fixture(scope="module", params=FEW_MODES)
def model(recorded, precision, request) -> Iterator[Pi05]:
    model = load_model(recorded.weights, config=recorded.config, compute_dtype=torch.bfloat16)
    with in_mode(hold_matrices(model, precision), request.param) as model:
        yield model


def test_what_is_held_in_which_precision(model, precision):
    held = {parameter.dtype for parameter in model.parameters()}
    assert held == ({torch.float32} if precision == "mixed" else {torch.float32, torch.bfloat16})
    assert model.compute_dtype == torch.bfloat16


def test_loss_and_every_gradient(model, peer, recorded, compare):
    model.zero_grad()
    losses = model.loss(recorded.batch, recorded.noise, recorded.time)
    compare("loss per element", losses, peer.elements, ELEMENT_TOLERANCE * float(peer.elements.max()))
    mean = losses.mean()
    if peer.name == "lerobot":
        total, count = flow.reduce_loss(losses, None, recorded.extra["action_dim"], "lerobot")
        mean = total / count
    compare("mean loss", mean, peer.loss, LOSS_TOLERANCE * peer.loss)
    mean.backward()
    filled = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in model.named_parameters()
    }
    model.zero_grad()
    config = recorded.config
    layout = jax_layout(config) if peer.name == "openpi" else lerobot_layout(config.depth, config.vision_depth)
    foreign = layout.to_foreign(filled)
    golden = {name: torch.from_numpy(value).double() for name, value in recorded.extra["grads"].items()}
    off = {name: float((foreign[name].double() - value).norm()) for name, value in golden.items()}
    length = {name: float(value.norm()) for name, value in golden.items()}
    whole = float(np.linalg.norm(list(length.values())))
    assert float(np.linalg.norm(list(off.values()))) < GRADIENT_TOLERANCE * whole
    for name, value in length.items():
        assert off[name] < max(WORST_GRADIENT_TOLERANCE * value, GRADIENT_NOISE * whole), name
    assert sum(value > GRADIENT_NOISE * whole for value in length.values()) > 0.9 * len(length) - 4


def test_actions(model, peer, recorded, compare):
    compare("actions", model.sample_actions(recorded.batch, recorded.sample_noise), peer.actions, FLOW_TOLERANCE)


def test_equal_flow_draws(model, peer, recorded, compare):
    """Two draws per sample that are all the recorded one have its loss."""
    noise, time = (tensor.repeat_interleave(2, dim=0) for tensor in (recorded.noise, recorded.time))
    with torch.no_grad():
        losses = model.loss(recorded.batch, noise, time, flow_samples=2)
    compare("loss per element", losses, peer.elements, ELEMENT_TOLERANCE * float(peer.elements.max()))
