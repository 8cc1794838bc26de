"""The two protocols, against what the programs of openpi and LeRobot say (docs/libero.md has the lines)."""

from __future__ import annotations

import typing

import pytest

from pi05.sim.libero.config import SUITES, ProtocolName, Suite
from pi05.sim.libero.protocols import LEROBOT, OPENPI, protocol_named


def test_every_suite_and_name_is_there() -> None:
    assert set(SUITES) == set(typing.get_args(Suite)) == set(OPENPI.max_steps) == set(LEROBOT.max_steps)
    assert {protocol_named(name).name for name in typing.get_args(ProtocolName)} == set(typing.get_args(ProtocolName))


@pytest.mark.parametrize(
    ("protocol", "spatial", "replan", "episodes", "px", "seeds"),
    [(OPENPI, 220, 5, 50, 256, [7, 7]), (LEROBOT, 280, 10, 10, 360, [1000, 1003])],
)
def test_what_differs(
    protocol: typing.Any, spatial: int, replan: int, episodes: int, px: int, seeds: list[int]
) -> None:
    assert dict(protocol.max_steps) == {
        "libero_spatial": spatial,
        "libero_object": 280,
        "libero_goal": 300,
        "libero_10": 520,
        "libero_90": 400,
    }
    assert (protocol.wait_steps, protocol.replan_steps, protocol.episodes_per_task) == (10, replan, episodes)
    assert protocol.render_px == px
    assert [protocol.episode_seed(0), protocol.episode_seed(3)] == seeds


def test_differences_tell_the_numbers() -> None:
    for protocol in (OPENPI, LEROBOT):
        told = " ".join(protocol.differences)
        numbers = (protocol.max_steps["libero_spatial"], protocol.replan_steps, protocol.episodes_per_task)
        assert all(str(number) in told for number in (*numbers, protocol.render_px, protocol.seed))
