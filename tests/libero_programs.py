"""Episodes in LIBERO, each in a process of its own: robosuite is slow to start and warns of much.

`measure("NAME")` runs the function of that name below and returns what it returns, through JSON. Each is asked for in
one test, since tests are spread over processes. The package's shape checks are on there as they are here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).resolve().parent
SOUP = "pick_up_the_alphabet_soup_and_place_it_in_the_basket"
DRESSING = "pick_up_the_salad_dressing_and_place_it_in_the_basket"
DRAWER = "KITCHEN_SCENE4_put_the_black_bowl_in_the_bottom_drawer_of_the_cabinet_and_close_it"
STILL = np.array([0, 0, 0, 0, 0, 0, -1.0])


def measure(name: str) -> dict[str, Any]:
    """Run one of the functions below in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, __file__, name], capture_output=True, text=True, env=environment, check=False, timeout=600
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    lines = answer.stdout.splitlines()
    assert len(lines) == 1, f"LIBERO wrote to the terminal: {lines[:-1]}"
    assert answer.stderr == "", answer.stderr
    return dict(json.loads(lines[0]))


def actions(count: int, seed: int = 0) -> np.ndarray:
    """Return random actions with an open gripper."""
    drawn = np.random.default_rng(seed).uniform(-1, 1, (count, 7))
    drawn[:, 6] = -1
    return drawn


def plain_episodes(suite: Any, name: str, last: int, seed: int = 7) -> Any:
    """Yield a plain LIBERO environment after the reset of each episode, as openpi's main.py makes and resets it."""
    from pi05.sim.libero.setup import start_libero
    from pi05.sim.libero.tasks import LiberoTask, initial_states

    task = LiberoTask(suite, name)
    plain = start_libero().make(bddl_file_name=str(task.problem_file), camera_heights=256, camera_widths=256)
    plain.seed(seed)
    try:
        for episode in range(last + 1):
            plain.reset()
            plain.set_init_state(initial_states(task)[episode])
            yield plain
    finally:
        plain.close()


def as_seen(observation: dict[str, Any]) -> list[np.ndarray]:
    """Return a plain environment's pictures, turned as policies see them, and its state."""
    from pi05.sim.libero.environment import axis_angle

    parts = [
        observation["robot0_eef_pos"],
        axis_angle(observation["robot0_eef_quat"]),
        observation["robot0_gripper_qpos"],
    ]
    turned = [observation[f"{camera}_image"][::-1, ::-1] for camera in ("agentview", "robot0_eye_in_hand")]
    return [*turned, np.concatenate(parts).astype(np.float32)]


def ours(observation: dict[str, Any]) -> list[np.ndarray]:
    """Return pictures and state of our observation in the same order."""
    return [
        observation[name] for name in ("observation.images.image", "observation.images.image2", "observation.state")
    ]


def same(first: list[np.ndarray], second: list[np.ndarray]) -> list[bool]:
    """Tell which entries of two lists are equal to the bit."""
    return [bool(np.array_equal(one, other)) for one, other in zip(first, second, strict=True)]


def full_rendering() -> dict[str, Any]:
    """One episode of libero_object beside LIBERO's own environment, which renders in every step."""
    from pi05.sim.libero.environment import LiberoEnvironment

    episodes = plain_episodes("libero_object", SOUP, 0)
    plain = next(episodes)
    for _ in range(10):
        before, *_ = plain.step(STILL)
    seen = [as_seen(before)]
    for action in actions(4):
        later, *_ = plain.step(action)
    seen.append(as_seen(later))
    plain_state, upright = plain.get_sim_state(), later["agentview_image"][::-1]
    episodes.close()
    environment = LiberoEnvironment("libero_object", [SOUP])
    environment.reset(0, SOUP)
    result: dict[str, Any] = {"first": same(ours(environment.observe()), seen[0])}
    for action in actions(4):
        environment.step(action)
    state = environment.simulator_state()
    result |= {
        "later": same(ours(environment.observe()), seen[1]),
        "state": bool(np.array_equal(state, plain_state)),
        "upright": bool(np.array_equal(environment.render(256), upright)),
        "render": [list(environment.render(size).shape) for size in (64, 128)],
    }
    environment.close()
    return result


def episode() -> dict[str, Any]:
    """What else holds of an episode: clipping, restoring, goals, the same again, random starts."""
    from pi05.sim.libero.environment import LiberoEnvironment

    environment = LiberoEnvironment("libero_object", [SOUP])
    environment.reset(0, SOUP)
    for action in actions(4):
        environment.step(action)
    state, before = environment.simulator_state(), environment.observe()
    environment.step(np.full(7, 5.0))
    clipped = environment.simulator_state()
    environment.restore(state)
    restored = environment.simulator_state()
    environment.reset(0, SOUP)
    for action in actions(4):
        environment.step(action)
    again = environment.simulator_state()
    environment.step(np.ones(7))
    ones = environment.simulator_state()
    refused = []
    for action in (np.zeros(6), np.full(7, np.nan)):
        try:
            environment.step(action)
        except ValueError as error:
            refused.append(str(error))
    numbers = np.random.get_state()[1][:5].tolist()
    result = {
        "restored": bool(np.array_equal(restored, state)),
        "again": bool(np.array_equal(again, state)),
        "clipped": bool(np.array_equal(clipped, ones)),
        "refused": refused,
        "goals": [goal.instruction for goal in environment.goals],
        "checks": [environment.check(goal.instruction) for goal in environment.goals],
        "implied": [environment.goals[0].implies(goal) for goal in environment.goals],
        "task": before["task"],
        "cameras": environment.cameras,
        "dtypes": [str(array.dtype) for array in ours(before)],
        "notes": environment.notes,
    }
    starts = []
    environment.start = "random"
    for seed in (3, 4, 3):
        environment.reset(seed, SOUP)
        starts.append(environment.simulator_state())
    result |= {
        "random_same": bool(np.array_equal(starts[0], starts[2])),
        "random_joints": np.abs(starts[0][1:8] - starts[1][1:8]).tolist(),
        "random_objects": float(np.abs(starts[0][10:] - starts[1][10:]).max()),
        "numbers_kept": np.random.get_state()[1][:5].tolist() == numbers,
    }
    environment.close()
    return result


def layouts() -> dict[str, Any]:
    """Fixtures and drawers of libero_10's task 3: openpi's, in any order; a seed's, whatever came before."""
    from pi05.sim.libero.environment import LiberoEnvironment
    from pi05.sim.libero.protocols import LEROBOT

    wanted, later = [], []
    for plain in plain_episodes("libero_10", DRAWER, 1):
        wanted.append(layout(plain))
        for action in [*[STILL] * 10, *actions(4)]:
            observation, *_ = plain.step(action)
        later.append([*as_seen(observation), plain.get_sim_state()])
    environment = LiberoEnvironment("libero_10", [DRAWER])
    found, after = {}, {}
    for number in (1, 0):  # the second of these stands on a scene that was not built again
        environment.reset(number, DRAWER)
        found[number] = layout(environment.simulator)
        for action in actions(4):
            environment.step(action)
        after[number] = same([*ours(environment.observe()), environment.simulator_state()], later[number])
    environment.close()
    lerobot = LiberoEnvironment("libero_10", [DRAWER], protocol=LEROBOT)
    reset = []
    for episode in (1, 0, 1):
        lerobot.reset(episode, DRAWER)
        reset.append([layout(lerobot.simulator), lerobot.simulator_state()])
    return {
        "openpi": {number: bool(np.array_equal(found[number], wanted[number])) for number in found},
        "after": after,
        "different": float(np.abs(wanted[1] - wanted[0]).max()),
        "lerobot_same": same(reset[0], reset[2]),
        "lerobot_different": float(np.abs(reset[0][0] - reset[1][0]).max()),
        "lerobot_cameras": lerobot.cameras,
        "lerobot_frame": list(lerobot.observe()["observation.images.image2"].shape),
        "steps": lerobot.max_steps,
    }


def layout(plain: Any) -> np.ndarray:
    """Return where everything that has no joint stands."""
    return np.asarray(plain.sim.model.body_pos).copy()


def first_frames() -> dict[str, Any]:
    """The first observation of the tasks that the recorded episodes 1 and 50 of the training data show."""
    from pi05.sim.libero.environment import LiberoEnvironment
    from pi05.sim.libero.tasks import tasks_of

    found: dict[str, Any] = {}
    for episode, words in (
        (1, "put the white mug on the plate and put the chocolate"),
        (50, "turn on the stove and put"),
    ):
        task = next(task for task in tasks_of("libero_10") if task.instruction.startswith(words))
        environment = LiberoEnvironment("libero_10", [task.name])
        environment.reset(0, task.name)
        main, wrist, state = ours(environment.observe())
        found[str(episode)] = {
            "main": _small(main),
            "wrist": _small(wrist),
            "state": state.tolist(),
            "task": task.instruction,
        }
        environment.close()
    return found


def _small(picture: np.ndarray) -> list[Any]:
    return list(picture.reshape(64, 4, 64, 4, 3).mean((1, 3)).tolist())


def held_actions() -> dict[str, Any]:
    """Compare an action that is held with the same action twice; let the expert do what another scene's task asks."""
    from pi05.sim.episodes import attempt
    from pi05.sim.libero.environment import LiberoEnvironment
    from pi05.sim.libero.experts import LiberoExpert

    plain = LiberoEnvironment("libero_object", [SOUP])
    held = LiberoEnvironment("libero_object", [SOUP], hold=2)
    for environment in (plain, held):
        environment.reset(3, SOUP)
    for action in actions(5):
        plain.step(action)
        plain.step(action)
        held.step(action)
    found: dict[str, Any] = {
        "same": np.array_equal(plain.simulator_state(), held.simulator_state()),
        "lengths": [plain.max_steps, held.max_steps],
        "rates": [plain.fps, held.fps],
        "moved": list(held.moved),
    }
    plain.close()
    held.close()
    mixed = LiberoEnvironment("libero_object", [SOUP, DRESSING], start="random", hold=2, mixed_share=0.5)
    asked = {}
    for seed in range(6):
        mixed.reset(seed, SOUP)
        asked[seed] = mixed.goals[0].instruction
    other = next(seed for seed, instruction in asked.items() if "dressing" in instruction)
    expert = LiberoExpert(mixed)
    shown = attempt(mixed, expert, other, SOUP, look=False)
    found |= {
        "asked": sorted(set(asked.values())),
        "goals": [goal.instruction for goal in mixed.goals],
        "success": shown.success,
        "taken": list(mixed.moved),
        "own": mixed.check(next(text for text in asked.values() if "soup" in text)),
    }
    mixed.close()
    return found


RING = """
<mujoco><asset><mesh name="piece" vertex="0 0 0 0.2 0 0 0 0.2 0 0 0 0.2"/>
<material name="mirror" reflectance="{reflectance}"/></asset>
<worldbody><light pos="0 0 3" castshadow="{shadow}"/><geom type="plane" size="5 5 1" pos="0 0 -1" material="mirror"/>
{pieces}<camera name="eye" pos="0 0 0" xyaxes="1 0 0 0 0 1" fovy="60"/></worldbody></mujoco>
"""
"""A ring of 16 meshes around a camera, which sees three of them."""


def left_out() -> dict[str, Any]:
    """Pictures of a ring of meshes around a camera, with and without those beside its view."""
    from pi05.sim.libero.rendering import choose_rendering

    choose_rendering()
    import mujoco

    from pi05.sim.libero.culling import hide_unseen

    angles = np.arange(16) * 2 * np.pi / 16
    pieces = "".join(
        f'<geom type="mesh" mesh="piece" pos="{2 * np.sin(a):.4f} {2 * np.cos(a):.4f} 0" rgba="1 {a / 7:.3f} 0 1"/>'
        for a in angles
    )
    found: dict[str, Any] = {}
    for name, shadow, reflectance in (("plain", "false", 0.0), ("shadow", "true", 0.0), ("mirror", "false", 0.5)):
        model = mujoco.MjModel.from_xml_string(RING.format(pieces=pieces, shadow=shadow, reflectance=reflectance))
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        with mujoco.Renderer(model, 128, 128) as renderer:
            renderer.update_scene(data, camera="eye")
            everything = renderer.render()
            hidden = hide_unseen(renderer.scene, model.geom_rbound)
            picture = renderer.render()
        found[name] = {
            "hidden": hidden,
            "same": bool(np.array_equal(everything, picture)),
            "colours": len(np.unique(everything.reshape(-1, 3), axis=0)) > 5,
        }
    return found


def left_out_of_libero() -> dict[str, Any]:
    """Pictures of an episode with and without what a camera cannot see, and the most that was left out."""
    import pi05.sim.libero.simulator as simulator
    from pi05.sim.libero.environment import LiberoEnvironment

    hide, counts = simulator.hide_unseen, dict.fromkeys(simulator.CAMERAS, 0)
    environment = LiberoEnvironment("libero_object", [SOUP])
    environment.reset(0, SOUP)
    equal = []
    for action in actions(4):
        environment.step(action)
        for camera in simulator.CAMERAS:
            simulator.hide_unseen = lambda *_: 0
            everything = environment._running.draw(camera, 256)
            simulator.hide_unseen = hide
            picture = environment._running.draw(camera, 256)
            scene = environment._running._scenes[simulator.CAMERAS.index(camera)]
            counts[camera] = max(counts[camera], sum(geom.type > 1000 for geom in scene.geoms[: scene.ngeom]))
            equal.append(bool(np.array_equal(everything, picture)))
    environment.close()
    return {"same": equal, **counts}


PROGRAMS = {
    "left_out": left_out,
    "left_out_of_libero": left_out_of_libero,
    "held_actions": held_actions,
    "full_rendering": full_rendering,
    "episode": episode,
    "layouts": layouts,
    "first_frames": first_frames,
}

if __name__ == "__main__":
    sys.path.insert(0, str(TESTS))
    import jaxtyping

    jaxtyping.install_import_hook("pi05", "checker.typecheck")
    print(json.dumps(PROGRAMS[sys.argv[1]]()))
