"""A child that answers, fails, crashes, or hangs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pi05.child import ChildAnswer, ask_child, read_answer


def test_what_a_child_leaves() -> None:
    good = 'noise\nstage: one\nmore noise\nresult: {"a": 1}\n'
    assert read_answer(good, "a warning", 0, late=False) == ChildAnswer({"a": 1}, stages=("one",))
    assert read_answer("stage: one\n", "", 0, late=True) == ChildAnswer(None, hangs_at="one", stages=("one",))
    assert read_answer("", "", -9, late=True).hangs_at == "start"
    assert read_answer("stage: one\n", "", -11, late=False).fault == "killed by SIGSEGV at stage 'one'"
    assert read_answer("", "Traceback\n  File\nImportError: no\n\n", 1, late=False).fault == "ImportError: no"
    assert read_answer("", "", 3, late=False).fault == "exit code 3"
    assert read_answer("no result", "", 0, late=False).fault == "exit code 0"


@pytest.mark.process
def test_a_child_that_hangs_is_ended_and_gets_no_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_child.py").write_text(
        "import os, sys, time\nprint('stage:', sys.argv[1], os.environ['WORD'], 'RANK' in os.environ, flush=True)\n"
        "time.sleep(100)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("RANK", "3")
    answer = ask_child("slow_child", "first", seconds=1.0, environment={"WORD": "told"})
    assert answer.hangs_at == "first told False"
