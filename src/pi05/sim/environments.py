"""The one place where an environment, and the expert that acts in it, is made by its name.

Each simulator is imported when it is asked for, not before. How one is closed is here too.
"""

from __future__ import annotations

from collections.abc import Callable

from pi05.errors import ConfigError, tell
from pi05.sim.protocol import Environment, Expert

ExpertMaker = Callable[[], tuple[Environment, Expert]]


def environment_maker(name: str, family: str) -> Callable[[], Environment]:
    """Return a function that makes the named environment. Raises ConfigError for a name that there is not."""
    if name == "tabletop":
        from pi05.sim.tabletop import Tabletop

        return lambda: Tabletop(family)
    raise ConfigError(
        "there is no such simulator", wanted="--env tabletop", found=f"--env {name}", remedy="use --env tabletop"
    )


def expert_maker(name: str, family: str) -> ExpertMaker:
    """Return a function that makes the named environment together with its expert. Raises ConfigError."""
    if name == "tabletop":
        from pi05.sim.experts import TabletopExpert
        from pi05.sim.tabletop import Tabletop

        def tabletop() -> tuple[Environment, Expert]:
            environment = Tabletop(family)
            return environment, TabletopExpert(environment)

        return tabletop
    raise ConfigError(
        "there are scripted demonstrations only for one simulator",
        wanted="--env tabletop",
        found=f"--env {name}",
        remedy="use --env tabletop; demonstrations on a real robot are recorded with LeRobot",
    )


def close_environment(environment: Environment) -> None:
    """Close a simulator; that it cannot be closed is told, not raised, since what it has done so far still counts."""
    try:
        environment.close()
    except Exception as error:
        tell(f"note: the simulator could not be closed: {type(error).__name__}: {error}", aside=True)
