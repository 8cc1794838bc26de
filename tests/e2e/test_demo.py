"""`pi05 demo` with very little of everything: the chain, its files, and its honesty. The numbers are not the point."""

from __future__ import annotations

import contextlib
import io
import json
import re
from dataclasses import replace

import fakes
import pytest
from fake_policies import make_policy, save_policy

from pi05 import presets
from pi05.demo.chain import DemoResult
from pi05.demo.tabletop import DemoPlan, run_demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoResult, str]:
    folder = tmp_path_factory.mktemp("demo")
    tokenizer = fakes.write_tokenizer(folder / "tokenizer.json")
    base = save_policy(folder / "base", make_policy(tokenizer))
    plan = DemoPlan(demonstrations=8, episodes=1, steps=2, base=base)
    (folder / "out").mkdir()
    (folder / "out" / "mine.txt").write_text("do not touch")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        result = run_demo(folder / "out", seed=3, threads=1, plan=plan)
    return result, printed.getvalue()


def test_a_folder_in_use_is_left_alone(demo: tuple[DemoResult, str]) -> None:
    result, printed = demo
    assert result.folder.name == "out-2"
    assert [path.name for path in (result.folder.parent / "out").iterdir()] == ["mine.txt"]
    assert "out holds something already and is left as it is" in printed


def test_the_verdict_is_printed_and_stored_as_it_is(demo: tuple[DemoResult, str]) -> None:
    """Two steps teach nothing, so the first goal must be missed, and said to be missed everywhere."""
    result, printed = demo
    assert not result.met
    assert "MISSED  fine-tuned, on unseen layouts (at least 90%)" in printed
    assert re.search(r"MISSED \d of 3 goals", printed)
    stored = json.loads((result.folder / "demo.json").read_text())
    assert stored["met"] is False
    assert [goal["trials"] for goal in stored["goals"]] == [1, 1, 1]
    assert stored["goals"][0]["met"] is False
    assert stored["seed"] == 3
    assert "Not all goals are met." in (result.folder / "index.html").read_text()


def test_every_stage_has_its_share(demo: tuple[DemoResult, str]) -> None:
    result, printed = demo
    stored = json.loads((result.folder / "demo.json").read_text())
    assert len(stored["stages"]) == 7
    assert sum(stage["share"] for stage in stored["stages"]) == pytest.approx(1)
    for number, stage in enumerate(stored["stages"], 1):
        assert f"[{number}/7] {stage['name']}" in printed
        assert re.search(rf"  {re.escape(stage['name'])} .* \d+%", printed)


def test_every_link_of_the_front_page_leads_somewhere(demo: tuple[DemoResult, str]) -> None:
    result, _ = demo
    page = (result.folder / "index.html").read_text()
    links = re.findall(r'href="([^"]+)"', page)
    assert len(links) == 4
    assert all((result.folder / link).is_file() for link in links)
    assert page.count("data:image/webp") == 3 * 8
    assert not re.findall(r'(?:src|href)="https?:', page)


def test_the_policy_was_trained_on_the_demonstrations(demo: tuple[DemoResult, str]) -> None:
    result, _ = demo
    config = json.loads((result.folder / "run" / "config.json").read_text())
    assert config["dataset"]["root"] == str(result.folder / "data")
    assert config["steps"] == 2
    swapped = json.loads((result.folder / "eval-swapped" / "results.json").read_text())
    assert swapped["policy"]["step"] == 2
    assert all(episode["asked"] != episode["instruction"] for episode in swapped["episodes"])
    before = json.loads((result.folder / "eval-base" / "results.json").read_text())
    after = json.loads((result.folder / "eval" / "results.json").read_text())
    assert before["policy"]["checkpoint"] != after["policy"]["checkpoint"]
    assert [e["seed"] for e in before["episodes"]] == [e["seed"] for e in after["episodes"]]


def test_the_plan_of_the_command_uses_the_packaged_base() -> None:
    plan = DemoPlan()
    assert plan.base == presets.TINY_BASE
    assert plan.episodes == 50
    assert replace(plan, steps=1).steps == 1
