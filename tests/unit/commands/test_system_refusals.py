"""What the operating system refuses ends a command with exit code 2 and the path, never with a traceback.

The tests may run as root, whom permissions do not stop: files where folders should be, names that are too long, and
limits take their place.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from full_disk import largest_file

from pi05 import cli
from pi05.train.config import TINY_BASE

LONG = "n" * 300
LINES = {
    "collect": ["collect", "--episodes=1", "--output={out}"],
    "demo": ["demo", "--output_dir={out}"],
    "eval": ["eval", f"--policy.path={TINY_BASE}", "--env=tabletop", "--episodes=1", "--output_dir={out}"],
    "export": ["export", "--to=lerobot", str(TINY_BASE), "{out}"],
    "inspect": ["inspect", "{out}"],
    "push": ["push", "{out}", "--repo_id=me/policy"],
    "relocate": ["export", "--relocate", "{out}"],
    "report": ["report", "{out}"],
    "verify": ["export", "--verify", "{out}"],
    "train": ["train", "--preset=tiny", "--dataset.root={data}", "--output_dir={out}"],
}


def run(words: list[str], capsys: pytest.CaptureFixture[str], **paths: Path) -> str:
    """Return what a refused command line says."""
    assert cli.main([word.format(**paths) for word in words]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "  to do:  " in told
    assert "Traceback" not in told
    return told


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("out", [f"file/{'out'}", LONG, f"{LONG}/out"])
def test_places_that_cannot_be(name: str, out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    told = run(LINES[name], capsys, out=tmp_path / out, data=tmp_path)
    assert str(tmp_path / out) in told or str(tmp_path / "file") in told
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "a file where a folder should be"


def a_run(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"steps": 2}))
    (folder / "metrics.jsonl").write_text('{"type": "train", "step": 1, "loss": 1.0}\n')
    return folder


def test_a_report_on_a_full_disk_leaves_the_old_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = a_run(tmp_path / "run")
    (folder / "report.html").write_text("the old one")
    with largest_file(1000):
        told = run(["report", str(folder)], capsys)
    assert str(folder) in told
    assert "File too large" in told
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "metrics.jsonl", "report.html"]
    assert (folder / "report.html").read_text() == "the old one"


def test_a_folder_in_the_place_of_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = a_run(tmp_path / "run")
    (folder / "report.html").mkdir()
    assert str(folder / "report.html") in run(["report", str(folder)], capsys)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "metrics.jsonl", "report.html"]


@pytest.mark.process
def test_a_home_that_nobody_knows() -> None:
    """Without HOME, and as a user without an entry in passwd."""
    program = (
        "import os, sys\n"
        "os.environ.pop('HOME', None)\n"
        "import pwd\n"
        "def nobody(*_): raise KeyError('no entry')\n"
        "pwd.getpwuid = nobody\n"
        "from pi05.cli import main\n"
        "sys.exit(main(['inspect', '~/model']))\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert answer.returncode == 2, answer.stderr
    assert "nobody knows what ~ means in ~/model" in answer.stderr


def test_a_home_that_nobody_knows_for_the_frame_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    from pi05.data.frame_cache import cache_directory
    from pi05.errors import ConfigError

    def nobody(*_: object) -> None:
        raise KeyError("no entry")

    for name in ("HOME", "PI05_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(ConfigError, match="set HOME"):
        cache_directory()


@pytest.mark.process
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_standard_output_on_a_full_disk() -> None:
    with open("/dev/full", "w") as full:
        answer = subprocess.run(
            [sys.executable, "-m", "pi05", "train", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: cannot go on with pi05 train\n  found:  No space left on device")
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("name", ["inspect", "report"])
def test_too_little_memory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def greedy(*_: object, **__: object) -> None:
        raise MemoryError

    target = {"inspect": "pi05.checkpoint.inspection.inspect_checkpoint", "report": "pi05.pages.run.write_run_report"}
    monkeypatch.setattr(target[name], greedy)
    told = run([name, str(tmp_path)], capsys)
    assert "not enough memory" in told
    assert str(tmp_path) in told
