"""What fewer denoising steps cost in success: the packaged policy on the table-top simulator's own tasks.

    python benchmarks/few_steps.py
    python benchmarks/few_steps.py --num-steps 10,2 --episodes 1000 --checkpoint RUN --family base

Each number of steps goes over the same episodes, from the same noise, and is compared with the first one, episode by
episode. How much time a step takes is `inference.py`'s business. The result, written after each of them, goes to
benchmarks/results/few_steps_DATE.json; numbers of steps that a file of that day has with the same settings are kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from pi05.eval.config import EvalConfig
from pi05.eval.evaluate import evaluate_policy
from pi05.eval.paired import PairedOutcomes
from pi05.eval.result import SuccessRate
from pi05.machine import machine_info
from pi05.policy_choice import ChosenPolicy

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGED = "src/pi05/assets/pi05-tiny"


def main() -> None:
    """Parse the arguments, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-steps", default="10,5,3,2,1", help="separated by commas; the first is compared with")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--checkpoint", default=PACKAGED)
    parser.add_argument("--family", default="base", help="tasks of the table-top simulator")
    parser.add_argument("--out", type=Path, help="by default benchmarks/results/few_steps_DATE.json")
    arguments = parser.parse_args()
    target = arguments.out or REPOSITORY / "benchmarks" / "results" / f"few_steps_{date.today().isoformat()}.json"
    settings = {name: getattr(arguments, name) for name in ("episodes", "checkpoint", "family")}
    known = json.loads(target.read_text()) if target.exists() else {}
    rows: dict[str, Any] = known["num_steps"] if known.get("settings") == settings else {}
    first, *_ = counts = arguments.num_steps.split(",")
    for count in counts:
        rows[count] = rows.get(count) or evaluate(int(count), arguments)
        if count != first:
            rows[count][f"against_{first}"] = compare(rows[first]["succeeded"], rows[count]["succeeded"]).to_dict()
        found = {"date": date.today().isoformat(), "machine": machine_info(), "settings": settings, "num_steps": rows}
        target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{count:>3} steps  {SuccessRate(**rows[count]['counted']).render()}", flush=True)


def evaluate(count: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the successes of one number of steps, episode by episode."""
    policy = ChosenPolicy(path=str(REPOSITORY / arguments.checkpoint), num_inference_steps=count)
    config = EvalConfig(policy=policy, family=arguments.family, episodes=arguments.episodes, films=0, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        result = evaluate_policy(replace(config, output_dir=folder), console=False)
    if result.errors:
        raise RuntimeError(f"{len(result.errors)} episodes ended as simulator exceptions")
    rate = result.success
    return {
        "counted": {"successes": rate.successes, "trials": rate.trials},
        "wilson_95": list(rate.interval),
        "succeeded": "".join("1" if episode.outcome == "success" else "0" for episode in result.counted),
    }


def compare(a: str, b: str) -> PairedOutcomes:
    """Return in how many episodes both, one or none succeeded; each is a digit."""
    pairs = list(zip(a, b, strict=True))
    both, only_a, only_b, neither = (pairs.count((x, y)) for x, y in (("1", "1"), ("1", "0"), ("0", "1"), ("0", "0")))
    return PairedOutcomes(both=both, only_a=only_a, only_b=only_b, neither=neither)


if __name__ == "__main__":
    main()
