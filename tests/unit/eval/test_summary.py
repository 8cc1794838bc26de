from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_pages import parse_page

from pi05.cli import main
from pi05.eval.result import SuccessRate
from pi05.eval.summary import mean_rate, published


def write(folder: Path, suite: str, successes: int, trials: int, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    result: dict[str, Any] = {
        "environment": {"name": "libero", "family": suite},
        "rules": {"protocol": "openpi", "departures": ["seed 3 instead of 7"]},
        "policy": {"path": "runs/a", "step": 30_000},
        "success": SuccessRate(successes=successes, trials=trials).to_dict(),
        "simulator_exceptions": 1,
        "wall_s": 5.0,
    }
    (folder / "results.json").write_text(json.dumps(result | changes))
    return folder


def test_four_suites_are_one_table_beside_the_published_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suites = {"libero_spatial": 490, "libero_object": 480, "libero_goal": 470, "libero_10": 460}
    folders = [str(write(tmp_path / "out" / suite, suite, wins, 500)) for suite, wins in suites.items()]
    assert main(["report", *folders]) == 0
    printed = capsys.readouterr().out
    assert "libero/libero_goal          470/500 = 94.0%" in printed
    assert "1 simulator exceptions; protocol openpi, departs in 1" in printed
    assert "mean                        95.0%" in printed
    assert "published by openpi         98.8, 98.2, 98.0, 92.4; mean 96.85 %" in printed
    assert "published by lerobot        97.0, 99.0, 98.0, 96.0; mean 97.50 %" in printed
    assert str(tmp_path / "out" / "summary.html") in printed
    page = parse_page((tmp_path / "out" / "summary.html").read_text())
    assert "seed 3 instead of 7" in page.text
    assert "Neither table has an interval" in page.text
    plain = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert plain["mean_rate"] == pytest.approx(0.95)
    assert [row["success"]["successes"] for row in plain["evaluations"]] == list(suites.values())


def test_a_table_without_peers_or_without_a_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = {"environment": {"name": "tabletop", "family": "demo"}, "rules": {}, "simulator_exceptions": 0}
    one = write(tmp_path / "a", "", 3, 4, **table)
    two = write(tmp_path / "b", "", 0, 0, **table)
    assert main(["report", str(one), str(two), f"--output={tmp_path / 'there'}"]) == 0
    printed = capsys.readouterr().out
    assert "tabletop/demo               3/4 = 75.0%" in printed
    assert "no episode counts" in printed
    assert "mean" not in printed
    assert (tmp_path / "there" / "summary.json").exists()
    rows = [{"family": "libero_90", "success": {"successes": 1, "trials": 2}}]
    assert (published(rows), mean_rate(rows)) == ({}, 0.5)


def test_a_folder_without_results_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write(tmp_path / "a", "libero_goal", 1, 2)
    assert main(["report", str(good), str(tmp_path)]) == 2
    assert "holds no finished evaluation" in capsys.readouterr().err
    assert not (tmp_path / "summary.json").exists()
