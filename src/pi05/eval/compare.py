"""`pi05 eval --compare A B`: two policies over the same episodes, as a table and a page.

Either is a policy, which is evaluated, or the folder of an evaluation. Episodes are pairs when task and seed are the
same; those in which the simulator failed for either are left out. Leaves out the statistics (`paired.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pi05.errors import EvaluationError
from pi05.eval.company import launched
from pi05.eval.config import EvalConfig
from pi05.eval.evaluate import evaluate_policy
from pi05.eval.paired import PairedOutcomes
from pi05.eval.rate_charts import rate_bars
from pi05.eval.report import RESULTS, fresh_folder
from pi05.files import read_json, write_atomic, write_json
from pi05.pages.page import render_page

COMPARISON, PAGE = "comparison.json", "comparison.html"
FIVE_POINTS = 0.05
COMPARED = ("protocol", "n_action_steps", "max_steps", "seed")
"""Rules that change a rate; differences are told."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What came of two policies in the same episodes."""

    a: Mapping[str, Any]
    b: Mapping[str, Any]
    outcomes: PairedOutcomes
    by_instruction: Mapping[str, PairedOutcomes]
    left_out: int
    """Pairs in which the simulator failed for either."""
    unpaired: int
    """Episodes of one that the other has not."""
    remarks: tuple[str, ...]

    def render(self) -> str:
        """Return the comparison as the lines that the command prints."""
        found, (low, high) = self.outcomes, self.outcomes.interval
        lines = [
            f"A  {self.a['policy']['path']}: {found.a.render()}",
            f"B  {self.b['policy']['path']}: {found.b.render()}",
            f"{found.pairs} episodes in common: both succeed in {found.both}, only A in {found.only_a}, only B in "
            f"{found.only_b}, neither in {found.neither}",
            f"B less A                       {100 * found.difference:+.1f} points (95 %: {100 * low:+.1f} to "
            f"{100 * high:+.1f})",
            f"exact McNemar test             p = {found.p_value:.3g}: {self.verdict}",
        ]
        if self.left_out:
            lines.append(f"left out                       {self.left_out} pairs, in which the simulator failed")
        if self.unpaired:
            lines.append(f"without a partner              {self.unpaired} episodes")
        return "\n".join([*lines, *(f"warning: {remark}" for remark in self.remarks)])

    @property
    def verdict(self) -> str:
        """What the test says, and how many episodes would settle what it does not."""
        found = self.outcomes
        if found.settled:
            return f"{'B' if found.difference > 0 else 'A'} is better"
        needed, wide = found.episodes_for(found.difference), found.episodes_for(FIVE_POINTS)
        told = f"{wide:,} episodes would show a difference of 5 points"
        if needed is not None:
            more = max(0, needed - found.pairs)
            told = f"about {more:,} more episodes would settle a difference of this size; {told}"
        return f"not settled; {told}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "format": "pi05-comparison",
            "format_version": 1,
            "a": _about(self.a),
            "b": _about(self.b),
            **self.outcomes.to_dict(),
            "episodes_for_five_points": self.outcomes.episodes_for(FIVE_POINTS),
            "verdict": self.verdict,
            "by_instruction": {name: found.to_dict() for name, found in self.by_instruction.items()},
            "left_out": self.left_out,
            "unpaired": self.unpaired,
            "remarks": list(self.remarks),
        }


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> Comparison:
    """Compare two results (`results.json`). Raises EvaluationError when they have no episode in common."""
    places = [f"{r['environment']['name']}/{r['environment']['family']}" for r in (a, b)]
    first, second = ({(e.get("task"), e["seed"]): e for e in result["episodes"]} for result in (a, b))
    common = sorted(set(first) & set(second), key=lambda key: (key[1], key[0] or ""))
    pairs = [(first[key], second[key]) for key in common]
    counted = [pair for pair in pairs if "error" not in (pair[0]["outcome"], pair[1]["outcome"])]
    if places[0] != places[1] or not counted:
        raise EvaluationError(
            "these two evaluations have no episode in common",
            wanted="the same environment, and the same seeds",
            found=f"{places[0]} with {len(first)} episodes and {places[1]} with {len(second)}",
            remedy="evaluate both with the same --env, --suite, --family, --tasks, --seed and --episodes",
        )
    names = sorted({one["instruction"] for one, _ in counted})
    return Comparison(
        a=a,
        b=b,
        outcomes=_outcomes(counted),
        by_instruction={name: _outcomes([p for p in counted if p[0]["instruction"] == name]) for name in names},
        left_out=len(pairs) - len(counted),
        unpaired=len(set(first) ^ set(second)),
        remarks=tuple(_remarks(a, b, counted)),
    )


def _outcomes(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> PairedOutcomes:
    won = [(one["outcome"] == "success", other["outcome"] == "success") for one, other in pairs]
    return PairedOutcomes(
        both=won.count((True, True)),
        only_a=won.count((True, False)),
        only_b=won.count((False, True)),
        neither=won.count((False, False)),
    )


def _remarks(
    a: Mapping[str, Any], b: Mapping[str, Any], pairs: list[tuple[dict[str, Any], dict[str, Any]]]
) -> list[str]:
    rules = [result.get("rules", {}) for result in (a, b)]
    remarks = [
        f"{name} is {rules[0].get(name)} for A and {rules[1].get(name)} for B"
        for name in COMPARED
        if rules[0].get(name) != rules[1].get(name)
    ]
    starts = [(one.get("start"), other.get("start")) for one, other in pairs]
    unlike = sum(one is not None and other is not None and one != other for one, other in starts)
    if unlike:
        remarks.append(
            f"{unlike} of {len(pairs)} pairs do not begin with the same pictures: another simulator, version or GPU?"
        )
    if any(one["asked"] != other["asked"] for one, other in pairs):
        remarks.append("A and B were not asked for the same in each pair")
    return remarks


def _about(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: result.get(name) for name in ("policy", "environment", "rules", "date", "machine")}


def compare_policies(config: EvalConfig, a: str, b: str) -> Comparison | None:
    """Evaluate what is not evaluated yet, compare, and write comparison.json and .html; None: another process does.

    Raises EvaluationError, also for two finished evaluations of which one cannot be read.
    """
    if config.episodes == "auto":
        raise EvaluationError(
            "two policies are compared over a number of episodes that is fixed beforehand",
            found="--episodes=auto",
            remedy="give a number; the comparison says how many more would settle it",
        )
    rank, size = launched()
    ready = all((Path(path) / RESULTS).is_file() for path in (a, b))
    if config.output_dir is not None:
        folder = Path(config.output_dir)
    elif size > 1:
        raise EvaluationError("several processes need to know where", remedy="add --output_dir=FOLDER")
    else:
        folder = fresh_folder(Path("outputs"), "compare")
    results = [_result(config, path, folder / name) for path, name in ((a, "a"), (b, "b"))]
    if rank != 0:
        return None
    comparison = compare(*results)
    if not ready or config.output_dir is None or not (folder / COMPARISON).exists():
        write_comparison(comparison, folder)
        return comparison
    raise EvaluationError(
        "the output folder holds a comparison already",
        found=str(folder / COMPARISON),
        remedy="choose another --output_dir, or remove that folder",
    )


def _result(config: EvalConfig, path: str, output: Path) -> dict[str, Any]:
    if (Path(path) / RESULTS).is_file():
        return read_json(Path(path) / RESULTS)
    if not (config.resume and (output / RESULTS).is_file()):
        policy = replace(config.policy, path=path)
        evaluate_policy(replace(config, policy=policy, compare=None, output_dir=str(output)))
    return read_json(output / RESULTS)


def write_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write the page and the numbers; return the path of the page."""
    bars = [("A, all", comparison.outcomes.a), ("B, all", comparison.outcomes.b)]
    for name, found in comparison.by_instruction.items():
        bars += [(f"A: {name}", found.a), (f"B: {name}", found.b)]
    page = render_page("comparison.html", comparison=comparison, found=comparison.outcomes, chart=rate_bars(bars))
    write_atomic(folder / PAGE, page.encode())
    write_json(folder / COMPARISON, comparison.to_dict())
    return folder / PAGE
