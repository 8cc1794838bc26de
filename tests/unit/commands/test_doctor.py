"""`pi05 doctor` as a process: on this machine, with packages that are broken, and under torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import REPOSITORY

from pi05 import cli


def run(*words: str, path: Path | None = None, program: tuple[str, ...] = ("-m", "pi05")) -> tuple[int, str]:
    """Return exit code and output; the packages in `path` stand before the installed ones."""
    entries = [*([] if path is None else [str(path)]), str(REPOSITORY / "src")]
    answer = subprocess.run(
        [sys.executable, *program, "doctor", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entries), "OMP_NUM_THREADS": "1"},
    )
    return answer.returncode, answer.stdout + answer.stderr


@pytest.mark.process
def test_the_report_of_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, with children; what this machine lacks is not known here, so only the form is."""
    monkeypatch.setenv("COLUMNS", "80")
    code = cli.main(["doctor", "--offline", f"--output_dir={tmp_path}"])
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[-1].startswith("doctor: ")
    assert code == ("doctor: nothing to mend" not in lines[-1])
    assert {line.split()[0] for line in lines if line[:1].strip()} <= {"ok", "note", "warning", "error", "doctor:"}
    assert f"output: {tmp_path} has" in " ".join(printed.split())
    assert "not asked: " in printed
    assert "\x1b" not in printed
    assert os.listdir(tmp_path) == []


@pytest.mark.process
def test_json_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["doctor", "--offline", "--short", "--json", f"--output_dir={tmp_path}"])
    report = json.loads(capsys.readouterr().out)
    assert report["to_mend"] == bool(code)
    assert {finding["name"] for finding in report["findings"]} >= {"packages.ok", "video.ok"}
    assert report["versions"]["Python"] == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.process
def test_it_works_where_packages_do_not(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')\n")
    for name in ("numpy", "av", "rich", "yaml", "tokenizers"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('broken')\n")
    code, printed = run("--offline", path=tmp_path)
    assert code == 1
    assert "Traceback" not in printed
    flat = " ".join(printed.split())
    assert "torch cannot be imported: ImportError: libcudart.so.13: cannot open shared object file" in flat
    assert "PyAV cannot be imported: ImportError: broken" in flat
    assert "the table-top simulator draws nothing: ImportError: broken" in flat
    assert f"PYTHONPATH has {tmp_path}, whose torch, numpy, av, tokenizers is imported" in flat
    assert "install --force-reinstall 'torch>=2.7' --index-url https://download.pytorch.org/whl/" in flat


@pytest.mark.slow
def test_under_torchrun_rank_0_tells_for_all(tmp_path: Path) -> None:
    words = ("-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "pi05")
    code, printed = run("--short", "--offline", "--json", f"--output_dir={tmp_path}", program=words)
    report = json.loads(printed[printed.index("{\n") : printed.rindex("\n}") + 2])
    workers = [finding["text"] for finding in report["findings"] if finding["name"].startswith("workers.")]
    assert workers == ["2 workers on 1 machines are alike"]
    assert (code != 0) == report["to_mend"]


def test_a_word_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "now"]) == 2
    assert "'now' is no flag" in capsys.readouterr().err
