from __future__ import annotations

from pi05.eval.instructions import other_instructions
from pi05.sim.tabletop import Tabletop


def test_a_swap_asks_for_something_else() -> None:
    environment = Tabletop("base")
    swappable = 0
    for seed in range(60):
        environment.reset(seed)
        own = environment.goal
        for text in other_instructions(environment, own.instruction):
            goal = environment._find_goal(text)
            assert (goal.item, goal.target, goal.side) != (own.item, own.target, own.side), "only other words"
            holding = own.target is None and own.side is None
            assert not (holding and goal.item == own.item), "reaches the original goal on the way"
            assert not environment.check(text)
            swappable += 1
    assert swappable > 100
