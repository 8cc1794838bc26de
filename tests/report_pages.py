"""Pages as tests read them, and run folders as the trainer writes them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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


def parse_page(text: str) -> Page:
    """Parse a page and check that it loads nothing."""
    page = Page(text)
    assert all(address.startswith("data:image/") for address in page.addresses if "report.html" not in address)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert "url(" not in text
    return page


def watched_records() -> list[dict[str, Any]]:
    """Return a measurement and findings as the watchers of a run record them."""
    finding = {
        "type": "watch",
        "status": "warning",
        "effect": "the policy is <blind> there",
        "remedy": "look at step0/",
    }
    return [
        {
            "type": "eval",
            "step": 100,
            "action_error": 0.5,
            "baseline_error": 1.0,
            "best_baseline": "holding the last action",
            "best_baseline_error": 0.4,
            "baselines": {"mean action": 1.0, "holding the last action": 0.4},
            "dimensions": {
                "x_m": {"error": 0.1, "baseline": 0.3, "best_baseline": 0.05, "deviation": 0.2},
                "still": {"error": 0.0, "baseline": 0.0, "best_baseline": 0.0, "deviation": 0.0},
            },
            "error_by_step": {
                "policy": [0.3, 0.5, None],
                "mean action": [1.0, 1.0, None],
                "holding the last action": [0.1, 0.6, None],
            },
            "effects": {"camera top": 0.001, "state": 0.4},
        },
        {"type": "watch", "step": 50, "name": "measures", "loss_share": {"x_m": 0.6}, "weights_changed": 0.98},
        {**finding, "step": 50, "name": "inputs.camera", "text": "warning: …", "words": "the camera top has no effect"},
        {**finding, "step": 100, "name": "inputs.camera", "words": "the camera top has no effect"},
        {**finding, "step": 100, "name": "loss.spike", "text": "warning: …", "words": "the loss jumped to 9"},
    ]


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
