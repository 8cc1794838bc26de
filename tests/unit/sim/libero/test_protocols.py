"""The two protocols, against what the programs of openpi and LeRobot say (docs/libero.md has the lines)."""

from __future__ import annotations

import json
import typing

import pytest
from pages import REPOSITORY

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
        told = " ".join(protocol.differences.values())
        numbers = (protocol.max_steps["libero_spatial"], protocol.replan_steps, protocol.episodes_per_task)
        assert all(str(number) in told for number in (*numbers, protocol.render_px, protocol.seed))
    assert list(OPENPI.differences) == list(LEROBOT.differences)


def test_the_contract_with_lerobot_is_as_the_documentation_says() -> None:
    newest = max((REPOSITORY / "benchmarks" / "results").glob("libero_contract_*.json"))
    result = json.loads(newest.read_text())
    cases = result["cases"]
    assert result["equal"]
    assert {case["suite"] for case in cases} == set(SUITES)
    assert [case[name] for case in cases for name in ("frames", "joints", "fixtures")] == [0.0] * 3 * len(cases)
    told = (REPOSITORY / "docs" / "libero.md").read_text()
    apart = max(case["state"] for case in cases)
    assert f"in {len(cases)} episodes of all five suites, {result['steps']} random actions each" in told
    assert f"the state to {apart:.1e}".replace("e-0", "e-") in told
