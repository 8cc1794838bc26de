"""One LIBERO task in robosuite: how an episode begins, what its seed fixes, and what the cameras saw.

robosuite renders both cameras in every control step, 250 to 500 ms without a GPU, at an instant a substep or two before
the step's end. Here a sensor of ours takes down at that instant what stands where (two MuJoCo scenes, microseconds),
and the pictures are drawn from that when somebody looks: the same pixels, only those that are wanted.

Two properties of LIBERO's reset decide what an episode's seed fixes:
- Poses of fixtures (cabinets, stoves) are drawn at every reset and are not part of the benchmark's initial states.
- Each reset builds the scene anew and lengthens, by one more entry for every drawer and knob, a list of joints to draw
  for; nothing shortens it. So the same seed gives another layout at the next reset of such a task, unless that list is
  put back first. Here it is, to the length that it has at this episode in the program that is followed.
Here the scene is built once, and put back to what it was (`pristine.py`), which takes milliseconds.

Leaves out steps, goals and observations of an episode (`environment.py`).
"""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakSet

import numpy as np
from jaxtyping import Float, Float64, UInt8

from pi05.errors import EvaluationError
from pi05.sim.libero.culling import hide_unseen
from pi05.sim.libero.pristine import Pristine
from pi05.sim.libero.setup import Libero
from pi05.sim.libero.tasks import LiberoTask

CAMERAS = ("agentview", "robot0_eye_in_hand")
CONTROL_HZ = 20
HORIZON = 1000
"""Steps after which robosuite ends an episode; above all that is asked for."""
MOST_ATTEMPTS = 100
"""Layouts that may fail, one after another: LIBERO itself tries for ever, whatever went wrong."""
LOOK = "pi05_look"
_MOST_GEOMS = 1000
"""robosuite's own size of a scene."""


@dataclass(frozen=True)
class Draws:
    """Where the random numbers of an episode begin: NumPy's state, and how often the scene was built before."""

    state: Any
    loads: int


class LiberoSimulator:
    """One task's simulator. Drawing layouts leaves NumPy's global random numbers as they were."""

    def __init__(self, libero: Libero, task: LiberoTask) -> None:
        self.task = task
        self._scenes: list[Any] = []
        self._model: Any = None
        with _own_numbers(None):
            self.robosuite = libero.make(
                bddl_file_name=str(task.problem_file), use_camera_obs=False, horizon=HORIZON, control_freq=CONTROL_HZ
            )
        self._joints_to_draw = list(self._domain.object_property_initializers)
        self._pristine: Pristine | None = None
        from robosuite.utils.observables import Observable, sensor

        look = sensor(modality=LOOK)(lambda _: self._look())
        self._domain.add_observable(Observable(LOOK, look, sampling_rate=CONTROL_HZ))
        self.observed: dict[str, Any] = {}
        _close_at_exit()
        _living.add(self)

    @property
    def _domain(self) -> Any:
        return self.robosuite.env

    def first_draws(self, seed: int, loads: int) -> Draws:
        """Return where the random numbers of a seed begin, after the scene was built `loads` times."""
        with _own_numbers(None):
            np.random.seed(seed)
            return Draws(np.random.get_state(), loads)

    def reset(self, draws: Draws) -> Draws:
        """Begin an episode with these random numbers; return where they end."""
        after = self.pass_over(draws)
        domain = self._domain
        domain.sim.forward()
        domain._obs_cache = {}
        domain.visualize(vis_settings=dict.fromkeys(domain._visualizations, False))
        self.observed = domain._get_observations(force_update=True)
        return after

    def pass_over(self, draws: Draws) -> Draws:
        """Make the scene as new, and draw where things stand; return where the random numbers end.

        A layout in which things overlap is drawn again.
        """
        if self._pristine is None:
            self._build(draws)
        assert self._pristine is not None
        loads = draws.loads
        with _own_numbers(draws.state):
            for _ in range(MOST_ATTEMPTS):
                loads += 1
                self._pristine.restore(self._domain)
                self._domain.object_property_initializers = self._joints_to_draw * loads
                with _failed_layouts() as failed:
                    self._domain._reset_internal()
                if not failed:
                    return Draws(np.random.get_state(), loads)
        raise self._no_layout()

    def _build(self, draws: Draws) -> None:
        """Let LIBERO build the scene, 2 to 4 s, and keep how it is before anything is drawn for it."""
        domain = self._domain
        draw = domain._reset_internal  # which LIBERO calls between building the scene and looking at it

        def keep_and_draw() -> None:
            self._pristine = Pristine.of(domain)
            draw()

        domain._reset_internal = keep_and_draw
        try:
            with _own_numbers(draws.state):
                for _ in range(MOST_ATTEMPTS):
                    with _failed_layouts() as failed:
                        domain.reset()
                    if not failed:
                        return
        finally:
            del domain._reset_internal
        raise self._no_layout()

    def set_state(self, state: Float64[np.ndarray, " numbers"]) -> None:
        """Put all joints where `state` says (time, positions, velocities), and look."""
        self.observed = self.robosuite.set_init_state(state)

    def state(self) -> Float64[np.ndarray, " numbers"]:
        """Return time, positions and velocities of all joints."""
        return np.asarray(self.robosuite.get_sim_state(), dtype=np.float64)

    def step(self, action: Float[np.ndarray, " 7"]) -> bool:
        """Carry out one action; return whether the task's goal is reached."""
        self.observed, _, done, _ = self.robosuite.step(action)
        return bool(done)

    def holds(self, goal: tuple[tuple[str, ...], ...]) -> bool:
        """Tell whether all of these relations hold now."""
        return all(bool(self._domain._eval_predicate(list(relation))) for relation in goal)

    def places_of_things(self) -> dict[str, Float64[np.ndarray, " 3"]]:
        """Return where every thing that can be moved is (m), by its name in the task's file."""
        domain = self._domain
        return {name: np.array(domain.sim.data.body_xpos[domain.obj_body_id[name]]) for name in domain.objects_dict}

    def draw(self, camera: str, size: int) -> UInt8[np.ndarray, "size size 3"]:
        """Return what a camera saw at the last look, upright and not mirrored."""
        import mujoco

        context = self._domain.sim._render_context_offscreen
        context.gl_ctx.make_current()
        if size > min(context.con.offWidth, context.con.offHeight):
            context.update_offscreen_size(max(size, context.con.offWidth), max(size, context.con.offHeight))
        view, pixels = mujoco.MjrRect(0, 0, size, size), np.empty((size, size, 3), np.uint8)
        scene = self._scenes[CAMERAS.index(camera)]
        hide_unseen(scene, self._model.geom_rbound)
        mujoco.mjr_render(viewport=view, scn=scene, con=context.con)
        mujoco.mjr_readPixels(rgb=pixels, depth=None, viewport=view, con=context.con)
        return pixels[::-1]  # OpenGL's first row is the lowest

    def close(self) -> None:
        """Give memory and graphics back."""
        _living.discard(self)
        self._scenes, self._model, self.observed = [], None, {}
        self.robosuite.close()

    def _look(self) -> float:
        """Take down what stands where, for each camera; robosuite calls this when it would render."""
        import mujoco

        sim = self._domain.sim
        model, context = sim.model._model, sim._render_context_offscreen
        if model is not self._model:
            self._model = model
            self._scenes = [mujoco.MjvScene(model, maxgeom=_MOST_GEOMS) for _ in CAMERAS]
        for name, scene in zip(CAMERAS, self._scenes, strict=True):
            camera = mujoco.MjvCamera()
            camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, sim.model.camera_name2id(name)
            everything = mujoco.mjtCatBit.mjCAT_ALL
            mujoco.mjv_updateScene(model, sim.data._data, context.vopt, context.pert, camera, everything, scene)
        return 0.0

    def _no_layout(self) -> EvaluationError:
        return EvaluationError(
            "LIBERO found no layout for a task",
            wanted="objects that do not overlap",
            found=f"none in {MOST_ATTEMPTS} attempts: {self.task.name}",
            remedy="another seed",
        )


_living: WeakSet[LiberoSimulator] = WeakSet()


@cache
def _close_at_exit() -> None:
    """Have what still runs closed when the process ends; called when EGL has asked for the same, so as to come first.

    Graphics contexts that EGL finds at its end complain on standard error.
    """
    atexit.register(close_all)


def close_all() -> None:
    """Close every simulator of this process that is not closed yet."""
    for simulator in list(_living):
        simulator.close()


@contextlib.contextmanager
def _own_numbers(state: Any) -> Iterator[None]:
    """Let LIBERO draw from NumPy's global numbers, which it knows alone, and put them back as they were."""
    before = np.random.get_state()
    try:
        if state is not None:
            np.random.set_state(state)
        yield
    finally:
        np.random.set_state(before)


@contextlib.contextmanager
def _failed_layouts() -> Iterator[list[str]]:
    """Yield a list that has an entry afterwards where the objects of a layout overlapped."""
    from robosuite.utils.errors import RandomizationError

    failed: list[str] = []
    try:
        yield failed
    except RandomizationError as error:
        failed.append(str(error))
