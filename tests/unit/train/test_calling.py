"""`pi05.train(config)`, as docs/training.md shows it; the room stays a package."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import fakes
import pytest
from pages import FENCE, REPOSITORY

import pi05
from pi05.train.loop import TrainResult, train


def test_the_room_is_the_function_too() -> None:
    import pi05.train.loop

    assert callable(pi05.train)
    assert pi05.train.loop.train is train
    ours, its = inspect.signature(pi05.train.__call__), inspect.signature(train)
    assert list(ours.parameters) == list(its.parameters)


@pytest.mark.process
def test_it_is_there_after_import_pi05_alone_and_without_torch() -> None:
    program = (
        "import sys, pi05; assert callable(pi05.train); assert 'torch' not in sys.modules; print('train' in dir(pi05))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "True\n"


def example() -> str:
    page = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
    (found,) = [block for language, block in FENCE.findall(page) if language == "python" and "pi05.train(" in block]
    return found


def test_the_example_of_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer steps and smaller batches; everything else is as it stands there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PI05_CACHE", str(tmp_path / "cache"))
    fakes.write_dataset(tmp_path / "local_dataset")
    text, count = re.subn(r"steps=\d+", "steps=2, batch_size=2, threads=1", example())
    assert count == 1
    names: dict[str, object] = {}
    exec(compile(text, "docs/training.md", "exec"), names)
    result = names["result"]
    assert isinstance(result, TrainResult)
    assert result.steps == 2
    assert isinstance(names["policy"], pi05.Policy)
