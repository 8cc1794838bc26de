"""A small deterministic manipulation task: pick an object by its colour, put it where the instruction says.

Seen from above, a table of 0.5 m x 0.5 m holds items to grasp and targets to put them on; some are distractors. A
two-finger gripper moves in the plane (it lowers itself when it closes). Needs NumPy only; the same seed gives the same
pictures and physics everywhere.

    state   x, y of the gripper (m), opening (0 closed … 1 open)
    action  commanded x, y (m), commanded opening (0 … 1). The arm covers half the remaining way per step, at most
            0.05 m.

What may lie there and what may be asked is in `tabletop_tasks.py`. Leaves out: contact between objects, height.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8

from pi05.errors import ConfigError
from pi05.sim.drawing import Shape, View, paint
from pi05.sim.protocol import Observation
from pi05.sim.tabletop_tasks import COLOURS, FAMILIES, SIDES, TabletopGoal

TABLE_HALF = 0.25
REACH = 0.22
ITEM_RADIUS = 0.034
TARGET_RADIUS = 0.06
GRASP_TOLERANCE = 0.032
PLACE_TOLERANCE = 0.045
SIDE_DISTANCE = 0.15
MAX_STEP = 0.05
APPROACH_GAIN = 0.5
WRIST_HALF = 0.09
FPS = 10.0
ROBOT_TYPE = "pi05_tabletop"
STATE_NAMES = ("x_m", "y_m", "opening")
ACTION_NAMES = ("x_m", "y_m", "opening")


@dataclass(frozen=True)
class Thing:
    """An item or a target: what it is called and where its centre lies (m)."""

    name: str
    shape: str
    colour: str
    x: float
    y: float


class Tabletop:
    """One environment without tasks: the seed decides layout, colours, light and instruction."""

    fps = FPS
    robot_type = ROBOT_TYPE
    state_names = STATE_NAMES
    action_names = ACTION_NAMES
    tasks = ()
    notes = ()

    def __init__(self, family: str = "base", image_size: int = 48, max_steps: int = 60) -> None:
        if family not in FAMILIES:
            raise ConfigError(
                "there is no such family of table-top tasks",
                wanted=" or ".join(FAMILIES),
                found=family,
                remedy="set --env.family to one of them",
            )
        self.family = FAMILIES[family]
        self.image_size = image_size
        self.max_steps = max_steps
        self.goals: Sequence[TabletopGoal] = ()

    @property
    def cameras(self) -> dict[str, tuple[int, int]]:
        """Sizes of the two cameras: one over the table, one that travels with the gripper."""
        size = (self.image_size, self.image_size)
        return {"observation.images.scene": size, "observation.images.wrist": size}

    def reset(self, seed: int, task: str | None = None) -> None:
        """Lay the table anew. A `task` is the instruction of one of the layout's goals; without it one is drawn."""
        rng = np.random.default_rng(seed)
        self._lay_table(rng)
        self.goals = self._possible_goals()
        self.steps = 0
        self.held: int | None = None
        self.held_steps = 0
        self.opening = 1.0
        self.position = rng.uniform(-REACH, REACH, 2)
        self.goal = self._draw_goal(rng) if task is None else self._find_goal(task)

    def step(self, action: Float[np.ndarray, " n"]) -> tuple[bool, bool]:
        """Apply one command for 0.1 s; return whether the episode is over, and whether its goal is reached."""
        command = np.asarray(action, dtype=np.float64)
        if command.shape != (3,) or not np.isfinite(command).all():
            raise ValueError(f"an action is 3 finite numbers (x, y, opening), found {command!r}")
        way = APPROACH_GAIN * (np.clip(command[:2], -TABLE_HALF, TABLE_HALF) - self.position)
        length = float(np.hypot(*way))
        self.position = self.position + way * min(1.0, MAX_STEP / max(length, 1e-9))
        self._move_fingers(bool(command[2] > 0.5))
        if self.held is not None:
            x, y = self.position
            self.items[self.held] = replace(self.items[self.held], x=float(x), y=float(y))
            self.held_steps += 1
        self.steps += 1
        success = self._reached(self.goal)
        return success or self.steps >= self.max_steps, success

    @property
    def instruction(self) -> str:
        """What the robot is told."""
        return self.goal.instruction

    def check(self, instruction: str) -> bool:
        """Return whether the table now satisfies `instruction`, whatever the robot was told."""
        return self._reached(self._find_goal(instruction))

    def observe(self) -> Observation:
        """Return pictures, state and instruction under LeRobot's names."""
        return {
            "observation.images.scene": self.render(self.image_size),
            "observation.images.wrist": self.render(self.image_size, wrist=True),
            "observation.state": np.array([*self.position, self.opening], dtype=np.float32),
            "task": self.instruction,
        }

    def render(self, size: int, wrist: bool = False) -> UInt8[np.ndarray, "size size 3"]:
        """Draw the table from above, or the gripper's surroundings as the wrist camera sees them."""
        if wrist:
            view = View(float(self.position[0]), float(self.position[1]), WRIST_HALF, size)
        else:
            view = View(0.0, 0.0, TABLE_HALF, size)
        return paint(view, self.table_colour, self._shapes(), light=self.light)

    def close(self) -> None:
        """Give nothing back: a table of numbers holds nothing."""

    def _lay_table(self, rng: np.random.Generator) -> None:
        most = min(3, len(self.family.colours))
        item_count = int(rng.integers(self.family.least, most + 1))
        target_count = int(rng.integers(self.family.least, most + 1))
        places = _spread(rng, item_count + target_count)
        item_colours = rng.permutation(self.family.colours)[:item_count]
        target_colours = rng.permutation(self.family.colours)[:target_count]
        self.items = [
            _thing(rng, self.family.items, str(colour), place)
            for colour, place in zip(item_colours, places, strict=False)
        ]
        self.targets = [
            _thing(rng, self.family.targets, str(colour), place)
            for colour, place in zip(target_colours, places[item_count:], strict=True)
        ]
        red, green, blue = np.array([166.0, 152.0, 138.0]) + rng.uniform(-18, 18, 3)
        self.table_colour = (float(red), float(green), float(blue))
        self.light = float(rng.uniform(0.9, 1.08))
        self.tints = rng.uniform(-10, 10, (item_count + target_count, 3))

    def _possible_goals(self) -> list[TabletopGoal]:
        goals = []
        for item, thing in enumerate(self.items):
            for sentence in self.family.put:
                for target, place in enumerate(self.targets):
                    goals.append(TabletopGoal(sentence.format(item=thing.name, target=place.name), item, target=target))
            goals += [TabletopGoal(sentence.format(item=thing.name), item) for sentence in self.family.pick]
            for sentence in self.family.side:
                goals += [TabletopGoal(sentence.format(item=thing.name, side=side), item, side=side) for side in SIDES]
        return goals

    def _draw_goal(self, rng: np.random.Generator) -> TabletopGoal:
        """Draw the kind of task first, so that frequent wordings do not drown rare ones."""
        kinds = [[g for g in self.goals if g.target is not None]]
        others = [[g for g in self.goals if g.side is not None], [g for g in self.goals if g.holds]]
        if rng.random() < 0.3:
            kinds = [kind for kind in others if kind] or kinds
        candidates = kinds[int(rng.integers(len(kinds)))]
        fresh = [goal for goal in candidates if not self._reached(goal)]
        candidates = fresh or candidates
        return candidates[int(rng.integers(len(candidates)))]

    def _find_goal(self, instruction: str) -> TabletopGoal:
        for goal in self.goals:
            if goal.instruction == instruction:
                return goal
        raise ValueError(
            f"{instruction!r} is not possible in this layout; possible are {[goal.instruction for goal in self.goals]}"
        )

    def _move_fingers(self, wants_open: bool) -> None:
        if wants_open:
            self.opening, self.held, self.held_steps = 1.0, None, 0
            return
        if self.opening > 0.5:
            distances = [np.hypot(item.x - self.position[0], item.y - self.position[1]) for item in self.items]
            nearest = int(np.argmin(distances))
            if distances[nearest] <= GRASP_TOLERANCE:
                self.held = nearest
        self.opening = 0.0

    def _reached(self, goal: TabletopGoal) -> bool:
        item = self.items[goal.item]
        if goal.target is not None:
            target = self.targets[goal.target]
            near = np.hypot(item.x - target.x, item.y - target.y) <= PLACE_TOLERANCE
            return bool(near) and self.held != goal.item
        if goal.side is not None:
            direction = SIDES[goal.side]
            far = item.x * direction[0] + item.y * direction[1] >= SIDE_DISTANCE
            return far and self.held != goal.item
        return self.held == goal.item and self.held_steps >= 4

    def _shapes(self) -> list[Shape]:
        shapes = []
        for tint, thing in zip(self.tints[len(self.items) :], self.targets, strict=True):
            shapes.append(_shape(thing, TARGET_RADIUS, tint))
        order = sorted(range(len(self.items)), key=lambda index: index == self.held)
        for index in order:
            radius = ITEM_RADIUS * (1.12 if index == self.held else 1.0)
            shapes.append(_shape(self.items[index], radius, self.tints[index]))
        x, y = (float(v) for v in self.position)
        gap = 0.044 if self.opening > 0.5 else 0.034
        shapes.append(Shape("finger", x - gap, y, 0.03, (35.0, 35.0, 40.0)))
        shapes.append(Shape("finger", x + gap, y, 0.03, (35.0, 35.0, 40.0)))
        return shapes


def _spread(rng: np.random.Generator, count: int) -> Float[np.ndarray, "count 2"]:
    """Draw places that keep 0.105 m from each other."""
    while True:
        places = rng.uniform(-0.2, 0.2, (count, 2))
        gaps = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + np.eye(count)
        if gaps.min() >= 0.105:
            return places


def _thing(rng: np.random.Generator, shapes: tuple[str, ...], colour: str, place: Float[np.ndarray, " 2"]) -> Thing:
    shape = shapes[int(rng.integers(len(shapes)))]
    return Thing(f"{colour} {shape}", shape, colour, float(place[0]), float(place[1]))


def _shape(thing: Thing, radius: float, tint: Float[np.ndarray, " 3"]) -> Shape:
    colour = np.clip(np.array(COLOURS[thing.colour]) + tint, 0, 255)
    return Shape(thing.shape, thing.x, thing.y, radius, (float(colour[0]), float(colour[1]), float(colour[2])))
