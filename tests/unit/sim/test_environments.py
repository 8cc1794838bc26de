from __future__ import annotations

from typing import Literal

import pytest
from fake_robot import FakeRobot

from pi05.sim.config import DemonstrationChoice, EnvironmentChoice
from pi05.sim.environments import close_environment, environment_maker, expert_maker
from pi05.sim.experts import TabletopExpert
from pi05.sim.tabletop import Tabletop
from pi05.sim.tabletop_tasks import FAMILIES


@pytest.mark.parametrize("family", ["base", "demo"])
def test_names_make_environments(family: Literal["base", "demo"]) -> None:
    make = environment_maker(EnvironmentChoice(family=family))
    first, second = make(), make()
    assert first is not second
    assert isinstance(first, Tabletop)
    assert first.family == FAMILIES[family]


def test_an_expert_acts_in_the_environment_that_it_comes_with() -> None:
    environment, expert = expert_maker(DemonstrationChoice(family="base"))()
    assert isinstance(expert, TabletopExpert)
    assert expert.env is environment


def test_a_simulator_that_cannot_be_closed_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    class Stuck(FakeRobot):
        def close(self) -> None:
            raise OSError("no display")

    close_environment(Stuck())
    assert "note: the simulator could not be closed: OSError: no display" in capsys.readouterr().err
