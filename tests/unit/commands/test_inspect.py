"""`pi05 inspect`: its JSON, its errors."""

from __future__ import annotations

import json

import pytest

from pi05 import cli
from pi05.train.config import TINY_BASE


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(TINY_BASE), "--json", "--hash=false"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["layout"] == "pi05"
    assert cli.main(["inspect"]) == 2
    assert "takes one path" in capsys.readouterr().err
    assert cli.main(["inspect", "/nowhere"]) == 2
