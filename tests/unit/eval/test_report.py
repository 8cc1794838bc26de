from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pi05.errors import EvaluationError
from pi05.eval.config import EvalConfig
from pi05.eval.film import Gallery
from pi05.eval.report import evaluation_page, output_folder
from pi05.eval.result import EvalResult
from pi05.eval.rollout import run_episodes
from pi05.machine import machine_info
from pi05.pages.page import duration, fact_rows
from pi05.pages.run import run_page, write_run_report
from pi05.train.records.read import read_run

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags close in order, and collects what is shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.tags: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data


def parse(text: str) -> Page:
    """Parse a page and check that it loads nothing."""
    page = Page(text)
    assert all(address.startswith("data:image/") for address in page.addresses if "report.html" not in address)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert "url(" not in text
    return page


def evaluation(actor: Any, make: Any, **settings: Any) -> EvalResult:
    gallery = Gallery(limit=2)
    config = EvalConfig(**{"episodes": 6, **settings})
    return EvalResult(
        config=config.to_dict(),
        policy={"path": "runs/mine", "step": 1200},
        environment={"name": "tabletop", "family": "demo", "fps": 10.0, "max_steps": 60},
        episodes=run_episodes(actor, make, config, gallery=gallery),
        machine=machine_info(),
        date="2025-11-22T12:00:00+00:00",
        wall_s=61.0,
        flagged=["state dimension 0 is <9>"],
        gallery=gallery,
    )


def test_the_evaluation_page_shows_what_was_measured(expert: Any, broken_tabletop: Any) -> None:
    result = evaluation(expert(), lambda: broken_tabletop("demo"))
    page = parse(evaluation_page(result))
    assert "100%" in page.text
    assert result.success.render() in page.text
    assert page.text.count("simulator exception") >= 3
    assert "FloatingPointError: the solver diverged" in page.text
    assert "exception in 3 of\n6 episodes" in page.text
    for episode in result.episodes:
        assert str(episode.seed) in page.text
    for name in result.by_instruction:
        assert name in page.text
    assert "state dimension 0 is <9>." in page.text  # escaped in the source, or the parser would see a tag
    assert len(page.addresses) == 2 * (1 + 7)  # two successes, each a clip and seven stills
    assert "runs/mine" in page.text
    assert "step 1,200" in page.text


def test_failures_and_swaps_have_their_films(expert: Any, lazy: Any, open_tabletop: Any) -> None:
    idle = parse(evaluation_page(evaluation(lazy(), lambda: open_tabletop("demo", max_steps=4))))
    assert "Failures" in idle.text
    assert "Successes" not in idle.text
    swapped = evaluation(expert(), lambda: open_tabletop("demo"), swap_instruction=True)
    page = parse(evaluation_page(swapped))
    assert "reached the goal that was asked for: 6/6 = 100.0%" in page.text
    assert "reached the original goal: 0/6 = 0.0%" in page.text
    assert "did what was asked" in page.text
    assert swapped.episodes[0].asked in page.text


def test_an_evaluation_never_overwrites_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert output_folder(EvalConfig()) == Path("outputs/eval-tabletop-1")
    assert output_folder(EvalConfig()) == Path("outputs/eval-tabletop-2")
    chosen = EvalConfig(output_dir=str(tmp_path / "mine"))
    assert output_folder(chosen) == tmp_path / "mine"
    (tmp_path / "mine" / "results.json").write_text("{}")
    with pytest.raises(EvaluationError, match="holds an evaluation already"):
        output_folder(chosen)


def write_run(folder: Path, steps: int = 100, evals: bool = True) -> None:
    """Write a run folder as the trainer does."""
    (folder / "step0").mkdir(parents=True)
    config = {"steps": 100, "policy": {"path": "base<1>"}, "rename_map": {}}
    (folder / "config.json").write_text(json.dumps(config))
    receipt = {"source": "base", "loaded": [f"t{i}" for i in range(30)], "tied": {}, "sha256": "ab" * 32}
    (folder / "receipt.json").write_text(json.dumps(receipt))
    records: list[dict[str, Any]] = []
    for step in range(10, steps + 1, 10):
        records.append(
            {
                "type": "train",
                "step": step,
                "samples": 4 * step,
                "epochs": step / 50,
                "loss": 1 / step,
                "grad_norm": 2.0,
                "learning_rate": 1e-4,
                "samples_per_second": 700.0,
                "data_wait": 0.1,
                "seconds_left": 100.0 - step,
            }
        )
        if evals:
            dimensions = {"x_m": {"error": 0.5 / step, "baseline": 0.3}, "grip": {"error": 0.1, "baseline": 0.4}}
            records.append(
                {"type": "eval", "step": step, "action_error": 0.02, "baseline_error": 0.9, "dimensions": dimensions}
            )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for name in ("scene_0.png", "scene_0_raw.png"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "step0" / name)
    prompt = {"sample": 0, "frame": 3, "prompt": "Task: put it <there>;\nAction: ", "images": {"scene": "scene_0.png"}}
    (folder / "step0" / "prompts.json").write_text(json.dumps([prompt]))


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
def test_the_run_page_tells_the_method(settings: dict[str, Any], told: str, tmp_path: Path) -> None:
    write_run(tmp_path)
    run = replace(read_run(tmp_path), config=settings)
    assert run.method == told
    assert told in parse(run_page(run)).text


def test_the_run_page_shows_curves_inputs_and_origin(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    path = write_run_report(tmp_path / "run")
    assert path == tmp_path / "run" / "report.html"
    text = path.read_text(encoding="utf-8")
    page = parse(text)
    for chart in ("Training loss", "Learning rate", "Gradient norm", "Action error", "x_m", "grip", "Throughput"):
        assert chart in page.text
    assert page.tags.count("polyline") == 4 + 2 * 3 + 1  # loss, rate, norm, speed, waiting; three errors with baseline
    assert "finished at step 100 of 100" in page.text
    assert "2% of the mean action's" in page.text
    assert "Task: put it <there>;\nAction: " in page.text
    assert len(page.addresses) == 2
    assert "30 tensors" in page.text
    assert "base<1>" in page.text
    assert re.search(r"policy: 0\.005 at step 100", text)  # a title for the mouse


def test_a_run_that_goes_on_or_was_killed_is_reported(tmp_path: Path) -> None:
    write_run(tmp_path, steps=40, evals=False)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"type": "train", "step": 50, "lo')
    page = parse(run_page(read_run(tmp_path)))
    assert "step 40 of 100; no end is recorded, so it is running or was killed" in page.text
    assert "its last line is cut off" in page.text
    assert "none was saved yet" in page.text
    assert "no data yet" in page.text  # the held-out error
    assert "60 s" in page.text  # left, by its own estimate


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("metrics.jsonl", None, "metrics.jsonl: no step has been logged yet"),
        ("metrics.jsonl", b"", "metrics.jsonl: no step has been logged yet"),
        ("metrics.jsonl", b"\xff\xfe\n[1]\nnull\n{}\n", "metrics.jsonl: 3 lines cannot be read, the first is line 1"),
        ("metrics.jsonl", b'{"type": "train", "step": 1, "loss": null}\n{"typ', "its last line is cut off"),
        ("config.json", None, "config.json: not there"),
        ("config.json", b"{", "config.json: cannot be read"),
        ("receipt.json", b"[]", "receipt.json: not an object"),
        ("step0/scene_0.png", None, "step0/scene_0.png: cannot be shown (FileNotFoundError)"),
        ("step0/scene_0.png", b"not a picture", "step0/scene_0.png: cannot be shown (UnidentifiedImageError)"),
        ("step0/prompts.json", None, "step0/prompts.json: not there"),
        ("step0/prompts.json", b'{"0": 1}', "step0/prompts.json: not a list of samples"),
        ("checkpoints/000001/model.safetensors", b"short", "parameters: 000001 cannot be read"),
    ],
)
def test_a_damaged_run_is_reported_all_the_same(tmp_path: Path, file: str, content: bytes | None, told: str) -> None:
    write_run(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(content)
    page = parse(write_run_report(tmp_path).read_text(encoding="utf-8"))
    assert told in page.text


def test_evaluations_in_the_run_folder_are_linked(tmp_path: Path, expert: Any, open_tabletop: Any) -> None:
    write_run(tmp_path)
    result = evaluation(expert(), lambda: open_tabletop("demo"))
    (tmp_path / "eval-tabletop-1").mkdir()
    (tmp_path / "eval-tabletop-1" / "results.json").write_text(json.dumps(result.to_dict()))
    page = parse(run_page(read_run(tmp_path)))
    assert "eval-tabletop-1/report.html" in page.addresses
    assert "6/6 = 100%" in page.text


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="not a run"):
        write_run_report(tmp_path)
    with pytest.raises(EvaluationError, match="not a folder"):
        write_run_report(tmp_path / "nowhere")


def test_values_are_written_for_people() -> None:
    assert fact_rows({"a": {"b": 1, "c": None}, "d": {}}) == [("a.b", "1"), ("a.c", "–"), ("d", "{}")]
    assert [duration(s) for s in (0.04, 9.96, 59.6, 99.4, 125, 7265)] == [
        "0.0 s",
        "10.0 s",
        "60 s",
        "99 s",
        "2 min 05 s",
        "2 h 01 min",
    ]
