from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from pi05.sim.libero.placing import Placing, placing_of, target_place

THINGS = {"bowl_1", "plate_1", "bottle_1", "flat_stove_1", "wooden_cabinet_1", "wine_rack_1", "basket_1"}


@pytest.mark.parametrize(
    ("goal", "thing", "target"),
    [
        (["on", "bowl_1", "plate_1"], "bowl_1", "plate_1"),
        (["In", "bottle_1", "basket_1_contain_region"], "bottle_1", "basket_1_contain_region"),
        (["on", "bowl_1", "flat_stove_1_cook_region"], "bowl_1", "flat_stove_1_cook_region"),
        (["on", "bottle_1", "wooden_cabinet_1_top_side"], "bottle_1", "wooden_cabinet_1_top_side"),
    ],
)
def test_one_thing_is_put_somewhere(goal: list[str], thing: str, target: str) -> None:
    assert placing_of([goal], THINGS) == Placing(thing, target)


@pytest.mark.parametrize(
    "goals",
    [
        [],
        [["open", "wooden_cabinet_1_middle_region"]],
        [["turnon", "flat_stove_1"]],
        [["in", "bowl_1", "wooden_cabinet_1_top_region"]],
        [["on", "bottle_1", "wine_rack_1_top_region"]],
        [["on", "plate_1", "main_table_stove_front_region"]],
        [["on", "bowl_1", "plate_1"], ["on", "bottle_1", "plate_1"]],
    ],
)
def test_what_takes_more_is_left_out(goals: list[list[str]]) -> None:
    assert placing_of(goals, THINGS) is None


def test_targets_are_marked_places_or_things() -> None:
    data = SimpleNamespace(get_site_xpos=lambda _: np.array([1.0, 2.0, 3.0]), body_xpos=np.array([[4.0, 5.0, 6.0]]))
    domain = SimpleNamespace(object_sites_dict={"spot": None}, obj_body_id={"plate_1": 0})
    simulator = SimpleNamespace(env=domain, sim=SimpleNamespace(data=data))
    assert target_place(simulator, Placing("bowl_1", "spot")).tolist() == [1, 2]
    assert target_place(simulator, Placing("bowl_1", "plate_1")).tolist() == [4, 5]
