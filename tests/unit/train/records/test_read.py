from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_pages import write_run

from pi05.errors import EvaluationError
from pi05.train.records.read import read_run


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"policy": {"use_peft": True}, "peft": {"r": 8, "quantize": "none"}}, "LoRA, rank 8"),
        ({"policy": {"use_peft": True}, "peft": {"r": 16, "quantize": "nf4"}}, "QLoRA, rank 16"),
        ({"policy": {"train_expert_only": True, "freeze_vision_encoder": True}}, "action expert only"),
        ({"policy": {"freeze_vision_encoder": True}}, "all but the vision tower"),
        ({"policy": {}}, "everything trained"),
        ({}, ""),
    ],
)
def test_the_method_is_told_in_a_few_words(settings: dict[str, Any], told: str, tmp_path: Path) -> None:
    write_run(tmp_path)
    assert replace(read_run(tmp_path), config=settings).method == told


def test_points_are_those_that_are_numbers(tmp_path: Path) -> None:
    write_run(tmp_path, steps=20)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"type": "train", "step": 30, "loss": null}\n{"type": "train", "step": 40, "loss": true}\n')
    run = read_run(tmp_path)
    assert run.points("train", "loss") == [(10.0, 0.1), (20.0, 0.05)]
    assert run.dimension_points()["x_m"] == {
        "error": [(10.0, 0.05), (20.0, 0.025)],
        "baseline": [(10.0, 0.3), (20.0, 0.3)],
    }
    assert (run.last_step, run.total_steps) == (40, 100)
    assert run.samples[0].prompt == "Task: put it <there>;\nAction: "
    assert [path.name for _, path in run.samples[0].originals] == ["scene_0_raw.png"]


def test_signs_that_only_look_like_line_ends_do_not_break_a_record(tmp_path: Path) -> None:
    write_run(tmp_path, steps=20)
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"type": "note", "step": 20, "task": "red\u2028block\u0085"}\n')
    assert not any("metrics" in sentence for sentence in read_run(tmp_path).missing)


def test_the_end_of_a_run_is_its_status(tmp_path: Path) -> None:
    write_run(tmp_path, steps=40)
    assert "it is running or was killed. Last record less than a minute ago" in read_run(tmp_path).status
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"type": "end", "step": 40, "status": "interrupted"}\n')
    assert read_run(tmp_path).status == "interrupted at step 40 of 100"


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("metrics.jsonl", None, "metrics.jsonl: no step has been logged yet"),
        ("metrics.jsonl", b"", "metrics.jsonl: no step has been logged yet"),
        ("metrics.jsonl", b"\xff\xfe\n[1]\nnull\n{}\n", "metrics.jsonl: 3 lines cannot be read, the first is line 1"),
        ("metrics.jsonl", b'{"type": "train", "step": 1, "loss": null}\n{"typ', "its last line is cut off"),
        ("config.json", None, "config.json: not there"),
        ("config.json", b"{", "config.json: cannot be read"),
        ("receipt.json", b"[]", "receipt.json: a list of 0, where an object of named values should be"),
        ("step0/scene_0.png", None, "step0/scene_0.png: cannot be shown (FileNotFoundError)"),
        ("step0/scene_0.png", b"not a picture", "step0/scene_0.png: cannot be shown (UnidentifiedImageError)"),
        ("step0/prompts.json", None, "step0/prompts.json: not there"),
        ("step0/prompts.json", b'{"0": 1}', "step0/prompts.json: an object with 1 names, where a list"),
        ("checkpoints/000001/model.safetensors", b"short", "parameters: 000001 cannot be read"),
    ],
)
def test_a_damaged_run_is_read_all_the_same_and_what_is_missing_is_told(
    tmp_path: Path, file: str, content: bytes | None, told: str
) -> None:
    write_run(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(content)
    missing = read_run(tmp_path).missing
    assert sum(told in sentence for sentence in missing) == 1, missing


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="not a run"):
        read_run(tmp_path)
    with pytest.raises(EvaluationError, match="not a folder"):
        read_run(tmp_path / "nowhere")
