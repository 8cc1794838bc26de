"""`pi05 eval --env=libero`: the real simulator in processes of its own, from the command to the report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import fakes
import pytest
from fake_policies import make_libero_policy, save_policy
from libero_here import needs_libero
from report_pages import parse_page

from pi05.cli import main

pytestmark = [needs_libero, pytest.mark.process, pytest.mark.slow]
TASKS = (
    "pick_up_the_alphabet_soup_and_place_it_in_the_basket",
    "pick_up_the_cream_cheese_and_place_it_in_the_basket",
)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    return save_policy(folder / "policy", make_libero_policy(fakes.write_tokenizer(folder / "tokenizer.json")))


def evaluate(policy: Path, output: Path, workers: int, *more: str) -> dict[str, Any]:
    """Evaluate the first two initial states of the first task and the first one of the second, briefly."""
    words = ["eval", f"--policy.path={policy}", "--env=libero", "--suite=libero_object", f"--tasks=[{','.join(TASKS)}]"]
    words += ["--episodes=3", "--max_steps=10", f"--workers={workers}", "--threads=1", f"--output_dir={output}"]
    assert main([*words, *more]) == 0
    return json.loads((output / "results.json").read_text())


def test_the_suite_s_tasks_are_evaluated_by_a_protocol(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(policy, tmp_path / "one", 1)
    printed = capsys.readouterr().out
    assert "libero/libero_object: 3 episodes of 2 tasks, numbers 0 to 1" in printed
    assert "protocol                       openpi; departures from it: 10 steps of an episode instead of 280" in printed
    episodes = found["episodes"]
    assert [(e["task"], e["seed"]) for e in episodes] == [(TASKS[0], 0), (TASKS[1], 0), (TASKS[0], 1)]
    assert [(e["outcome"], e["steps"]) for e in episodes] == [("failure", 10)] * 3
    assert found["unique_starts"] == 3
    assert found["rules"]["n_action_steps"] == 5
    assert found["spent"]["looks"] == 3 * 2
    assert 0.5 < found["memory_per_environment_bytes"] / 2**30 < 4
    assert found["seen"][1]["prompt"].startswith("Task: pick up the cream cheese and place it in the basket, State: ")
    page = parse_page((tmp_path / "one" / "report.html").read_text())
    assert "98.2%" in page.text  # openpi's published rate
    assert "5 (lerobot: 10)" in page.text  # actions from look to look; what LeRobot's protocol does instead
    pictures = [address for address in page.addresses if address.startswith("data:image/")]
    assert len(pictures) == 2 * 2 + 3 * (1 + 3)  # what was seen of two tasks; three films of a clip and three stills
    two = evaluate(policy, tmp_path / "two", 2)
    assert two["episodes"] == episodes


def test_lerobot_s_protocol_has_its_own_seeds_and_a_wrong_rate_is_told(policy: Path, tmp_path: Path) -> None:
    config = json.loads((policy / "config.json").read_text())
    config["processor"]["fps"] = 10.0  # what LIBERO's data sets say
    folder = tmp_path / "policy"
    shutil.copytree(policy, folder)
    (folder / "config.json").write_text(json.dumps(config))
    told = ("--protocol=lerobot", "--episodes=1", "--films=0", "--allow=control-rate")
    told += ("--accept_edited=[processor.fps]",)
    found = evaluate(folder, tmp_path / "out", 1, *told)
    assert found["environment"]["notes"] == ["the policy tells 10 Hz, accepted by --allow=control-rate"]
    assert (found["rules"]["n_action_steps"], found["rules"]["seed"]) == (10, 1000)
    assert found["spent"]["looks"] == 1
