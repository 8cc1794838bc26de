"""Write the numbers of the documentation anew: from `benchmarks/results`, from the settings, from the network.

    python benchmarks/docs_tables.py            # rewrite what differs
    python benchmarks/docs_tables.py --check    # say what differs, and fail

A table between `<!-- table: NAME -->` and `<!-- /table -->` is found in whatever page it stands. Its words are the
page's own (labels, sources, either language); its numbers come from here, row by row, each with as many decimals as the
page gives it. A row that this program does not know is an error. `SENTENCES` holds numbers in running text, `#` for
each: a sentence that no page has is an error too. Numbers without a result file (one-off measurements in `docs/LOG.md`,
the parity of `docs/model.md`, which its tests bound) are not written here.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import rivals_table
import torch

from pi05 import presets
from pi05.demo.tabletop import DemoPlan
from pi05.model.config import pi05, tiny
from pi05.model.pi05 import Pi05
from pi05.settings.schema import walk
from pi05.train.config import PeftConfig, PolicyConfig, TrainConfig
from pi05.train.lora import plan_lora
from pi05.train.parallel.kind import World
from pi05.train.parameters import count_groups
from pi05.train.plan.memory import CUDA_CONTEXT, FRAGMENTATION
from pi05.train.plan.report import print_plan

Row = list[str]
REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
PAGES = [*sorted(REPOSITORY.glob("README*.md")), *sorted((REPOSITORY / "docs").rglob("*.md"))]
CARDS = (8, 12, 16, 24, 32, 40, 80, 141)
"""Sizes of GPUs in GB, as they are sold; up to 0.9 GiB of them cannot be used (`train/plan/gpus.py`)."""
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n)(.*?)(<!-- /table -->)", re.S)


def main() -> int:
    """Rewrite the pages, or say which ones differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check, different = parser.parse_args().check, 0
    for page, text in generated({page: page.read_text(encoding="utf-8") for page in PAGES}).items():
        if text != page.read_text(encoding="utf-8"):
            different += 1
            print(f"{'differs' if check else 'written'}: {page.relative_to(REPOSITORY)}")
            if not check:
                page.write_text(text, encoding="utf-8")
    return int(check and different > 0)


def generated(pages: dict[Path, str], left_out: frozenset[str] = frozenset()) -> dict[Path, str]:
    """Return the pages with their tables, but for some, and their sentences written anew."""
    written, found = {}, set()
    for page, text in pages.items():
        found |= {name for _, name, _, _ in MARKED.findall(text)}
        written[page] = MARKED.sub(lambda m: m[0] if m[2] in left_out else m[1] + table(m[2], m[3]) + m[4], text)
    if wrong := found ^ set(TABLES):
        raise ValueError(f"tables without a marker in the pages, or without a function here: {sorted(wrong)}")
    for words, values in SENTENCES.items():
        pattern = re.compile(re.escape(words).replace(r"\#", f"({NUMBER.pattern})").replace(r"\ ", r"\s"))
        hits = [page for page, text in written.items() if pattern.search(text)]
        if not hits:
            raise ValueError(f"no page says: {words}")
        for page in hits:
            numbers = values()
            written[page] = pattern.sub(lambda m: fill(m[0], *numbers, among=m.groups()), written[page])  # noqa: B023
    return written


def table(name: str, text: str) -> str:
    """Return a table with its numbers written anew."""
    lines = text.splitlines(keepends=True)
    for index, line in enumerate(lines[2:], start=2):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        try:
            written = TABLES[name](cells)
        except (KeyError, StopIteration, IndexError) as error:
            raise ValueError(f"the table {name} has a row that is not known: {line}") from error
        if written != cells:
            lines[index] = f"| {' | '.join(written)} |\n"
    return "".join(lines)


def fill(text: str, *values: float, among: tuple[str, ...] | None = None) -> str:
    """Put values in the place of the numbers of a text, each with the decimals that stand there."""
    places = [match for match in NUMBER.finditer(text) if among is None or match[0] in among]
    if len(places) != len(values):
        raise ValueError(f"{len(values)} numbers are known for: {text}")
    for place, value in reversed([*zip(places, values, strict=True)]):
        comma = "," if "," in place[0] else ""
        text = text[: place.start()] + f"{value:{comma}.{len(place[0].partition('.')[2])}f}" + text[place.end() :]
    return text


@cache
def newest(name: str, part: str = "") -> Any:
    """Return the newest result of a benchmark, or the newest in which a `part` is not empty."""
    for path in sorted(RESULTS.glob(f"{name}_????-??-??.json"), reverse=True):
        result = json.loads(path.read_text())
        if not part or result[part]:
            return result
    raise FileNotFoundError(f"no result of benchmarks/{name}.py{f' with {part}' * bool(part)}")


@cache
def network(size: Callable[[], Any] = pi05) -> Pi05:
    """Return a network without values."""
    with torch.device("meta"):
        return Pi05(size())


# --- settings, presets, sizes -----------------------------------------------------------------------------------------


def _defaults(cells: Row) -> Row:
    flag = re.fullmatch(r"`--([\w.]+)`", cells[0])
    if flag is None:
        return cells
    value = {setting.path: setting.default for setting in walk(TrainConfig)}.get(flag[1])
    if value is None:
        return cells
    shown = list(value) if isinstance(value, tuple) else value
    return [cells[0], str(shown).lower() if isinstance(shown, bool) else str(shown), *cells[2:]]


def _presets_of_training(cells: Row) -> Row:
    runs = [presets.tiny(), presets.demo(), presets.sim(), presets.real()]
    rows: dict[str, Callable[[TrainConfig], str]] = {
        "batch": lambda run: (
            f"{run.samples_per_step()} in total, in {run.gradient_accumulation_steps} passes"
            if run.global_batch_size
            else str(run.batch_size)
        ),
        "steps": lambda run: f"{run.steps:,}",
        "learning rate": lambda run: re.sub(r"\.?0*e-0?", "e-", f"{run.learning_rate:e}"),
        "flow draws": lambda run: str(run.flow_samples),
        "chunk, executed": _chunk,
        "EMA": lambda run: str(run.ema.decay) if run.ema.enable else "off",
        "augmentation": lambda run: ("off", "on")[run.augment],
        "prompt": lambda run: run.prompt_format or "state",  # the small presets take their base's
        "precision": lambda run: run.precision,
        "activations recomputed": lambda run: "yes" if run.policy.gradient_checkpointing else "no",
    }
    if cells[0] in ("for", "base"):
        return cells
    what, extra = rows[cells[0]], cells[0] in ("learning rate", "augmentation")  # "off: the reason" keeps its reason
    return [
        cells[0],
        *(what(run) + (re.sub("^[^:,]*", "", old) if extra else "") for run, old in zip(runs, cells[1:], strict=True)),
    ]


def _chunk(run: TrainConfig) -> str:
    length = run.policy.chunk_size or tiny().horizon
    return f"{length}, {run.policy.steps_to_execute(length)}"


def _parameters(cells: Row) -> Row:
    counted = {group: count.trainable for group, count in count_groups(network()).items()}
    counted["all"] = sum(counted.values())
    modulation = [value.numel() for name, value in network().named_parameters() if ".modulation." in name]
    names = cells[1] if "modulation)" not in cells[1] else fill(cells[1], sum(modulation))
    return [cells[0], names, f"{counted[cells[0]]:,}"]


def _lora_targets(cells: Row) -> Row:
    weights = dict(network().named_parameters())
    peft = PeftConfig(target_modules=cells[0].strip("`"))
    plan = plan_lora(TrainConfig(policy=PolicyConfig(use_peft=True), peft=peft), network())
    adapters = sum(spec.rank * sum(weights[f"{part}.weight"].shape) for part, spec in plan.specs.items())
    full = sum(weights[part].numel() for part in plan.full)
    values = (len(plan.specs), adapters / 1e6, full / 1e6)
    return [cells[0], *(fill(cell, value) for cell, value in zip(cells[1:], values, strict=True))]


# --- what benchmarks measured or predicted ----------------------------------------------------------------------------


def peak(flags: set[str], batch: int) -> float:
    """Return the predicted peak in GiB: the larger one of both horizons."""
    cases = [case for case in newest("memory")["cases"] if set(case["flags"]) == flags and case["batch"] == batch]
    if not cases:
        raise KeyError(f"no prediction for {sorted(flags)}")
    return float(max(case["peak"] for case in cases) / 2**30)


def _cards(cells: Row) -> Row:
    flags = set(cells[1].strip("`").replace("none", "").split())
    needed = peak(flags, 8) * (1 + FRAGMENTATION) + CUDA_CONTEXT / 2**30
    card = next(size for size in CARDS if needed <= size - 0.9)
    return [*cells[:2], *(f"{peak(flags, batch):.1f}" for batch in (1, 8, 32)), f"{card} GB"]


def _demo(cells: Row) -> Row:
    result, numbers = newest("demo"), NUMBER.findall(cells[2])
    goals = dict(zip(("at least 90 %", "at most 20 %", "under 20 %"), result["goals"], strict=True))
    goals |= dict(zip(("不低于 90 %", "不高于 20 %", "低于 20 %"), result["goals"], strict=True))
    if cells[1] not in goals:
        tuning = next(stage["share"] for stage in result["stages"] if stage["name"] == "fine-tune")
        return [*cells[:2], fill(cells[2], *divmod(round(result["seconds"]), 60), 100 * tuning)]
    goal = goals[cells[1]]
    counts = (goal["successes"], goal["trials"])
    level = [95.0] if len(numbers) == 6 else []
    ends = (100 * goal[end] for end in ("wilson_low", "wilson_high"))
    # Chinese names the trials first.
    return [*cells[:2], fill(cells[2], 100 * goal["rate"], *counts[:: -1 if "次中" in cells[2] else 1], *level, *ends)]


def _optimizers(cells: Row) -> Row:
    result = newest("optimizer_precision")
    name = {
        "ours, 8 bits": "float32, 8bit",
        "torchao 0.18.0, 8 bits": "torchao AdamW8bit",
        "bitsandbytes 0.50.2, 8 bits": "bitsandbytes AdamW8bit",
        "ours, 4 bits": "float32, 4bit",
        "torchao 0.18.0, 4 bits": "torchao AdamW4bit",
    }[cells[0]]
    keys = ("distance", "slope", "largest_over_largest", "time_over_fused")
    walked = [fill(cell, result["walk"][name][key]) for cell, key in zip(cells[1:], keys, strict=False)]
    size = result["bytes_per_parameter"].get(name)  # of the others, it follows from their block sizes
    return [cells[0], *walked, fill(cells[5], size["moments"]) if size else cells[5]]


def _learnt(cells: Row) -> Row:
    tasks = newest("optimizer_precision")["learnt"][cells[0].replace(" bits", "bit")]
    values = [tasks[task] for task in ("regression", "flow")]
    return [cells[0], *(fill(cell, mean(of), stdev(of)) for cell, of in zip(cells[1:], values, strict=True))]


def _kind_of_update(label: str) -> str:
    return "{} weights, {} moments".format(*label.replace(" bits", "bit").split(", "))


def _update_counted(cells: Row) -> Row:
    counted = newest("optimizer_update")["computed_not_measured"]["cases"][_kind_of_update(cells[0])]
    ways = [counted[way] for way in ("eager", "compiled", "kernel")]
    return [
        cells[0],
        fill(cells[1], *(way["kernels"] for way in ways)),
        fill(cells[2], *(way["bytes_per_parameter"] for way in ways)),
        *(
            fill(cells[3 + i], *(1000 * way["seconds"][gpu] for way in ways))
            for i, gpu in enumerate(("RTX 4090", "H200"))
        ),
    ]


def _update_measured(cells: Row) -> Row:
    case = newest("optimizer_update", "measured")["measured"][_kind_of_update(cells[0])]
    values = (
        case["median_ms_per_portion"]["eager"],
        case["compiled_over_eager"],
        case["first_step_seconds"]["compiled"],
    )
    return [cells[0], *(fill(cell, value) for cell, value in zip(cells[1:], values, strict=True))]


RECOMPUTED = {"nothing": "none", "half of the layers": "0.5", "selective": "selective", "everything": "full"}


def _recomputation(cells: Row) -> Row:
    result, name = newest("activation_checkpointing"), RECOMPUTED[cells[0]]
    times = result["median_seconds"]
    return [cells[0], fill(cells[1], result["kept_bytes"][name] / 1e6), fill(cells[2], times[name] / times["none"])]


def _roofline(cells: Row) -> Row:
    chosen = (32, 10, RECOMPUTED[cells[0]], cells[1] == "padded")
    keys = ("batch", "horizon", "checkpointing", "masked")
    case = next(case for case in newest("roofline_h200")["cases"] if tuple(case[key] for key in keys) == chosen)
    names = (
        ("products",),
        ("attention", "packed attention", "masked attention"),
        ("weights to bfloat16",),
        ("other",),
        ("clipping and update",),
    )
    times = [sum(1000 * case["parts"][part]["seconds"] for part in parts if part in case["parts"]) for parts in names]
    values = (*times, case["samples_per_second_eager"], case["samples_per_second_compiled"])
    return [*cells[:2], *(fill(cell, value) for cell, value in zip(cells[2:], values, strict=True))]


def _many_gpus(cells: Row) -> Row:
    gpus, gpu = re.match(r"(\d+) × (\w+)", cells[0]).groups()  # type: ignore[union-attr]
    config = presets.real()
    if "auto" in cells[2]:
        config = replace(config, activation_checkpointing="auto")
    with contextlib.redirect_stdout(io.StringIO()) as answer:
        print_plan(
            config,
            gpu=gpu.lower(),
            world=World.planned(int(gpus)),
            cameras=None,
            prompt_tokens=None,
            as_json=True,
        )
    plan = json.loads(answer.getvalue())
    values = (plan["peak"] / 2**30, plan["samples_per_second"], config.steps / plan["steps_per_hour"])
    return [cells[0], f"`{plan['parallel']}`", cells[2], *(fill(c, v) for c, v in zip(cells[3:], values, strict=True))]


@cache
def _found_by_rivals() -> dict[str, Row]:
    lines = rivals_table.table(newest("check_rivals")).splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row for row in rows}


TABLES: dict[str, Callable[[Row], Row]] = {
    "defaults": _defaults,
    "presets": _presets_of_training,
    "parameters": _parameters,
    "lora-targets": _lora_targets,
    "cards": _cards,
    "demo": _demo,
    "optimizers": _optimizers,
    "learnt": _learnt,
    "update-counted": _update_counted,
    "update-measured": _update_measured,
    "recomputation": _recomputation,
    "roofline": _roofline,
    "many-gpus": _many_gpus,
    "rivals": lambda cells: _found_by_rivals()[cells[0]],
}
SLOW = frozenset({"many-gpus"})
"""Tables that take a minute or more: `pi05 plan` itself, once for each row."""


def _parameters_of_tiny() -> int:
    return sum(weight.numel() for weight in network(tiny).parameters())


def full_cache() -> list[Any]:
    """Return the prefix cache at full size: with two cameras, and with three."""
    return list(newest("cache_prefix")["full_scale"])


SENTENCES: dict[str, Callable[[], tuple[float, ...]]] = {
    "collects # scripted demonstrations": lambda: (DemoPlan().demonstrations,),
    "on # unseen layouts": lambda: (DemoPlan().episodes,),
    "48-pixel images, # parameters": lambda: (_parameters_of_tiny(),),
    "the packaged base (# parameters)": lambda: (_parameters_of_tiny(),),
    "everything trained # ×, vision frozen # ×, expert only # × faster": lambda: tuple(
        newest(file)["cases"][name]["ratio"]
        for file, name in (("train_step_1_thread", "full"), ("train_step", "frozen-vision"), ("train_step", "expert"))
    ),
    "# MB per frame with two cameras (# GB for # frames, # GB for #), # MB with three": lambda: (
        full_cache()[0]["bytes_per_frame"] / 1e6,
        *(full_cache()[0]["gigabytes"]["1000"], 1000, full_cache()[0]["gigabytes"]["50000"], 50_000),
        full_cache()[1]["bytes_per_frame"] / 1e6,
    ),
    "At full size # TFLOP a sample become #.": lambda: tuple(full_cache()[0]["tflop_per_sample"].values()),
    "the step is # times faster, and computing the cache is earned back after # epochs": lambda: (
        newest("cache_prefix")["ratio_of_best"],
        newest("cache_prefix")["break_even_epochs"],
    ),
    "An expert-only step takes # s, with the cached prefix # s (# times less; # MB per frame;": lambda: (
        *newest("cache_prefix")["median_seconds"].values(),
        newest("cache_prefix")["ratio_of_medians"],
        newest("cache_prefix")["bytes_per_frame"] / 1e6,
    ),
}
"""Sentences of the pages, with `#` for each number, and the numbers."""


if __name__ == "__main__":
    sys.exit(main())
