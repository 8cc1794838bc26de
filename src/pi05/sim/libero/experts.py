"""A scripted demonstrator for LIBERO: it takes one thing and puts it where the instruction says.

It sees every pose and every collision box, and acts through the same seven numbers as a policy. What it does follows
from the present state: over the grasp, down, close, up, over the target, down, open. So it recovers: a thing that slips
or is missed is taken again. It remembers the chosen grasp, how long it has been closing or opening, and which grasps
have failed.

Leaves out drawers, knobs and pushing (`placing.py`). Metres and radians; one call of `act` per action of 0.05 s, or as
long as the environment holds one.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Float, Float32

from pi05.errors import ConfigError
from pi05.sim.libero.environment import LiberoEnvironment
from pi05.sim.libero.goals import Relation, read_problem
from pi05.sim.libero.grasps import FINGER_BELOW, HAND_ABOVE, HAND_HALF_LENGTH, Grasp, choose_grasp
from pi05.sim.libero.hand import OPEN_ENOUGH, Hand
from pi05.sim.libero.mishaps import Mishaps
from pi05.sim.libero.motion import CLOSE, GAIN, OPEN, TURN_TOLERANCE, Action, toward, turn_between
from pi05.sim.libero.placing import placing_of, target_place
from pi05.sim.libero.shapes import Points, Shapes, height_over, near
from pi05.sim.libero.tasks import LiberoTask, choose_tasks

OVER = 0.012
"""So far from its place in the plane, the hand goes down."""
ON = 0.006
"""So far above or below its height, the hand has arrived."""
CLOSING_STEPS = 10
LETTING_GO_STEPS = 6
ABOVE = 0.03
"""Free space under what travels."""
MOVED = 0.015
"""A thing that has moved so far is looked at anew."""
CORRIDOR = 0.12
"""Half width of the way that a hand with fingers along it needs."""
LOST_AFTER = 3
"""Steps without contact after which a thing counts as lost."""
STUCK_STEPS, STUCK_WAY = 12, 0.004
"""A hand that comes no further than this in so many steps has met something."""


def refuse_impossible(environment: LiberoEnvironment) -> None:
    """Raise ConfigError where the environment has tasks that this expert cannot carry out."""
    tasks = choose_tasks(environment.suite, environment.tasks)
    able = {task.name for task in tasks if placing_of(*_problem(task)) is not None}
    unable = [task.name for task in tasks if task.name not in able]
    if unable:
        raise ConfigError(
            "there is no scripted expert for some of these tasks",
            wanted="tasks in which one thing is put somewhere",
            found=", ".join(unable),
            remedy=f"--tasks='[{','.join(name for name in environment.tasks if name in able)}]'"
            if able
            else "choose tasks of libero_object, libero_spatial or libero_goal",
        )


def _problem(task: LiberoTask) -> tuple[tuple[Relation, ...], set[str]]:
    problem = read_problem(task)
    things = {name for kind, name in problem.things if kind != "floor" and not kind.endswith("table")}
    return problem.goal.relations, things


class LiberoExpert:
    """Carries out the placing that the present episode asks for."""

    def __init__(self, environment: LiberoEnvironment) -> None:
        self._environment = environment
        self._toward = partial(toward, gain=GAIN / environment.hold)  # an action that is held goes further
        self._still = partial(self._toward, np.zeros(3))
        self._closing, self._letting = (-(-steps // environment.hold) for steps in (CLOSING_STEPS, LETTING_GO_STEPS))

    def reset(self) -> None:
        """Look at the new episode. Raises ValueError for an instruction that this expert cannot carry out."""
        simulator = self._simulator = self._environment.simulator
        domain = simulator.env
        goal = self._environment.goals[0].relations
        placing = placing_of(goal, domain.obj_body_id)
        if placing is None:
            raise ValueError(f"no task of this expert: {goal}")
        self._placing = placing
        self.shapes = Shapes(simulator)
        self.hand = Hand(simulator, self.shapes.owner)
        self._grasp: Grasp | None = None
        self._seen: Float[np.ndarray, " 3"] = np.full(3, np.inf)
        self._failed: list[Grasp] = []
        self._closing_steps = self._letting_go = 0
        self._without_contact = LOST_AFTER
        self._way: list[Float[np.ndarray, " 3"]] = []
        self._mishaps = Mishaps(self._environment.hold)
        self._above_grasp: float | None = None

    def disturb(self, action: Action, generator: np.random.Generator) -> Action:
        """Return what reaches the arm instead of `action` while demonstrations are collected."""
        return self._mishaps.disturb(action, self._above_grasp, generator).astype(action.dtype)

    def act(self) -> Float32[np.ndarray, " 7"]:
        """Return the action for the present state, in the precision that data sets keep."""
        self._above_grasp = None
        return self._act().astype(np.float32)

    def _act(self) -> Action:
        if self._letting_go:
            self._letting_go -= 1
            return self._still(gripper=OPEN)
        if self.hand.holds(self._placing.thing):
            self._without_contact = 0
        else:
            self._without_contact += 1
        if self._closing_steps:
            self._closing_steps -= 1
            if self._closing_steps or self._without_contact == 0:
                return self._still(gripper=CLOSE)
            self._forget_grasp()
        if self._without_contact < LOST_AFTER and self.hand.opening < OPEN_ENOUGH + 0.012:
            return self._carry()
        return self._fetch()

    # --- to the thing ----------------------------------------------------------------------------------------------

    def _fetch(self) -> Action:
        position = self.hand.position
        thing = self.shapes.points(self._placing.thing)
        grasp = self._valid_grasp(thing)
        if grasp is None:
            return self._toward(np.array([0.0, 0.0, 0.05]))
        turn = turn_between(self.hand.closing, self._aim)
        away = grasp.place - position[:2]
        hover = max(grasp.z + ABOVE, height_over(near(self._all(), grasp.place, grasp.place, CORRIDOR), -1.0) + 0.02)
        ready = self.hand.opening > OPEN_ENOUGH and abs(turn) <= TURN_TOLERANCE
        going_down = position[2] < hover - ON
        if ready and np.hypot(*away) < (2 * OVER if going_down else OVER):
            if abs(grasp.z - position[2]) < ON and np.hypot(*away) < OVER:
                self._closing_steps = self._closing
                return self._still(gripper=CLOSE)
            if self._stuck(position):
                if abs(grasp.z - position[2]) < 2 * ON:  # the hand lies on the rim
                    self._closing_steps = self._closing
                    return self._still(gripper=CLOSE)
                self._forget_grasp()
                return self._toward(np.array([0.0, 0.0, 0.05]))
            self._above_grasp = float(position[2] - grasp.z)
            return self._toward(np.array([*away, grasp.z - position[2]]))
        self._way = []
        return self._travel(grasp.place, hover, FINGER_BELOW, turn=turn, gripper=OPEN)

    def _valid_grasp(self, thing: Points) -> Grasp | None:
        middle = thing.mean(axis=0)
        if self._grasp is None or np.linalg.norm(middle - self._seen) > MOVED:
            closing = self.hand.closing
            others = self.shapes.others(self._placing.thing)
            self._grasp = choose_grasp(thing, others, closing, self.shapes.ground, self._failed)
            self._seen = middle
            if self._grasp is not None:
                cosine, sine = np.cos(self._grasp.turn), np.sin(self._grasp.turn)
                self._aim = np.array([[cosine, -sine], [sine, cosine]]) @ closing
        return self._grasp

    def _stuck(self, position: Float[np.ndarray, " 3"]) -> bool:
        """Tell whether the hand has met something on its way down."""
        self._way = [*self._way[-STUCK_STEPS:], position]
        return len(self._way) > STUCK_STEPS and bool(np.linalg.norm(position - self._way[0]) < STUCK_WAY)

    def _forget_grasp(self) -> None:
        if self._grasp is not None:
            self._failed.append(self._grasp)
        self._grasp, self._way = None, []

    # --- to the target ---------------------------------------------------------------------------------------------

    def _carry(self) -> Action:
        position = self.hand.position
        thing = self.shapes.points(self._placing.thing)
        body = self._simulator.env.obj_body_id[self._placing.thing]
        away = target_place(self._simulator, self._placing) - self._simulator.sim.data.body_xpos[body][:2]
        hanging = float(position[2] - thing[:, 2].min())
        lowest = self._lowest(thing, position[:2] + away, away) + hanging
        going_down = position[2] - lowest < 2 * ABOVE  # goes on further off: an arm at a joint's limit comes no nearer
        if np.hypot(*away) < (2 * OVER if going_down else OVER):
            if position[2] - lowest < ON:
                self._letting_go = self._letting
                self._grasp = None
                return self._still(gripper=OPEN)
            return self._toward(np.array([*away, lowest - position[2]]), gripper=CLOSE, fastest=0.6)
        return self._travel(position[:2] + away, -1.0, hanging, gripper=CLOSE)

    def _lowest(self, thing: Points, place: Float[np.ndarray, " 2"], away: Float[np.ndarray, " 2"]) -> float:
        """Return how low the underside of the thing comes: onto what is under it, or as low as the hand can go."""
        others = self.shapes.others(self._placing.thing)
        middle = thing[:, :2].mean(axis=0) + away
        radius = 0.5 * float(np.ptp(thing[:, :2], axis=0).min())
        support = height_over(near(others, middle, middle, radius), self.shapes.ground)
        rim = height_over(near(others, place, place, HAND_HALF_LENGTH), self.shapes.ground)
        hand = rim + 0.005 - HAND_ABOVE - float(self.hand.position[2] - thing[:, 2].min())
        return max(support + 0.004, hand)

    # --- on the way ------------------------------------------------------------------------------------------------

    def _travel(
        self, place: Float[np.ndarray, " 2"], least: float, below: float, *, turn: float = 0.0, gripper: float
    ) -> Action:
        """Go over a place: up first where something is in the way of what reaches `below` under the hand."""
        position = self.hand.position
        obstacles = self.shapes.others(self._placing.thing) if gripper == CLOSE else self._all()
        way = near(obstacles, position[:2], place, CORRIDOR)
        height = max(least, height_over(way, self.shapes.ground) + ABOVE + below)
        away, rise = place - position[:2], height - position[2]
        if rise > ABOVE:
            return self._toward(np.array([0.0, 0.0, rise]), gripper=gripper)
        return self._toward(np.array([*away, rise]), turn, gripper)

    def _all(self) -> Points:
        return np.concatenate([self.shapes.points(name) for name in self.shapes.names])
