from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fakes
import pytest
from fake_policies import make_policy, save_policy
from report_pages import parse_page

from pi05.cli import main
from pi05.errors import EvaluationError
from pi05.eval.compare import compare, write_comparison


def result(*outcomes: str, family: str = "demo", first: int = 0, **rules: Any) -> dict[str, Any]:
    """Return the parts of results.json that a comparison reads."""
    episodes = [
        {
            "task": None,
            "seed": first + index,
            "outcome": outcome,
            "instruction": f"task {index % 2}",
            "asked": f"task {index % 2}",
            "start": f"{first + index}",
        }
        for index, outcome in enumerate(outcomes)
    ]
    environment = {"name": "tabletop", "family": family}
    return {"episodes": episodes, "environment": environment, "rules": rules, "policy": {"path": "runs/<b>"}}


WON, LOST, BROKEN = "success", "failure", "error"


def test_pairs_are_counted_by_seed_and_errors_left_out() -> None:
    a = result(WON, WON, LOST, LOST, BROKEN, WON)
    b = result(WON, LOST, WON, LOST, WON, WON, WON)
    found = compare(a, b)
    counted = found.outcomes
    assert (counted.both, counted.only_a, counted.only_b, counted.neither) == (2, 1, 1, 1)
    assert (found.left_out, found.unpaired, found.remarks) == (1, 1, ())
    assert sum(part.pairs for part in found.by_instruction.values()) == counted.pairs
    later = compare(a, result(WON, LOST, first=4))
    assert later.outcomes.pairs == 1  # seed 5; at seed 4 the simulator failed for A


def test_the_verdict_says_who_is_better_or_what_would_settle_it() -> None:
    assert compare(result(*[LOST] * 10), result(*[WON] * 10)).verdict == "B is better"
    assert compare(result(*[WON] * 10), result(*[LOST] * 10)).verdict == "A is better"
    close = compare(result(*[WON] * 8, LOST, LOST), result(*[WON] * 9, LOST)).render()
    assert "not settled; about 67 more episodes would settle a difference of this size" in close
    equal = compare(result(*[WON] * 10), result(*[WON] * 10)).verdict
    assert equal.startswith("not settled; ")
    assert "would show a difference of 5 points" in equal


def test_what_is_not_the_same_for_both_is_told_or_refused() -> None:
    a, b = result(WON, WON, n_action_steps=5), result(WON, WON, n_action_steps=10)
    b["episodes"][1]["start"] = "other"
    b["episodes"][0]["asked"] = "else"
    assert compare(a, b).remarks == (
        "n_action_steps is 5 for A and 10 for B",
        "1 of 2 pairs do not begin with the same pictures: another simulator, version or GPU?",
        "A and B were not asked for the same in each pair",
    )
    for other in (result(WON, family="base"), result(WON, first=9), result(BROKEN)):
        with pytest.raises(EvaluationError, match="no episode in common"):
            compare(result(WON), other)


def test_the_page_shows_both(tmp_path: Path) -> None:
    found = compare(result(WON, LOST, LOST), result(WON, WON, LOST))
    page = parse_page(write_comparison(found, tmp_path).read_text())
    assert "B less A: +33.3 points" in page.text
    assert "runs/<b>" in page.text
    assert "B: task 1" in page.text
    plain = json.loads((tmp_path / "comparison.json").read_text())
    assert plain["pairs"] == 3
    assert plain["difference"] == pytest.approx(1 / 3)
    assert plain["by_instruction"]["task 1"]["only_b"] == 1


def test_the_command_evaluates_policies_and_takes_what_is_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = fakes.write_tokenizer(tmp_path / "tokenizer.json")
    a, b = (save_policy(tmp_path / name, make_policy(tokenizer, seed=seed)) for seed, name in enumerate("ab"))
    flags = ["--episodes=2", "--policy.n_action_steps=10", "--films=0", "--threads=1", "--max_steps=10"]
    out = tmp_path / "out"
    assert main(["eval", "--compare", str(a), str(b), f"--output_dir={out}", *flags]) == 0
    printed = capsys.readouterr().out
    assert "2 episodes in common" in printed
    assert "exact McNemar test             p = 1" in printed
    assert sorted(path.name for path in out.iterdir()) == ["a", "b", "comparison.html", "comparison.json"]
    monkeypatch.chdir(tmp_path)
    assert main(["eval", f"--compare={out / 'a'}", str(out / "b")]) == 0
    assert (tmp_path / "outputs" / "compare-1" / "comparison.html").exists()
    again = json.loads((tmp_path / "outputs" / "compare-1" / "comparison.json").read_text())
    assert again == json.loads((out / "comparison.json").read_text())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--compare=a"], "--compare takes two"),
        (["--compare", "a", "b", "c"], "--compare takes two"),
        (["--compare", "a", "b", "--policy.path=c"], "given without --policy.path"),
        (["--compare", "a", "b", "--episodes=auto"], "a number of episodes that is fixed beforehand"),
    ],
)
def test_what_cannot_be_compared_is_refused(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", *words]) == 2
    assert told in capsys.readouterr().err
