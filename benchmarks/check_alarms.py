"""How often each finding of `pi05 check` fires on sound data: the rate of false alarms.

    python benchmarks/check_alarms.py --sets 100

Sound sets: the real ones of `../shared/datasets` (the robot of Dobot in both versions, GR1's arms and hands), table-top
sets collected on the fly, LIBERO where --libero names a folder of such sets, and 100 made-up ones of random robots,
rates, units and lengths (`random_robots.py`). Each is checked as `pi05 check SET` does, with the recipe that it would
be trained with (table-top: --preset=tiny); made-up ones that are not filmed list a camera that is not opened, and are
checked as with --quick, so that the recipe is looked at in all of them. The real sets have faults that their sources
publish or that were found in them by hand; these findings are true, listed in TRUE, and counted apart.

The bar: no error, and under one warning per set on average. Writes benchmarks/results/check_alarms_DATE.json anew after
every set, so that what was looked at counts when it is ended early.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from random_robots import draw_robot, write_filmed_set, write_set
from rich.console import Console

from pi05.check.fix.repair import repair
from pi05.finding import Finding
from pi05.machine import machine_info

SHARED = Path(__file__).resolve().parents[2] / "shared" / "datasets"
TRUE: dict[str, tuple[str, ...]] = {
    "cr5": ("numbers.stale_first", "numbers.noise", "numbers.idle", "language.underscores", "numbers.jumps"),
}
"""Findings that are true: of the real sets what `killers_measured.md` found in CR5 by
hand (stale first frames and jumps after them, actions that are noise, rests, one prompt with an underscore)."""
ARM = range(22, 35)
"""Right arm and hand of GR1: its 44 dimensions are more than the 32 of the network, so that all of them are refused."""
GHOST = "observation.images.egoview"
"""The camera without files that GR1's source publishes."""
MOST_EPISODES, MOST_SECONDS = 30, 15.0
"""Of made-up sets: their pictures are encoded."""


def main() -> None:
    """Check every set, count, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=100, help="made-up sets")
    parser.add_argument("--filmed", type=int, default=50, help="made-up sets that have pictures; the others have none")
    parser.add_argument("--tabletop", type=int, default=3, help="table-top sets, of 12, 24, 36 … demonstrations")
    parser.add_argument("--libero", type=Path, nargs="*", default=[], help="folders of LIBERO sets")
    arguments = parser.parse_args()
    rows, begun = list[dict[str, Any]](), time.process_time()
    result: dict[str, Any] = {}
    path = Path()
    for name, kind, found in look(arguments):
        to_mend = [finding for finding in found if finding.to_mend]
        true = [f for f in to_mend if f.name in TRUE.get(kind, ())]
        false = [f for f in to_mend if f not in true]
        rows.append({"set": name, "kind": kind, "true": plain(true), "false": plain(false), "names": names(found)})
        print(name, [(f.name, f.status) for f in false], flush=True)
        seconds = round(time.process_time() - begun)
        result = {"date": date.today().isoformat(), "machine": machine_info(), "cpu_seconds": seconds, **summary(rows)}
        path = Path(__file__).parent / "results" / f"check_alarms_{result['date']}.json"
        path.write_text(json.dumps({**result, "sets": rows}, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps({key: result[key] for key in ("count", "errors", "warnings_per_set", "rates")}, indent=2))
    print(path)


def names(findings: list[Finding]) -> list[str]:
    """Return the names of all that was found, notes included, once each."""
    return sorted({finding.name for finding in findings if finding.status != "ok"})


def plain(findings: list[Finding]) -> list[list[str]]:
    """Return name, status and text of findings."""
    return [[finding.name, finding.status, finding.text] for finding in findings]


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return counts over all sets; the rate of a finding is the share of sets on which it fires."""
    fired = Counter(name for row in rows for name in row["names"])
    alarms = [entry for row in rows for entry in row["false"]]
    return {
        "count": len(rows),
        "errors": sum(entry[1] == "error" for entry in alarms),
        "warnings_per_set": round(sum(entry[1] == "warning" for entry in alarms) / len(rows), 3),
        "false_alarms": dict(Counter(entry[0] for entry in alarms).most_common()),
        "true_findings": dict(Counter(entry[0] for row in rows for entry in row["true"]).most_common()),
        "rates": {name: round(count / len(rows), 3) for name, count in fired.most_common()},
    }


def look(arguments: argparse.Namespace) -> Iterator[tuple[str, str, list[Finding]]]:
    """Yield name, kind and findings of every set."""
    for folder in ("cr5_v21_5ep", "cr5_v30_5ep_multifile_quantiles", "cr5_v30_5ep_onefile"):
        if (SHARED / folder).is_dir():
            yield folder, "cr5", check([str(SHARED / folder)])
    if (SHARED / "gr1_sim_v20_5ep").is_dir():
        with tempfile.TemporaryDirectory() as folder:
            yield "gr1_sim_v20_5ep, right arm", "gr1", check([str(gr1_arm(Path(folder) / "gr1"))])
    for root in arguments.libero:
        yield root.name, "libero", check([str(root), "--preset=sim"])
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.tabletop):
            root = Path(folder) / f"tabletop_{number}"
            flags = [f"--episodes={12 * (number + 1)}", f"--seed={1000 * number}", f"--output={root}"]
            subprocess.run([sys.executable, "-m", "pi05", "collect", *flags], check=True, capture_output=True)
            yield root.name, "table-top", check([str(root), "--preset=tiny"])
    for seed in range(arguments.sets):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / f"made_up_{seed}"
            rng = np.random.default_rng([seed, 3])
            episodes, seconds = int(rng.integers(4, MOST_EPISODES)), float(rng.uniform(4, MOST_SECONDS))
            robot = draw_robot(seed, episodes=episodes, seconds=seconds)
            if seed < arguments.filmed:
                write_filmed_set(robot, root, cameras=int(rng.integers(1, 3)))
                yield root.name, "made-up", check([str(root)])
            else:
                write_set(robot, root, unseen_camera=True)
                yield root.name, "made-up, not filmed", check([str(root)], quick=True)


def gr1_arm(out: Path) -> Path:
    """Write GR1's set with its right arm and hand alone, without the camera that has no files."""
    repair(SHARED / "gr1_sim_v20_5ep", out, drop_cameras=[GHOST])
    for path in sorted((out / "data").rglob("*.parquet")):
        table = pq.read_table(path)
        for name in ("observation.state", "action"):
            values = np.array(table[name].to_pylist())[:, ARM]
            table = table.set_column(table.column_names.index(name), name, pa.array(list(values)))
        pq.write_table(table, path)
    info = json.loads((out / "meta" / "info.json").read_text())
    for name in ("observation.state", "action"):
        feature = info["features"][name]
        info["features"][name] = {**feature, "shape": [len(ARM)], "names": [feature["names"][k] for k in ARM]}
    (out / "meta" / "info.json").write_text(json.dumps(info))
    return out


def check(words: list[str], *, quick: bool = False) -> list[Finding]:
    """Run all checks in this process, or those that open no picture."""
    from pi05.check.examine import examine
    from pi05.commands.check import CHECK_FLAGS
    from pi05.commands.train import read_training_settings
    from pi05.train.checked.subject import open_subject

    request, _ = read_training_settings(words, CHECK_FLAGS, word="dataset.root")
    subject, findings = open_subject(request.config, Console(quiet=True))
    return findings if subject is None else [*findings, *examine(subject, quick=quick)]


if __name__ == "__main__":
    main()
