"""Which packages LIBERO needs, and which MuJoCo it may run on. Reads what is installed; imports none of it.

LIBERO as a package is LeRobot's `hf-libero`. Another MuJoCo than the one that its rates were measured with still runs
and quietly costs points, which is why it is refused by name. Measured with hf-libero 0.1.4 on MuJoCo 3.2.3 to 3.8.1:
see docs/libero.md.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

from packaging.version import Version

from pi05.errors import ConfigError
from pi05.sim.libero.config import MUJOCO_VERSION

NEEDED = {"hf-libero": "0.1.4", "robosuite": "1.4.0", "bddl": "1.0.1"}
"""Package → its only version that is known to work: the next robosuite has another interface."""
MUJOCO_PIN = "3.2.3"
"""What openpi evaluates with."""
_FIRST_DARK, _FIRST_LOOSE = Version("3.3.3"), Version("3.4")
_BY_HAND = " ".join(f"{package}=={version}" for package, version in NEEDED.items())
INSTALL = f"make libero; or: pip install 'pi05[libero]', then pip install --no-deps {_BY_HAND}"


def installed_version(package: str) -> str | None:
    """Return the installed version of a package; None where it is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def require_packages(allow: frozenset[str], version_of: Callable[[str], str | None] = installed_version) -> str | None:
    """Return what a report has to say of the MuJoCo that is installed; None where it is one of the right ones.

    Raises ConfigError for packages that are missing or of another version, and for another MuJoCo unless
    `mujoco-version` is allowed.
    """
    found = {package: version_of(package) for package in (*NEEDED, "mujoco")}
    missing = [package for package, version in found.items() if version is None]
    if missing:
        raise ConfigError(
            "LIBERO is not installed",
            wanted=", ".join(f"{package}=={version}" for package, version in {**NEEDED, "mujoco": MUJOCO_PIN}.items()),
            found=f"no {', '.join(missing)}",
            remedy=INSTALL,
        )
    for package, version in NEEDED.items():
        if found[package] != version:
            raise ConfigError(
                f"LIBERO needs another {package}",
                wanted=f"{package}=={version}",
                found=f"{package}=={found[package]}",
                remedy=INSTALL,
            )
    mujoco = str(found["mujoco"])
    wrong = what_is_wrong(mujoco)
    if wrong is None:
        return None
    if MUJOCO_VERSION not in allow:
        raise ConfigError(
            f"MuJoCo {mujoco} {wrong}",
            wanted=f"mujoco=={MUJOCO_PIN}, or another one below {_FIRST_DARK}",
            found=f"mujoco=={mujoco}",
            remedy=f"pip install mujoco=={MUJOCO_PIN}; --allow={MUJOCO_VERSION} goes on with this one, and the report "
            "says so",
        )
    return f"MuJoCo {mujoco} {wrong}; rates are not those of MuJoCo {MUJOCO_PIN}"


def what_is_wrong(mujoco: str) -> str | None:
    """Return what a version of MuJoCo does to LIBERO; None for those on which it is as it was published."""
    version = Version(mujoco)
    if version < Version(MUJOCO_PIN):
        return "is older than any that LIBERO was compared on here"
    if version < _FIRST_DARK:
        return None
    dark = "darkens the pictures of libero_object (mean 103 of 255, where it was 139)"
    if version < _FIRST_LOOSE:
        return dark
    return f"{dark}, and lets the bowl of libero_spatial's task 5 slide from the ramekin before the policy acts"
