"""`pi05 report` on runs that the real trainer wrote: finished, and killed while it ran."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pi05.cli import main


@pytest.fixture(scope="module")
def run(workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("report") / "run"
    flags = workshop.flags(folder, steps=4, log_freq=1, eval_steps=2, save_freq=2, eval_frames=4)
    assert main(["train", *flags]) == 0
    return folder


def test_a_finished_run_has_every_part(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip().endswith("report.html")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Not in this report" not in page
    assert "finished at step 4 of 4" in page
    assert "no data yet" not in page
    for action in ("action_0", "action_1", "action_2"):  # the names in the fake data set
        assert action in page
    assert page.count("data:image/png") == 4 * 2 * 2  # four samples, two cameras, before and after augmentation
    assert "put the red block on the blue plate, State:" in page
    assert "vision tower" in page
    assert "000004" in page


def test_a_run_that_was_killed_is_reported_with_what_there_is(run: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / "config.json").write_bytes((run / "config.json").read_bytes())
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["type"] == "train"
    (killed / "metrics.jsonl").write_text(lines[0] + "\n" + lines[1][:20])
    assert main(["report", str(killed)]) == 0
    page = (killed / "report.html").read_text(encoding="utf-8")
    for sentence in ("its last line is cut off", "receipt.json: not there", "none was saved yet", "was killed"):
        assert sentence in page


def test_a_folder_without_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "this is not a run" in capsys.readouterr().err
