from __future__ import annotations

from typing import Any

import pytest

from pi05.errors import ConfigError
from pi05.settings.flags import help_text
from pi05.sim.config import EnvironmentChoice


@pytest.mark.parametrize(
    ("flag", "wrong"),
    [
        ("suite", {"suite": "libero_object"}),
        ("protocol", {"protocol": "lerobot"}),
        ("tasks", {"tasks": ("a",)}),
        ("allow", {"allow": ("mujoco-version",)}),
        ("suite", {"env": "libero"}),
        ("tasks", {"env": "libero", "suite": "libero_goal", "tasks": ("a", "a")}),
        ("seed", {"seed": -1}),
    ],
)
def test_what_has_no_meaning_is_refused(flag: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"--{flag} cannot be"):
        EnvironmentChoice(**wrong)


def test_openpi_s_rules_hold_where_none_are_named() -> None:
    assert EnvironmentChoice(env="libero", suite="libero_goal").protocol_name == "openpi"
    assert EnvironmentChoice(env="libero", suite="libero_goal", protocol="lerobot").protocol_name == "lerobot"


def test_the_help_of_a_class_that_extends_it_tells_what_each_setting_means() -> None:
    class Longer(EnvironmentChoice):
        """Settings with these among them."""

    assert "Which tasks of LIBERO." in help_text(Longer)
