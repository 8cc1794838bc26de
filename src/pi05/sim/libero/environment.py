"""LIBERO's tasks as an environment: pictures and state as in the training data, actions in [-1, 1], 20 Hz.

    observation.images.image    agent view, turned by 180 degrees
    observation.images.image2   camera in the hand, turned by 180 degrees
    observation.state           gripper's position (m), its rotation as axis times angle (rad), two fingers (m)
    action                      movement of the gripper (1 is 5 cm), its rotation (1 is 0.5 rad), fingers: -1 opens,
                                1 closes

A picture that is turned by 180 degrees from OpenGL's order of rows is the true one mirrored: writing on a box cannot be
read. All policies for LIBERO have been trained on such pictures, so that they are given them here; `render`, which is
for people, mirrors nothing.

Source: openpi's examples/libero/main.py; LeRobot's LiberoEnv and LiberoProcessorStep do the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8
from PIL import Image

from pi05.sim.libero.config import Start, Suite
from pi05.sim.libero.goals import LiberoGoal, goals_in
from pi05.sim.libero.protocols import INITIAL_STATES, OPENPI, LiberoProtocol
from pi05.sim.libero.setup import start_libero
from pi05.sim.libero.simulator import CAMERAS, CONTROL_HZ, Draws, LiberoSimulator
from pi05.sim.libero.tasks import LiberoTask, choose_tasks, initial_states
from pi05.sim.protocol import Observation

IMAGES = ("observation.images.image", "observation.images.image2")
STATE_NAMES = ("x", "y", "z", "axis_angle1", "axis_angle2", "axis_angle3", "gripper_1", "gripper_2")
ACTION_NAMES = ("x", "y", "z", "axis_angle1", "axis_angle2", "axis_angle3", "gripper")
WAITING = np.array([0, 0, 0, 0, 0, 0, -1], np.float64)
JOINT_NOISE = 0.02
"""rad; by about as much the benchmark's initial states differ in each joint of the arm."""
_ARM = slice(1, 8)
"""The arm's seven joints in a state, behind the time."""
MOVED = 0.05
"""m."""


class LiberoEnvironment:
    """Some tasks of one suite. One task's simulator is there at a time: 1.4 GB; another task takes 5 to 8 s.

    With start="benchmark" an episode's seed is its number within the task: it begins in the initial state of that
    number (modulo 50), with fixtures where the protocol's seed puts them. With start="random" the seed places objects
    and fixtures and moves the arm's joints a little; the benchmark's initial states are not used.

    The same task, seed and actions give the same episode, in whatever order episodes are asked for, on one machine and
    with one version of MuJoCo.
    """

    robot_type = "panda"
    state_names = STATE_NAMES
    action_names = ACTION_NAMES
    motions = (True,) * 6 + (False,)

    def __init__(
        self,
        suite: Suite,
        tasks: Sequence[str] = (),
        *,
        protocol: LiberoProtocol = OPENPI,
        start: Start = "benchmark",
        seed: int | None = None,
        allow: frozenset[str] = frozenset(),
        joint_noise: float = JOINT_NOISE,
        hold: int = 1,
        mixed_share: float = 0.0,
    ) -> None:
        """`hold`: control steps for which an action is held. `mixed_share`: with start="random" this share of the
        episodes, as the seed says, asks for what another of the tasks asks for, where that makes sense in the scene.
        """
        self._libero = start_libero(allow)
        self.suite: Suite = suite
        self.protocol = protocol
        self.start = start
        self.joint_noise, self.hold, self.mixed_share = joint_noise, hold, mixed_share
        self.fps = CONTROL_HZ / hold
        self.seed = protocol.seed if seed is None else seed
        self.max_steps = protocol.max_steps[suite] // hold
        self._tasks = {task.name: task for task in choose_tasks(suite, tasks)}
        self._simulator: LiberoSimulator | None = None
        self._draws: list[Draws] = []
        self._goals: tuple[LiberoGoal, ...] = ()
        self._places: dict[str, np.ndarray] = {}
        self._steps = 0
        self._pictures: dict[str, np.ndarray] = {}

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the benchmark's order or as they were given."""
        return tuple(self._tasks)

    @property
    def cameras(self) -> dict[str, tuple[int, int]]:
        """Sizes of the agent's view and of the hand's."""
        return dict.fromkeys(IMAGES, (self.protocol.render_px, self.protocol.render_px))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report has to say of this machine's LIBERO."""
        return () if self._libero.note is None else (self._libero.note,)

    @property
    def simulator(self) -> Any:
        """The present task's `OffScreenRenderEnv`, for experts. Raises RuntimeError before `reset`."""
        return self._running.robosuite

    @property
    def task(self) -> LiberoTask:
        """The present episode's task."""
        return self._running.task

    @property
    def _running(self) -> LiberoSimulator:
        if self._simulator is None:
            raise RuntimeError("no episode has begun: call reset")
        return self._simulator

    @property
    def goals(self) -> tuple[LiberoGoal, ...]:
        """The episode's goal, and those of other tasks that fit its scene and are not reached at its start.

        Where some of the suite's tasks were chosen, those alone; where one was, all.
        """
        return self._goals

    @property
    def moved(self) -> tuple[str, ...]:
        """Names of the things that lie elsewhere than when the episode began, by more than `MOVED`."""
        now = self._running.places_of_things()
        return tuple(name for name, place in self._places.items() if np.linalg.norm(now[name] - place) > MOVED)

    def reset(self, seed: int, task: str | None = None) -> None:
        """Begin an episode; without a task, the seed goes through the tasks in turn."""
        if task is None:
            names = self.tasks
            task, seed = names[seed % len(names)], seed // len(names)
        self._take_up(self._tasks[task])
        if self.start == "benchmark":
            self._begin_benchmark(seed)
        else:
            self._begin_random(seed)
        for _ in range(self.protocol.wait_steps):
            self._running.step(WAITING)
        self._steps, self._pictures = 0, {}
        self._goals = self._choose_goals(seed)
        self._places = self._running.places_of_things()

    def observe(self) -> Observation:
        """Render both cameras, and return them with state and instruction."""
        pictures = {
            name: np.ascontiguousarray(self._picture(camera)[:, ::-1])
            for name, camera in zip(IMAGES, CAMERAS, strict=True)
        }
        return {**pictures, "observation.state": self._state(), "task": self._goals[0].instruction}

    def step(self, action: Float[np.ndarray, " n"]) -> tuple[bool, bool]:
        """Carry out one action, clipped to [-1, 1]; return whether the episode is over, and whether it succeeded."""
        command = np.asarray(action, dtype=np.float64)
        if command.shape != (7,) or not np.isfinite(command).all():
            raise ValueError(f"an action is 7 finite numbers, found {command!r}")
        self._pictures = {}
        own, success = self._goals[0], False
        for _ in range(self.hold):
            reached = self._running.step(np.clip(command, -1.0, 1.0))
            success = reached if own.instruction == self.task.instruction else self._running.holds(own.relations)
            if success:
                break
        self._steps += 1
        return success or self._steps >= self.max_steps, success

    def check(self, instruction: str) -> bool:
        """Tell whether the scene fulfils the instruction of one of `goals`, now."""
        for goal in self._goals:
            if goal.instruction == instruction:
                return self._running.holds(goal.relations)
        possible = [goal.instruction for goal in self._goals]
        raise ValueError(f"{instruction!r} cannot be asked for in this scene; possible are {possible}")

    def render(self, size: int) -> UInt8[np.ndarray, "size size 3"]:
        """Return the agent's view for people: upright, and not mirrored."""
        picture = Image.fromarray(self._picture(CAMERAS[0]))
        return np.asarray(picture.resize((size, size), Image.Resampling.BOX))

    def simulator_state(self) -> Float64[np.ndarray, " numbers"]:
        """Return time, positions and velocities of all joints, for `restore`."""
        return self._running.state()

    def restore(self, state: Float64[np.ndarray, " numbers"]) -> None:
        """Put the present episode's scene into a state; fixtures stay where the episode's seed put them."""
        self._running.set_state(np.asarray(state, dtype=np.float64))
        self._pictures = {}

    def close(self) -> None:
        """Give memory and graphics back."""
        if self._simulator is not None:
            self._simulator.close()
        self._simulator, self._draws, self._pictures = None, [], {}

    def _take_up(self, task: LiberoTask) -> None:
        if self._simulator is not None and self._simulator.task == task:
            return
        self.close()
        self._simulator = LiberoSimulator(self._libero, task)
        if not self.protocol.reseeded:
            self._draws = [self._simulator.first_draws(self.seed, self.protocol.loads_before)]

    def _choose_goals(self, seed: int) -> tuple[LiberoGoal, ...]:
        """Return what may be asked for, the episode's own goal first."""
        own, *others = goals_in(self.task)
        wanted = {task.instruction for task in self._tasks.values()}
        some = [goal for goal in others if len(wanted) == 1 or goal.instruction in wanted]
        goals = [own, *(goal for goal in some if not self._running.holds(goal.relations))]
        if self.start == "random" and len(goals) > 1:
            generator = np.random.default_rng((seed, self.seed, 1))
            if generator.random() < self.mixed_share:
                goals.insert(0, goals.pop(1 + int(generator.integers(len(goals) - 1))))
        return tuple(goals)

    def _begin_benchmark(self, episode: int) -> None:
        simulator = self._running
        if self.protocol.reseeded:
            loads = self.protocol.loads_before + episode
            simulator.reset(simulator.first_draws(self.seed + episode, loads))
        else:
            while len(self._draws) <= episode:
                self._draws.append(simulator.pass_over(self._draws[-1]))
            after = simulator.reset(self._draws[episode])
            self._draws[episode + 1 :] = [after]
        simulator.set_state(initial_states(self.task)[episode % INITIAL_STATES])

    def _begin_random(self, seed: int) -> None:
        simulator = self._running
        generator = np.random.default_rng((seed, self.seed))
        simulator.reset(simulator.first_draws(int(generator.integers(2**32)), 0))
        state = simulator.state()
        state[_ARM] += generator.normal(0.0, self.joint_noise, 7)
        simulator.set_state(state)

    def _picture(self, camera: str) -> UInt8[np.ndarray, "size size 3"]:
        if camera not in self._pictures:
            self._pictures[camera] = self._running.draw(camera, self.protocol.render_px)
        return self._pictures[camera]

    def _state(self) -> Float32[np.ndarray, " 8"]:
        seen = self._running.observed
        parts = (seen["robot0_eef_pos"], axis_angle(seen["robot0_eef_quat"]), seen["robot0_gripper_qpos"])
        return np.concatenate(parts).astype(np.float32)


def axis_angle(quaternion: Float[np.ndarray, " 4"]) -> Float64[np.ndarray, " 3"]:
    """Return a rotation, given as x, y, z, w, as its axis times its angle in 0 … 2 pi.

    The sign of the quaternion is taken as it comes, as the training data has it, so that angles may exceed pi.
    """
    x, y, z, w = (float(number) for number in quaternion)
    w = min(max(w, -1.0), 1.0)
    length = np.sqrt(1.0 - w * w)
    if np.isclose(length, 0.0):
        return np.zeros(3)
    return np.array([x, y, z]) * (2.0 * np.arccos(w) / length)
