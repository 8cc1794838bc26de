"""The network at π₀.₅'s own sizes, without memory: parameter count, and every foreign name mapped once, in shape."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pi05.checkpoint.lerobot.names import lerobot_layout
from pi05.checkpoint.openpi.jax_names import jax_layout
from pi05.checkpoint.openpi.names import openpi_layout
from pi05.model.config import pi05
from pi05.model.pi05 import Pi05

KEYS = Path(__file__).resolve().parent.parent / "golden" / "keys"
PARAMETERS = 3_353_433_872
"""Of openpi's JAX model, which has no dead language heads."""
LISTED = {"openpi_jax.txt": 51, "openpi_torch.txt": 813, "lerobot_torch.txt": 813}


def listed(name: str) -> dict[str, tuple[int, ...]]:
    """Read a list of names and shapes."""
    shapes = {}
    for line in (KEYS / name).read_text().splitlines():
        if line and not line.startswith("#"):
            key, shape, *_ = line.split("\t")
            shapes[key] = tuple(int(number) for number in re.findall(r"\d+", shape))
    assert len(shapes) == LISTED[name]
    return shapes


@pytest.fixture(scope="module")
def parameters() -> dict[str, Tensor]:
    with torch.device("meta"):
        return dict(Pi05(pi05()).named_parameters())


def test_parameter_count(parameters):
    assert sum(parameter.numel() for parameter in parameters.values()) == PARAMETERS


def test_nothing_but_parameters():
    """A checkpoint of the parameters is complete: the network keeps no buffers."""
    with torch.device("meta"):
        assert not list(Pi05(pi05()).buffers())


@pytest.mark.parametrize("name", LISTED)
def test_every_name_is_mapped_once(parameters, name):
    config = pi05()
    layout = {
        "openpi_jax.txt": jax_layout(config),
        "openpi_torch.txt": openpi_layout(config.depth, config.vision_depth),
        "lerobot_torch.txt": lerobot_layout(config.depth, config.vision_depth),
    }[name]
    keys = listed(name)
    ours = [target.name for targets in layout.targets.values() for target in targets]
    assert sorted(ours) == sorted(parameters)
    assert set(layout.targets).isdisjoint(layout.dead)
    assert {*layout.targets, *layout.dead} == set(keys)
    shapes = layout.foreign_shapes({name: tuple(parameter.shape) for name, parameter in parameters.items()})
    for key, shape in shapes.items():
        assert shape == keys[key], key


def test_jax_axes_round_trip(parameters):
    """From our shapes to JAX's and back is the identity in shape, at a size where no two widths are equal."""
    layout = jax_layout(pi05())
    back = layout.to_ours(layout.to_foreign(parameters))
    assert {name: tensor.shape for name, tensor in back.items()} == {n: t.shape for n, t in parameters.items()}
