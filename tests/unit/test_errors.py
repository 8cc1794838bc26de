"""How errors read."""

from __future__ import annotations

import pytest

from pi05.errors import CheckpointError, ConfigError, DataError, EvaluationError, TrainingError, UserError


def test_an_error_says_problem_wanted_found_and_remedy() -> None:
    error = DataError("there is no video", wanted="a.mp4", found="nothing", remedy="copy the file")
    assert error.render().splitlines() == [
        "there is no video",
        "  wanted: a.mp4",
        "  found:  nothing",
        "  to do:  copy the file",
    ]
    assert str(error) == error.render()


def test_what_is_not_known_is_left_out() -> None:
    assert ConfigError("no", remedy="yes").render() == "no\n  to do:  yes"
    assert "found:  0" in ConfigError("no", found="0", remedy="yes").render()


def test_an_error_without_a_remedy_cannot_be_made() -> None:
    with pytest.raises(TypeError):
        UserError("no")  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [ConfigError, DataError, CheckpointError, TrainingError, EvaluationError])
def test_the_family_has_one_parent(kind: type[UserError]) -> None:
    with pytest.raises(UserError):
        raise kind("no", remedy="yes")
