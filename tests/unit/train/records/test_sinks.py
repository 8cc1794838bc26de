"""Records: complete lines at once, one history across resumes, plain text on a console."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pi05.errors import TrainingError
from pi05.train.records.sinks import ConsoleSink, JsonlSink, RunInfo, Sinks


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def info(folder: Path, first_step: int = 0) -> RunInfo:
    return RunInfo(name="run", run_dir=folder, config={}, first_step=first_step, total_steps=10)


def train_record(step: int) -> dict[str, object]:
    numbers = ("samples", "epochs", "loss", "grad_norm", "param_norm", "learning_rate", "samples_per_second")
    rest = ("data_wait", "memory_gb", "seconds_left")
    return {"type": "train", "step": step, **dict.fromkeys((*numbers, *rest), 1.0)}


def test_every_line_is_on_disk_at_once(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "metrics.jsonl")
    sink.start(info(tmp_path))
    sink.log({"type": "train", "step": 1, "loss": 0.5, "names": ["x"], "deep": {"nan": math.nan}})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "type": "train", "step": 1, "loss": 0.5, "names": ["x"], "deep": {"nan": None},
    }  # fmt: skip


def test_resume_drops_what_lies_behind_the_checkpoint_and_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = '{"type": "train", "step": 4}\n{"type": "save", "step": 5}\n{"type": "train", "step": 6}\n{"text": "π'
    path.write_bytes(lines.encode()[:-1])  # the disk was full in the middle of a character
    sink = JsonlSink(path)
    sink.start(info(tmp_path, first_step=5))
    sink.log({"type": "train", "step": 6})
    assert [(record["type"], record["step"]) for record in records(path)] == [
        ("train", 4), ("save", 5), ("resume", 5), ("train", 6),
    ]  # fmt: skip


def test_signs_that_only_look_like_line_ends_do_not_break_a_record(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    record = '{"step": 1, "task": "red\u2028block\u0085"}\n'
    path.write_text(record + '{"step": 9}\n', encoding="utf-8")
    JsonlSink(path).start(info(tmp_path, first_step=1))
    assert path.read_text(encoding="utf-8").startswith(record + '{"type": "save"')


def test_a_run_that_starts_again_starts_a_new_history(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"type": "train", "step": 4}\n')
    JsonlSink(path).start(info(tmp_path))
    assert records(path) == []


def test_a_file_that_cannot_be_written_ends_the_run_with_a_remedy(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "gone" / "metrics.jsonl")
    with pytest.raises(TrainingError, match="could not be written"):
        sink.log({"type": "train", "step": 1})


def test_console_prints_lines_without_a_bar_when_piped() -> None:
    out = io.StringIO()
    sink = ConsoleSink(Console(file=out, width=40))
    sink.start(info(Path()))
    sink.tick(1)
    sink.log(train_record(1))
    sink.log({"type": "save", "step": 1, "text": "saved [bold]here[/bold]"})
    sink.log({"type": "end", "step": 1})
    sink.finish("finished")
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("step  1/10 · ")
    assert len(lines[0]) > 100
    assert lines[1] == "saved [bold]here[/bold]"


def test_console_shows_a_bar_on_a_terminal() -> None:
    out = io.StringIO()
    sink = ConsoleSink(Console(file=out, force_terminal=True, width=80))
    sink.start(info(Path()))
    sink.tick(7)
    sink.finish("finished")
    assert "7/10 steps" in out.getvalue()


def test_all_sinks_hear_everything_and_a_full_disk_does_not_hide_the_end(tmp_path: Path) -> None:
    heard: list[object] = []

    class Listener:
        def start(self, run: RunInfo) -> None:
            heard.append("start")

        def tick(self, step: int) -> None:
            heard.append(step)

        def log(self, record: object) -> None:
            heard.append(record)

        def finish(self, status: str) -> None:
            heard.append(status)

    sinks = Sinks([Listener(), JsonlSink(tmp_path / "gone" / "metrics.jsonl")])
    sinks.tick(3)
    sinks.finish(3, "failed")
    assert heard == [3, {"type": "end", "step": 3, "status": "failed"}, "failed"]
