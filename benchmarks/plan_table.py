"""The table of the READMEs: GPU, method, predicted memory, predicted time; nothing in it is measured.

    python benchmarks/plan_table.py

Asks `pi05 plan --json` row by row, writes benchmarks/results/plan_table_DATE.json, and puts the table between the
marks of README.md and README.zh-CN.md. `tests/unit/test_plan_table.py` holds the three together. Which GPUs there are
and what is assumed belongs to `pi05.train.plan`; cards smaller than its smallest are in docs/memory.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pi05
from pi05.commands.plan import plan
from pi05.train.plan.gpus import GIB, GPUS

REPOSITORY = Path(__file__).resolve().parents[1]
PRESET = "--preset=real"
ROWS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("rtx3090", ("--method=lora",)),
    ("rtx4090", ("--method=qlora",)),
    ("rtx4090", ("--method=lora",)),
    ("rtx4090", ("--method=expert",)),
    ("rtx4090", ("--precision=bf16-sr", "--optimizer_state=8bit", "--gradient_release=true")),
    ("rtx5090", ("--method=lora",)),
    ("rtx5090", ("--optimizer_state=8bit", "--gradient_release=true")),
    ("a100-40", ("--optimizer_state=8bit",)),
    ("a100-80", ()),
    ("h100", ()),
    ("h200", ("--activation_checkpointing=none",)),
)
"""What to plan for: a GPU, and the flags behind the preset."""
MARKS = ("<!-- plan-table -->\n", "<!-- /plan-table -->\n")
READMES: dict[str, tuple[str, str, dict[str, str]]] = {
    "README.md": (
        "| GPU | trained | flags behind `--preset=real` | GiB, needed / there | 1,000 steps, predicted |",
        "none",
        {"full": "everything", "expert": "action expert", "lora": "LoRA", "qlora": "QLoRA"},
    ),
    "README.zh-CN.md": (
        "| GPU | 训练方式 | `--preset=real` 之外的参数 | 显存 GiB，需要 / 可用 | 1,000 步，预测 |",
        "无",
        {"full": "全参数", "expert": "仅动作专家", "lora": "LoRA", "qlora": "QLoRA"},
    ),
}
"""By page: the head of the table, the word for no flags, and the names of the methods."""


def main() -> None:
    """Plan every row, write the result and both READMEs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/plan_table_DATE.json")
    arguments = parser.parse_args()
    rows = []
    for gpu, flags in ROWS:
        rows.append(ask(gpu, flags))
        print(gpu, *flags, f"{rows[-1]['needed_gib']:.1f} GiB", flush=True)
    day = date.today().isoformat()
    result = {"date": day, "pi05": pi05.__version__, "preset": PRESET, "measured": False, "rows": rows}
    path = arguments.out or REPOSITORY / "benchmarks" / "results" / f"plan_table_{day}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for page in READMES:
        put(REPOSITORY / page, table(rows, page))


def ask(gpu: str, flags: Sequence[str]) -> dict[str, Any]:
    """Return one row as `pi05 plan --json` gives it. Raises ValueError where the run would not fit."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        plan([PRESET, f"--gpu={gpu}", *flags, "--json"])
    planned = json.loads(printed.getvalue())
    if not planned["fits"]:
        raise ValueError(f"{gpu} {' '.join(flags)} does not fit: {planned['required'] / GIB:.1f} GiB")
    return {
        "gpu": gpu,
        "flags": list(flags),
        "method": planned["method"],
        "batch": planned["batch_per_pass"],
        "peak_gib": round(planned["peak"] / GIB, 3),
        "needed_gib": round(planned["required"] / GIB, 3),
        "available_gib": round(planned["available"] / GIB, 3),
        "seconds_per_1000_steps": round(3_600_000 / planned["steps_per_hour"]),
        "assumed": planned["assumed"],
    }


def table(rows: Sequence[Mapping[str, Any]], page: str) -> str:
    """Return the rows as the table of a page."""
    head, no_flags, methods = READMES[page]
    lines = [head, "|---|---|---|--:|--:|"]
    for row in rows:
        flags = f"`{' '.join(row['flags'])}`" if row["flags"] else no_flags
        memory = f"{row['needed_gib']:.1f} / {row['available_gib']:.1f}"
        gpu = GPUS[row["gpu"]].title.removeprefix("GeForce ")
        cells = (gpu, methods[row["method"]], flags, memory, time(row["seconds_per_1000_steps"]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def time(seconds: float) -> str:
    """Write a time as minutes, or from 100 minutes on as hours."""
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def put(page: Path, text: str) -> None:
    """Replace what stands between the marks of a page."""
    before, rest = page.read_text(encoding="utf-8").split(MARKS[0])
    page.write_text(before + MARKS[0] + text + MARKS[1] + rest.split(MARKS[1])[1], encoding="utf-8")


if __name__ == "__main__":
    main()
