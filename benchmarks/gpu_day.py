"""Measure on one GPU, in eight minutes, what the planner and the decision records only predict.

    python benchmarks/gpu_day.py [--rehearse] [--only PART ...] [--out FILE]

Parts run in the order of what they settle; each result is written when its part is done, a part that fails leaves its
error and the others go on. An error after which the device answers nothing any more (an illegal address, say) ends the
process, and a fresh one takes the other parts. `--only` runs some parts, and leaves what the same file has of others,
where GPU and versions are the same. No base and no data set: weights are drawn on the device. `--rehearse` runs the
same program with the tiny network on a CPU. Writes benchmarks/results/gpu_day_NAME.json; `gpu_compare.py` puts
predictions beside it.
Leaves out the parts themselves (`gpu_parts.py`, `gpu_attention.py`, `gpu_update.py`) and building a run (`gpu_run.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from datetime import date
from pathlib import Path
from typing import Any

from pi05.train.device.setup import prepare_environment

prepare_environment(deterministic=True)  # before torch: cuBLAS and the allocator read it once

import torch  # noqa: E402 - after the environment
from gpu_attention import attention_table  # noqa: E402
from gpu_parts import PARTS, Part  # noqa: E402
from gpu_run import Bench  # noqa: E402

import pi05  # noqa: E402
from pi05.machine import machine_info  # noqa: E402

LOST = "device_lost"
"""Of a part's result: whether the device answers nothing any more."""
CUT_SHORT = "cut short: Ctrl-C, or the eight minutes are over"
RESULTS = Path(__file__).parent / "results"
ORDER: dict[str, Part] = {"machine": PARTS["machine"], "attention": attention_table, **PARTS}
"""Parts by name, the most telling first."""


def main() -> int:
    """Run the parts; return 2 where there is nothing to run on."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rehearse", action="store_true", help="the tiny network on a CPU")
    parser.add_argument("--only", nargs="+", choices=sorted(ORDER), default=list(ORDER))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if not arguments.rehearse and not torch.cuda.is_available():
        print("no GPU is here: --rehearse runs the same program with the tiny network", file=sys.stderr)
        return 2
    bench = Bench.here(rehearse=arguments.rehearse)
    name = "rehearsal" if arguments.rehearse else bench.gpu.name.lower().replace(" ", "_")
    path = arguments.out or RESULTS / f"gpu_day_{name}_{date.today().isoformat()}.json"
    result = begin(path, bench)
    before, started = result["seconds"], time.monotonic()
    wanted = [each for each in ORDER if each in arguments.only]
    for index, part in enumerate(wanted):
        told = run_part(ORDER[part], bench)
        result["parts"][part] = told
        result["seconds"] = round(before + time.monotonic() - started, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")
        fate = f"FAILED: {told['error']}" if "error" in told else "done"
        print(f"{part}: {fate} after {told['seconds']:.1f} s, {result['seconds']:.0f} s in all", flush=True)
        if told.get("error") == CUT_SHORT:
            break
        if told.get(LOST) and wanted[index + 1 :]:
            start_anew(wanted[index + 1 :], path, arguments.rehearse)
    print(f"written: {path}")
    return 0


def begin(path: Path, bench: Bench) -> dict[str, Any]:
    """Return a result without parts, or with those that the file has already of the same GPU, day and versions."""
    result = {
        "what": "measured" if bench.on_gpu else "the tiny network on a CPU: a rehearsal, no measurement",
        "gpu": vars(bench.gpu),
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "versions": {"pi05": pi05.__version__, "torch": torch.__version__, "cudnn": torch.backends.cudnn.version()},
        "seconds": 0.0,
        "parts": {},
    }
    if path.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        plain = json.loads(json.dumps(result, default=str))
        if all(earlier.get(key) == plain[key] for key in ("what", "gpu", "date", "versions")):
            result |= {key: earlier[key] for key in ("seconds", "parts")}
    return result


def start_anew(parts: list[str], path: Path, rehearse: bool) -> None:
    """Take the other parts in a fresh process, in the place of this one: what watches it goes on."""
    print(f"the device answers no more: a fresh process takes {', '.join(parts)}", flush=True)
    words = [sys.executable, __file__, *["--rehearse"] * rehearse, "--out", str(path), "--only", *parts]
    os.execv(sys.executable, words)


def run_part(part: Part, bench: Bench) -> dict[str, Any]:
    """Run one part; whatever it raises is its result."""
    started = time.monotonic()
    try:
        found = part(bench)
    except KeyboardInterrupt:
        found = {"error": CUT_SHORT}
    except Exception as error:  # the other parts are worth having
        found = {"error": told_of(error), "trace": traceback.format_exc(limit=-4)}
    try:
        bench.wait()
        bench.clean()
    except Exception as error:  # of the device, whatever it did before: nothing more will come of this process
        found = {"error": told_of(error), **found, LOST: True}
    return {**found, "seconds": round(time.monotonic() - started, 2)}


def told_of(error: Exception) -> str:
    """Return an error as one line."""
    return (f"{type(error).__name__}: {error}".splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    sys.exit(main())
