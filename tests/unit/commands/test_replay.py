from __future__ import annotations

from pathlib import Path

import pytest

from pi05 import cli


def test_rates_of_both_kinds_and_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(tmp_path / "data")
    assert cli.main(["collect", "--episodes=3", f"--output={data}"]) == 0
    assert cli.main(["replay", data]) == 0
    told = capsys.readouterr().out
    assert "as executed  3 of 3 episodes succeed again (100%)" in told
    assert "labels alone " in told
    assert cli.main(["replay", data, "--episodes=[1]", "--at-least=1"]) == 0
    assert "as executed  1 of 1 episodes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "needs one data set"),
        (["data", "--at_least=2"], "0 to 1"),
        (["data", "--episodes=[1,1]"], "different numbers"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["replay", *words]) == 2
    assert told in capsys.readouterr().err
