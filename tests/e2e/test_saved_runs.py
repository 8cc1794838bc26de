"""Runs that version 0.1 saved go on: the losses that its own code recorded after the checkpoint come out again.

`tests/golden/saved_runs` holds four of them (`README.md` there), stopped at step 4 of 8; their `metrics.jsonl` has all
8.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from launched import records

from pi05.cli import main

SAVED = Path(__file__).parents[1] / "golden" / "saved_runs"
TOLERANCES = {"full": 2e-4, "lora": 2e-4, "low_memory": 1e-2, "split": 2e-4}
"""Relative; processors differ in the order of sums, and eight steps at a high rate carry that on. In bfloat16 so does
the padding of a prompt, which on a CPU is shorter now."""


@pytest.mark.parametrize("name", list(TOLERANCES))
def test_a_run_of_version_0_1_goes_on(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("base", "data", name):
        shutil.copytree(SAVED / part, tmp_path / part)
    shutil.copy(SAVED / "tokenizer.json", tmp_path)
    monkeypatch.chdir(tmp_path)
    wanted = records(tmp_path / name)
    settings = json.loads((tmp_path / name / "config.json").read_text())
    assert main(["train", "--resume", name]) == 0
    found = records(tmp_path / name)
    assert found.keys() == wanted.keys()
    for kind, step in wanted:
        for value in ("loss", "grad_norm", "learning_rate", "action_error", "samples"):
            if value in wanted[kind, step]:
                same = pytest.approx(wanted[kind, step][value], rel=TOLERANCES[name])
                assert found[kind, step][value] == same, (kind, step, value)
    again = json.loads((tmp_path / name / "config.json").read_text())
    assert {**known(again, settings), "resume": None} == {**settings, "resume": None}


def known(again: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that version 0.1 had, in groups too."""
    return {
        key: known(value, settings[key]) if isinstance(value, dict) and isinstance(settings[key], dict) else value
        for key, value in again.items()
        if key in settings
    }
