"""The card: the same facts in both languages, what is unknown called so, only what is certain in the front matter."""

from __future__ import annotations

import copy
import re
from collections import Counter
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pi05.hub.card import Publication, cell, front_matter, number, render_card, snippet
from pi05.hub.facts import Facts, describe_base
from pi05.train.config import TINY_BASE

HERE = Publication(repo_id="ada/cubes", date="2026-11-22")
SHA = "9f" * 32


def facts(**changes: Any) -> Facts:
    """Return what a run with everything in it tells."""
    evaluation = {
        "environment": "tabletop/demo",
        "env": "tabletop",
        "family": "demo",
        "successes": 41,
        "trials": 50,
        "rate": 0.82,
        "low": 0.692,
        "high": 0.902,
        "exceptions": 0,
        "swapped": False,
        "seed": 3,
        "date": "2026-11-21",
        "step": 1500,
        "policy": None,
        "this": True,
        "hardware": "Some CPU",
    }
    known = {
        "step": 1500,
        "total_steps": 2000,
        "version": "0.1.0",
        "policy": {
            "cameras": {"scene": "observation.images.front", "left_wrist": "observation.images.wrist"},
            "empty_slots": ["right_wrist"],
            "state": 6,
            "action_names": ["shoulder", "gripper"],
            "actions": 2,
            "fps": 30.0,
            "horizon": 50,
            "n_action_steps": 25,
            "image_size": 224,
            "prompt_format": "state",
            "normalization": {"STATE": "QUANTILES", "ACTION": "QUANTILES"},
            "relative": False,
            "full_size": True,
        },
        "base": {
            "name": "lerobot/pi05_base",
            "stated": False,
            "folder": "pi05_base",
            "packaged": False,
            "layout": "LeRobot",
            "revision": "0a" * 20,
            "sha256": SHA,
            "parameters": 3_616_757_520,
            "license": "gemma",
            "license_from": "README.md",
        },
        "data": {
            "name": "lab/cubes",
            "folder": "cubes",
            "format": "v3.0",
            "robot": "so101_follower",
            "fps": 30,
            "episodes": 60,
            "frames": 12_345,
            "tasks": 4,
            "features": ["action"],
            "license": "cc-by-4.0",
            "license_from": "README.md",
            "revision": "0b" * 20,
            "used_episodes": 57,
            "held_out_episodes": 3,
            "statistics": "0c" * 32,
        },
        "method": {
            "name": "lora",
            "lora": {"r": 16, "alpha": 32.0, "dora": False},
            "trained": {"action expert": 1000},
            "trained_total": 1000,
            "all_total": 5000,
            "preset": "real",
            "learning_rate": 2.5e-4,
            "warmup": 100,
            "final_rate": 2.5e-5,
            "batch": 32,
            "loss": "masked",
            "ema": 0.99,
            "precision": "mixed",
            "augment": True,
            "seed": 42,
        },
        "sessions": [
            {
                "date": "2026-11-19",
                "ended": "2026-11-20",
                "seconds": 43_210.0,
                "hardware": "Some GPU",
                "cores": None,
                "torch": "2.13.0",
                "pi05": "0.1.0",
                "first_step": 0,
                "last_step": 1500,
            }
        ],
        "numbers": {
            "samples": 48_000,
            "epochs": 3.88,
            "loss": 0.01234,
            "loss_step": 1500,
            "error": 0.2345,
            "baseline": 0.9876,
            "best_baseline": 0.8765,
            "frames": 256,
            "episodes": 3,
            "dimensions": {"gripper": {"error": 0.011, "baseline": 0.33}},
        },
        "evaluations": [evaluation, {**evaluation, "this": False, "step": 1000, "rate": 0.5, "successes": 25}],
        "task": 'put the "red" block away',
    }
    result = copy.deepcopy(known)
    for path, value in changes.items():
        *parents, leaf = path.split("__")
        target: Any = result
        for name in parents:
            target = target[name]
        target[leaf] = value
    return result


def halves(card: str) -> tuple[str, str]:
    english, chinese = card.split('<a id="中文"></a>')
    return english.split("---\n", 2)[2], chinese


def matter(card: str) -> dict[str, Any]:
    return dict(yaml.safe_load(card.split("---\n")[1]))


def test_front_matter() -> None:
    card = render_card(facts(), Publication(repo_id="a/b", date="2026-11-22", license="gemma", tags=("arm", "vla")))
    assert matter(card) == {
        "language": ["en", "zh"],
        "license": "gemma",
        "base_model": "lerobot/pi05_base",
        "base_model_relation": "finetune",
        "library_name": "lerobot",
        "pipeline_tag": "robotics",
        "datasets": ["lab/cubes"],
        "tags": ["robotics", "lerobot", "pi05", "vla", "arm"],
    }


def test_front_matter_of_an_adapter() -> None:
    adapter = Publication(repo_id="a/b", date="2026-11-22", adapter_only=True)
    assert front_matter(facts(), adapter)["base_model_relation"] == "adapter"


def test_front_matter_names_only_what_is_certain() -> None:
    unknown = facts(base__name=None, data__name="cubes")
    assert set(matter(render_card(unknown, HERE))) == {"language", "library_name", "pipeline_tag", "tags"}


def test_everything_is_told() -> None:
    for half in halves(render_card(facts(), HERE)):
        for told in (
            *("lerobot/pi05_base", SHA, "0a" * 20, "gemma", "lab/cubes", "cc-by-4.0", "so101_follower", "12,345"),
            *("Some GPU", "2026-11-19", "12 h 00 min", "2.13.0", "48,000", "0.00025", "0.01234", "0.2345", "0.9876"),
            *("41", "50", "82.0 %", "69.2 %", "90.2 %", "2026-11-21", "observation.images.front", "30 Hz", "16", "32"),
            *("lerobot-rollout --policy.path=ada/cubes", "hf download ada/cubes --local-dir policy"),
            *('Policy.load("policy")', "pi05 eval --policy.path=policy --env=tabletop --family=demo", "2026-11-20"),
        ):
            assert told in half, told


UNKNOWN = facts(
    base__name=None,
    base__revision=None,
    base__sha256=None,
    base__license=None,
    base__layout=None,
    data={name: None if name != "folder" else "cubes" for name in facts()["data"]},
    sessions=[],
    evaluations=[],
    policy__fps=None,
    policy__n_action_steps=None,
    policy__full_size=False,
    numbers={**dict.fromkeys(facts()["numbers"]), "dimensions": {}},
    method__trained_total=None,
    method__all_total=None,
    method__ema=None,
    method__preset=None,
    task=None,
)


def test_what_is_unknown_is_called_so() -> None:
    english, chinese = halves(render_card(UNKNOWN, HERE))
    assert "| licence | not stated |" in english
    assert "| licence | not stated in its folder |" in english
    assert "Success in closed loop: not measured in this run." in english
    assert "Not stated by the publisher." in english
    assert "## Hardware\n\nNot recorded." in english
    assert "lerobot-rollout" not in english
    assert english.lower().count("not recorded") == chinese.count("未记录") > 8
    assert english.lower().count("not stated") == chinese.count("未注明") > 5
    for half in (english, chinese):
        assert not re.search(r"\bNone\b|\bnan\b|Undefined", half.replace("None: the", ""))


@pytest.mark.parametrize(
    "told",
    [
        facts(),
        UNKNOWN,
        facts(base=None),
        facts(base__packaged=True),
        facts(policy__relative=True),
        facts(policy__empty_slots=[]),
        facts(method__lora=None, method__name="expert"),
        facts(evaluations=[{**facts()["evaluations"][0], "this": False, "step": None, "policy": "pi05-tiny"}]),
    ],
)
@pytest.mark.parametrize("adapter_only", [False, True])
def test_both_languages_have_the_same_numbers_names_and_tables(told: Facts, adapter_only: bool) -> None:
    card = render_card(told, Publication(repo_id="ada/cubes", date="2026-11-22", adapter_only=adapter_only))
    english, chinese = halves(card)
    for pattern in (r"\d[\d.,]*(?:e-?\d+)?", r"`[^`\n]+`", r"^#+ ", r"^\|", r"^```\w*$"):
        found = [Counter(word.rstrip(".,") for word in re.findall(pattern, half, re.M)) for half in (english, chinese)]
        assert found[0] == found[1], pattern
    assert re.findall(r"```.*?```", english, re.S) == re.findall(r"```.*?```", chinese, re.S)


def test_tables_hold_together() -> None:
    wild = facts(data__robot="a | b\nc", base__license="x|y", data__name=None, data__folder="my|data")
    for half in halves(render_card(wild, HERE)):
        for table in re.findall(r"(?:^\|.*\n)+", half, re.M):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(widths) == 1, table


def test_the_snippet_is_python() -> None:
    compile(snippet(facts(), adapter_only=False), "card", "exec")
    compile(snippet(UNKNOWN, adapter_only=True), "card", "exec")
    assert 'base="base"' in snippet(facts(), adapter_only=True)


def test_relative_actions_run_on_lerobots_real_time_engine() -> None:
    assert "--inference.type=rtc" in render_card(facts(policy__relative=True), HERE)
    assert "--inference.type=rtc" not in render_card(facts(), HERE)


@given(st.text())
def test_no_text_breaks_a_table(text: str) -> None:
    shown = cell(text)
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)\|", shown)


def test_numbers() -> None:
    assert [number(v) for v in (1234567, 30.0, 2.5, 0)] == ["1,234,567", "30", "2.5", "0"]
    assert number(None, "not stated") == "not stated"


def test_the_packaged_base_is_named() -> None:
    found = describe_base({"source": str(TINY_BASE), "layout": "pi05"}, {}, None)
    assert "pi05-tiny, which ships with pi05" in render_card(facts(base=found), HERE)


def test_names_from_data_cannot_write_on_the_card() -> None:
    """Names of cameras, actions and environments come from other people's files."""
    evil = "a`</code>\x1b]52;c;x\x07\u202e|\n# [click](https://evil) <script>``` $(rm -rf) "
    known = facts(task=evil)
    known["policy"]["cameras"] = {"scene": evil}
    known["policy"]["action_names"] = [evil, "gripper"]
    known["evaluations"][0] |= {"env": evil, "family": "$(rm -rf ~)", "environment": evil}
    card = render_card(known, HERE)
    assert not set(card) & set("\x1b\x07\u202e")
    table = [line for line in card.splitlines() if line.startswith("|")]
    assert all("[click](" not in re.sub("`[^`]*`", "", line) for line in table)
    assert all("<script>" not in re.sub("`[^`]*`", "", line).replace("\\\\<", "") for line in table)
    assert not any(line.startswith("# [click]") for line in card.splitlines())
    assert sum(line.startswith("```") for line in card.splitlines()) % 2 == 0
    assert "--family='$(rm -rf ~)'" in card
