"""Packages that are missing or wrong, and what each MuJoCo does to LIBERO."""

from __future__ import annotations

import pytest

from pi05.errors import ConfigError
from pi05.sim.libero.versions import require_packages

RIGHT = {"hf-libero": "0.1.4", "robosuite": "1.4.0", "bddl": "1.0.1", "mujoco": "3.2.3"}


def test_the_verified_set_is_silent() -> None:
    for mujoco in ("3.2.3", "3.2.7", "3.3.0", "3.3.2"):
        assert require_packages(frozenset(), {**RIGHT, "mujoco": mujoco}.get) is None


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError) as refusal:
        require_packages(frozenset(), {"hf-libero": "0.1.4"}.get)
    assert str(refusal.value).splitlines()[2] == "  found:  no robosuite, bddl, mujoco"
    assert "make libero" in refusal.value.remedy
    assert "lerobot-libero" not in str(refusal.value)


def test_another_robosuite_is_another_interface() -> None:
    with pytest.raises(ConfigError, match=r"(?s)wanted: robosuite==1\.4\.0\n  found:  robosuite==1\.5\.1"):
        require_packages(frozenset(["mujoco-version"]), {**RIGHT, "robosuite": "1.5.1"}.get)


@pytest.mark.parametrize(
    ("mujoco", "wrong"),
    [
        ("3.1.0", "is older than any"),
        ("3.3.3", "darkens the pictures of libero_object"),
        ("3.8.1", "lets the bowl of libero_spatial's task 5 slide"),
        ("4.0.0", "lets the bowl of libero_spatial's task 5 slide"),
    ],
)
def test_another_mujoco_is_refused_by_name_and_can_be_allowed(mujoco: str, wrong: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        require_packages(frozenset(), {**RIGHT, "mujoco": mujoco}.get)
    assert refusal.value.problem.startswith(f"MuJoCo {mujoco} ")
    assert wrong in refusal.value.problem
    assert "--allow=mujoco-version" in refusal.value.remedy
    note = require_packages(frozenset(["mujoco-version"]), {**RIGHT, "mujoco": mujoco}.get)
    assert note is not None
    assert mujoco in note
    assert wrong in note
