"""The one place where an environment, and the expert that acts in it, is made by its name.

Each simulator is imported when it is asked for, not before. How one is closed is here too.
"""

from __future__ import annotations

from collections.abc import Callable

from pi05.errors import ConfigError, tell
from pi05.sim.config import EnvironmentChoice
from pi05.sim.protocol import Environment, Expert

ExpertMaker = Callable[[], tuple[Environment, Expert]]


def environment_maker(choice: EnvironmentChoice) -> Callable[[], Environment]:
    """Return a function that makes the chosen environment; for LIBERO with the benchmark's initial states."""
    if choice.env == "libero":
        return lambda: _libero(choice)
    from pi05.sim.tabletop import Tabletop

    return lambda: Tabletop(choice.family)


def _libero(choice: EnvironmentChoice) -> Environment:
    from pi05.sim.libero.environment import LiberoEnvironment
    from pi05.sim.libero.protocols import protocol_named

    assert choice.suite is not None  # EnvironmentChoice refuses LIBERO without a suite
    protocol = protocol_named(choice.protocol_name)
    return LiberoEnvironment(
        choice.suite, choice.tasks, protocol=protocol, seed=choice.seed, allow=frozenset(choice.allow)
    )


def expert_maker(choice: EnvironmentChoice) -> ExpertMaker:
    """Return a function that makes the chosen environment together with its expert. Raises ConfigError."""
    if choice.env == "tabletop":
        from pi05.sim.experts import TabletopExpert
        from pi05.sim.tabletop import Tabletop

        def tabletop() -> tuple[Environment, Expert]:
            environment = Tabletop(choice.family)
            return environment, TabletopExpert(environment)

        return tabletop
    raise ConfigError(
        "there are scripted demonstrations only for one simulator",
        wanted="--env tabletop",
        found=f"--env {choice.env}",
        remedy="use --env tabletop; demonstrations on a real robot are recorded with LeRobot",
    )


def close_environment(environment: Environment) -> None:
    """Close a simulator; that it cannot be closed is told, not raised, since what it has done so far still counts."""
    try:
        environment.close()
    except Exception as error:
        tell(f"note: the simulator could not be closed: {type(error).__name__}: {error}", aside=True)
