"""The one place where an environment, and the expert that acts in it, is made by its name.

Each simulator is imported when it is asked for, not before. How one is closed is here too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pi05.errors import tell
from pi05.sim.config import DemonstrationChoice, EnvironmentChoice
from pi05.sim.protocol import Environment, Expert

if TYPE_CHECKING:
    from pi05.sim.libero.environment import LiberoEnvironment

ExpertMaker = Callable[[], tuple[Environment, Expert]]


def environment_maker(choice: EnvironmentChoice) -> Callable[[], Environment]:
    """Return a function that makes the chosen environment; for LIBERO with the benchmark's initial states.

    It can be pickled: another process may make the environment.
    """
    return partial(_libero if choice.env == "libero" else _tabletop, choice)


def _tabletop(choice: EnvironmentChoice) -> Environment:
    from pi05.sim.tabletop import Tabletop

    return Tabletop(choice.family)


def _libero(choice: EnvironmentChoice) -> Environment:
    from pi05.sim.libero.environment import LiberoEnvironment
    from pi05.sim.libero.protocols import protocol_named

    assert choice.suite is not None  # EnvironmentChoice refuses LIBERO without a suite
    protocol = protocol_named(choice.protocol_name)
    return LiberoEnvironment(
        choice.suite,
        choice.tasks,
        protocol=protocol,
        seed=choice.seed,
        allow=frozenset(choice.allow),
        hold=choice.hold,
    )


def demonstration_maker(choice: DemonstrationChoice) -> Callable[[], Environment]:
    """Return a function that makes the environment that demonstrations are collected in. It can be pickled."""
    return partial(_libero_for_experts if choice.env == "libero" else _tabletop, choice)


def expert_maker(choice: DemonstrationChoice) -> ExpertMaker:
    """Return a function that makes that environment with its expert; it can be pickled.

    The function raises ConfigError for tasks of LIBERO that the expert cannot carry out.
    """
    return partial(_libero_with_expert if choice.env == "libero" else _tabletop_with_expert, choice)


def _tabletop_with_expert(choice: DemonstrationChoice) -> tuple[Environment, Expert]:
    from pi05.sim.experts import TabletopExpert
    from pi05.sim.tabletop import Tabletop

    environment = Tabletop(choice.family)
    return environment, TabletopExpert(environment)


def _libero_for_experts(choice: DemonstrationChoice) -> LiberoEnvironment:
    from pi05.sim.libero.environment import LiberoEnvironment
    from pi05.sim.libero.protocols import protocol_named

    assert choice.suite is not None  # EnvironmentChoice refuses LIBERO without a suite
    return LiberoEnvironment(
        choice.suite,
        choice.tasks,
        protocol=replace(protocol_named(choice.protocol_name), render_px=choice.image_size),
        start=choice.start,
        allow=frozenset(choice.allow),
        joint_noise=choice.joint_noise,
        hold=choice.hold,
        mixed_share=choice.share_of_mixed_goals,
    )


def _libero_with_expert(choice: DemonstrationChoice) -> tuple[Environment, Expert]:
    from pi05.sim.libero.experts import LiberoExpert, refuse_impossible

    environment = _libero_for_experts(choice)
    refuse_impossible(environment)
    return environment, LiberoExpert(environment)


def close_environment(environment: Environment) -> None:
    """Close a simulator; that it cannot be closed is told, not raised, since what it has done so far still counts."""
    try:
        environment.close()
    except Exception as error:
        tell(f"note: the simulator could not be closed: {type(error).__name__}: {error}", aside=True)
