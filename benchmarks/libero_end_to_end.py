"""From scripted demonstrations to a policy in LIBERO: the chain of `pi05 demo --env=libero` with its settings as flags.

    python benchmarks/libero_end_to_end.py --tasks salad_dressing alphabet_soup ketchup --demonstrations 90 --steps 4000
    python benchmarks/libero_end_to_end.py --of outputs/libero-demo
    python benchmarks/libero_end_to_end.py --tasks all --base /path/to/pi05_base --demonstrations 50

Writes benchmarks/results/libero_end_to_end_DATE.json whatever comes out: successes and episodes of each task, the
controls (base, black pictures, another object asked for), the held-out error while training, the time of each stage.
The folder of the chain, with its pages and films, is --output.
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

from pi05.demo.libero import LiberoPlan, run_libero_demo
from pi05.machine import machine_info
from pi05.sim.libero.tasks import tasks_of

HERE = Path(__file__).parent
NAME = "pick_up_the_{}_and_place_it_in_the_basket"


def main() -> None:
    """Run the chain and write its result."""
    plan = LiberoPlan()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", nargs="+", help="objects of libero_object, or all")
    parser.add_argument("--demonstrations", type=int, default=plan.demonstrations_per_task, help="of each task")
    parser.add_argument("--mixed-share", type=float, default=plan.mixed_share, help="asked for another task's object")
    parser.add_argument("--steps", type=int, default=plan.steps)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--hold", type=int, default=plan.hold)
    parser.add_argument("--image-size", type=int, default=plan.image_size)
    parser.add_argument("--n-action-steps", type=int, default=plan.n_action_steps)
    parser.add_argument("--episodes", type=int, default=plan.episodes_per_task, help="of each task")
    parser.add_argument("--control-episodes", type=int, default=plan.control_episodes_per_task, help="of each task")
    parser.add_argument("--workers", type=int, default=plan.workers)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--base", type=Path, default=plan.base)
    parser.add_argument("--data", type=Path, help="demonstrations of an earlier chain with the same settings")
    parser.add_argument("--output", type=Path, default=Path("outputs/libero-end-to-end"))
    parser.add_argument("--of", type=Path, help="folder of a chain that has been run (`make libero-demo`): only write")
    parser.add_argument("--note", action="append", default=[], help="what a reader of the result has to know")
    newest = HERE / "results" / f"libero_end_to_end_{date.today().isoformat()}.json"
    parser.add_argument("--to", type=Path, default=newest, help="file of the result")
    given = parser.parse_args()
    if given.of is not None:
        write(given.of, given.note, given.to)
        return
    plan = LiberoPlan(
        tasks=_tasks(given.tasks) if given.tasks else plan.tasks,
        demonstrations_per_task=given.demonstrations,
        mixed_share=given.mixed_share,
        hold=given.hold,
        image_size=given.image_size,
        steps=given.steps,
        learning_rate=given.learning_rate,
        n_action_steps=given.n_action_steps,
        episodes_per_task=given.episodes,
        control_episodes_per_task=given.control_episodes,
        workers=given.workers,
        base=given.base,
        data=given.data,
    )
    result = run_libero_demo(given.output, given.seed, given.threads, plan=plan)
    write(result.folder, given.note, given.to)


def write(folder: Path, notes: list[str], path: Path) -> None:
    """Write the result of a chain's folder."""
    found = {"date": date.today().isoformat(), "machine": machine_info(), "notes": notes} | _result(folder)
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"wrote {path}")


def _tasks(objects: list[str]) -> tuple[str, ...]:
    if objects == ["all"]:
        return tuple(task.name for task in tasks_of("libero_object"))
    return tuple(NAME.format(name) for name in objects)


def _result(folder: Path) -> dict[str, Any]:
    """Put together what the chain has written."""
    evaluations = {}
    for name in ("eval", "eval-base", "eval-blank", "eval-swapped"):
        found = json.loads((folder / name / "results.json").read_text())
        evaluations[name] = {
            key: found[key] for key in ("success", "swapped_success", "by_instruction", "unique_starts", "lengths")
        } | {"wall_s": found["wall_s"], "time": found["time"], "rules": found["rules"]}
        evaluations[name]["moved"] = [
            {"asked": one["asked"], "moved": one["moved"], "outcome": one["outcome"]} for one in found["episodes"]
        ]
    records = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    curve = [record for record in records if record["type"] == "eval"]
    return json.loads((folder / "demo.json").read_text()) | {"evaluations": evaluations, "learning_curve": curve}


if __name__ == "__main__":
    main()
