"""Tables and numbers of the documentation are those of the code and of the newest results in `benchmarks/results`."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from pages import (
    ADAPTERS,
    CHINESE,
    ENGLISH,
    MEMORY,
    PAGES,
    REPOSITORY,
    SEVERAL_GPUS,
    TRAINING,
    prose,
    rows,
    section,
    table_rows,
)

from pi05 import presets
from pi05.demo import DemoPlan
from pi05.model.config import pi05, tiny
from pi05.model.pi05 import Pi05
from pi05.settings.schema import walk
from pi05.train.config import TINY_BASE, PeftConfig, PolicyConfig, TrainConfig
from pi05.train.inherit import inherit
from pi05.train.lora import plan_lora
from pi05.train.parameters import count_groups
from pi05.train.plan.memory import CUDA_CONTEXT, FRAGMENTATION

OPTIMIZER, SPEED = (
    REPOSITORY / "docs" / "decisions" / f"{name}.md" for name in ("0004-optimizer-memory", "0005-speed")
)
CARDS = (8, 12, 16, 24, 32, 40, 80, 141)
"""Sizes of GPUs in GB, as they are sold; up to 0.9 GiB of them cannot be used (`train/plan/gpus.py`)."""


def newest(name: str) -> Any:
    """Return the newest result of a benchmark."""
    found = max((REPOSITORY / "benchmarks" / "results").glob(f"{name}_????-??-??.json"))
    return json.loads(found.read_text())


def shown(text: str, *values: float) -> bool:
    """Tell whether the numbers in a text are these values, rounded to the digits that the text gives."""
    numbers = re.findall(r"\d[\d,]*(?:\.\d+)?", text)
    digits = [len(number.partition(".")[2]) for number in numbers]
    found = [float(number.replace(",", "")) for number in numbers]
    return len(found) == len(values) and all(
        abs(number - value) <= 0.5001 * 10.0**-places
        for number, value, places in zip(found, values, digits, strict=True)
    )


def table_after(text: str, words: str) -> dict[str, list[str]]:
    """Return the first table after some words: first cell → the other cells."""
    table = text.split(words, 1)[1].split("\n|", 1)[1].split("\n\n", 1)[0]
    return {cells[0]: cells[1:] for cells in table_rows("|" + table)}


# --- defaults, presets, sizes -----------------------------------------------------------------------------------------


def test_every_default_is_told() -> None:
    text = "".join(page.read_text() for page in PAGES)
    without_choice = {"policy.type", "policy.device", "dataset.video_backend", "network"}
    silent = [
        setting.path
        for setting in walk(TrainConfig)
        if setting.default not in (None, (), {}) and f"--{setting.path}" not in text
    ]
    assert set(silent) <= without_choice


def test_defaults_are_those_of_the_code() -> None:
    defaults = {setting.path: setting.default for setting in walk(TrainConfig)}
    checked = 0
    for cells in table_rows(section(TRAINING, "## Defaults")):
        flag = re.fullmatch(r"`--([\w.]+)`", cells[0])
        if flag is None or defaults.get(flag[1]) is None:
            continue
        value = defaults[flag[1]]
        shown = list(value) if isinstance(value, tuple) else value
        assert cells[1] == (str(shown).lower() if isinstance(shown, bool) else str(shown)), flag[1]
        checked += 1
    assert checked >= 15


def test_presets_are_those_of_the_code() -> None:
    table = {cells[0]: cells[1:] for cells in rows(TRAINING) if len(cells) == 5}
    runs = [presets.tiny(), presets.demo(), presets.sim(), presets.real()]
    batches = [
        f"{run.samples_per_step()} in total, in {run.gradient_accumulation_steps} passes"
        if run.global_batch_size
        else str(run.batch_size)
        for run in runs
    ]
    columns = {
        "": [f"`{run.preset}`" for run in runs],
        "batch": batches,
        "steps": [f"{run.steps:,}" for run in runs],
        "flow draws": [str(run.flow_samples) for run in runs],
        "EMA": [str(run.ema.decay) if run.ema.enable else "off" for run in runs],
        "prompt": [run.prompt_format or "state" for run in runs],  # the small presets take their base's
        "precision": [run.precision for run in runs],
        "activations recomputed": ["yes" if run.policy.gradient_checkpointing else "no" for run in runs],
    }
    assert {name: table[name] for name in columns} == columns
    assert [cell.partition(":")[0] for cell in table["augmentation"]] == [("off", "on")[run.augment] for run in runs]
    rates = [float(cell.partition(",")[0]) for cell in table["learning rate"]]
    assert rates == [run.learning_rate for run in runs]
    chunks = [run.policy.chunk_size or tiny().horizon for run in runs]  # the small presets take their base's
    executed = [run.policy.steps_to_execute(chunk) for run, chunk in zip(runs, chunks, strict=True)]
    assert table["chunk, executed"] == [f"{a}, {b}" for a, b in zip(chunks, executed, strict=True)]


def test_the_table_of_cards_is_the_prediction() -> None:
    """Every row against the newest result of `benchmarks/memory.py`: the larger of both horizons, and what it fits."""
    cases = newest("memory")["cases"]
    lines = [cells for cells in table_rows(section(MEMORY, "## Which flags reach which card")) if len(cells) == 6][1:]
    assert len(lines) >= 15
    for _, flags, *peaks, card in lines:
        chosen = sorted(flags.strip("`").replace("none", "").split())
        same = [case for case in cases if sorted(case["flags"]) == chosen]
        largest = {batch: max(case["peak"] for case in same if case["batch"] == batch) / 2**30 for batch in (1, 8, 32)}
        assert peaks == [f"{largest[batch]:.1f}" for batch in (1, 8, 32)], flags
        needed = largest[8] * (1 + FRAGMENTATION) + CUDA_CONTEXT / 2**30
        assert card == f"{next(size for size in CARDS if needed <= size - 0.9)} GB", flags


def test_the_readme_tells_the_demos_size() -> None:
    plan, text = DemoPlan(), prose(ENGLISH)
    assert f"collects {plan.demonstrations:,} scripted demonstrations" in text
    assert f"on {plan.episodes} unseen layouts" in text


def test_parameter_counts_are_those_of_the_network() -> None:
    with torch.device("meta"):
        full, small = Pi05(pi05()), Pi05(tiny())
    counted = {group: count.trainable for group, count in count_groups(full).items()}
    counted["all"] = sum(counted.values())
    page = REPOSITORY / "docs" / "model.md"
    table = {cells[0]: cells[2] for cells in rows(page) if len(cells) == 3 and re.fullmatch(r"[\d,]{5,}", cells[2])}
    assert table == {group: f"{count:,}" for group, count in counted.items()}
    text = prose(page)
    assert f"{sum(parameter.numel() for parameter in small.parameters()):,} parameters" in text
    modulation = sum(value.numel() for name, value in full.named_parameters() if ".modulation." in name)
    assert f"{modulation:,} of them modulation" in text


def test_details_are_numbered_in_order() -> None:
    numbers = [cells[0] for cells in rows(REPOSITORY / "docs" / "details.md") if cells[0].isdigit()]
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]


def test_whose_formula_a_run_has_is_as_the_details_say() -> None:
    """The row on 1e-6 excepts LeRobot's bases, whose runs have LeRobot's formula."""
    (row,) = [cells for cells in rows(REPOSITORY / "docs" / "details.md") if cells[1].startswith("1e-6 is added")]
    lerobot = REPOSITORY / "tests" / "golden" / "lerobot_checkpoints" / "full"
    formulas = {
        str(base): inherit(TrainConfig(policy=PolicyConfig(path=str(base)))).formula for base in (TINY_BASE, lerobot)
    }
    assert formulas == {str(TINY_BASE): "openpi", str(lerobot): "lerobot"}
    assert "except in runs from a LeRobot base, which keep LeRobot's formula" in row[1]


def test_what_lora_trains_is_what_the_table_says() -> None:
    table = table_after(section(ADAPTERS, "## LoRA"), "A pattern that hits nothing is an error.")
    with torch.device("meta"):
        model = Pi05(pi05())
    parameters = dict(model.named_parameters())
    for name, cells in list(table.items())[1:]:
        peft = PeftConfig(target_modules=name.strip("`"))
        plan = plan_lora(TrainConfig(policy=PolicyConfig(use_peft=True), peft=peft), model)
        adapters = sum(spec.rank * sum(parameters[f"{part}.weight"].shape) for part, spec in plan.specs.items())
        full = sum(parameters[part].numel() for part in plan.full)
        assert shown(" ".join(cells), len(plan.specs), adapters / 1e6, full / 1e6), name


# --- what benchmarks measured or predicted ----------------------------------------------------------------------------


@pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["english", "chinese"])
def test_the_readme_has_the_newest_measurements(page: Any) -> None:
    text = prose(page)
    steps = newest("train_step")
    ratios = [float(ratio) for ratio in re.findall(r"(\d\.\d\d) ×", text)]
    assert ratios == [round(steps["cases"][name]["ratio_of_best"], 2) for name in ("full", "frozen-vision", "expert")]
    assert f"train_step_{steps['date']}.json" in text
    table = [cells[2] for cells in table_rows(text.split("<!-- demo-numbers -->")[1].split("<!-- /")[0])][1:]
    for cell, goal in zip(table, newest("demo")["goals"], strict=False):
        found = {float(number) for number in re.findall(r"\d+(?:\.\d+)?", cell)}
        interval = {round(100 * goal[end], 1) for end in ("wilson_low", "wilson_high")}
        assert {100 * goal["rate"], goal["successes"], goal["trials"]} | interval <= found, cell


def test_the_optimizers_are_as_measured() -> None:
    result, text = newest("optimizer_precision"), prose(OPTIMIZER)
    walks, size = result["walk"], result["bytes_per_parameter"]
    names = {
        "ours, 8 bits": "float32, 8bit",
        "torchao 0.18.0, 8 bits": "torchao AdamW8bit",
        "bitsandbytes 0.50.2, 8 bits": "bitsandbytes AdamW8bit",
        "ours, 4 bits": "float32, 4bit",
        "torchao 0.18.0, 4 bits": "torchao AdamW4bit",
    }
    table = table_after(text, "**Why.**")
    for label, name in names.items():
        values = [walks[name][key] for key in ("distance", "slope", "largest_over_largest", "time_over_fused")]
        assert shown(" ".join(table[label][:4]), *values), label
        if name in size:
            assert shown(table[label][4], size[name]["moments"]), label
    for label, cells in list(table_after(text, "**What the modes learn.**").items())[1:]:
        learnt = result["learnt"][label.replace(" bits", "bit")]
        for cell, task in zip(cells, ("regression", "flow"), strict=True):
            values = torch.tensor(learnt[task], dtype=torch.float64)
            assert shown(cell, values.mean().item(), values.std().item()), (label, task)


def test_the_updates_cost_is_as_counted_and_measured() -> None:
    result, text = newest("optimizer_update"), prose(OPTIMIZER)

    def name(label: str) -> str:
        return "{} weights, {} moments".format(*label.replace(" bits", "bit").split(", "))

    kinds = ("eager", "compiled", "lower_bound")
    for label, cells in list(table_after(text, "What it should save").items())[1:]:
        counted = result["computed_not_measured"]["cases"][name(label)]
        assert shown(cells[0], *(counted[kind]["kernels"] for kind in kinds[:2])), label
        assert shown(cells[1], *(counted[kind]["bytes_per_parameter"] for kind in kinds)), label
        for cell, gpu in zip(cells[2:], ("RTX 4090", "H200"), strict=True):
            assert shown(cell, *(1000 * counted[kind]["seconds"][gpu] for kind in kinds)), (label, gpu)
    for label, cells in list(table_after(text, "On a CPU the update is not compiled.").items())[1:]:
        case = result["measured"][name(label)]
        values = [case["median_ms_per_portion"]["eager"], case["compiled_over_eager"]]
        assert shown(" ".join(cells), *values, case["first_step_seconds"]["compiled"]), label


def test_recomputation_is_as_measured() -> None:
    result = newest("activation_checkpointing")
    table = table_after(prose(SPEED), "**Measured.**")
    names = {"nothing": "none", "half of the layers": "0.5", "selective": "selective", "everything": "full"}
    for label, name in names.items():
        share = result["median_seconds"][name] / result["median_seconds"]["none"]
        assert shown(" ".join(table[label]), result["kept_bytes"][name] / 1e6, share), label


def test_the_step_on_an_h200_is_as_predicted() -> None:
    cases = {
        (case["checkpointing"], case["masked"]): case
        for case in newest("roofline_h200")["cases"]
        if (case["batch"], case["horizon"]) == (32, 10)
    }
    names = {"nothing": "none", "selective": "selective", "everything": "full"}
    lines = [cells for cells in rows(SPEED) if len(cells) == 9 and cells[0] in names]
    assert len(lines) == 4
    for cells in lines:
        case = cases[names[cells[0]], cells[1] == "padded"]
        parts = {name: 1000 * part["seconds"] for name, part in case["parts"].items()}
        attention = parts["attention"] + parts["masked attention"]
        times = [parts["weights to bfloat16"], parts["other"], parts["clipping and update"]]
        rates = [case["samples_per_second_eager"], case["samples_per_second_compiled"]]
        assert shown(" ".join(cells[2:]), parts["products"], attention, *times, *rates), cells


def test_the_prefix_cache_is_as_measured() -> None:
    result, text = newest("cache_prefix"), prose(MEMORY)
    two, three = result["full_scale"]
    for value, unit in (
        (two["bytes_per_frame"] / 1e6, "MB per frame with two cameras"),
        (three["bytes_per_frame"] / 1e6, "MB with three"),
        (two["gigabytes"]["1000"], "GB for 1,000 frames"),
        (two["gigabytes"]["50000"], "GB for 50,000"),
        (two["tflop_per_sample"]["without"], "TFLOP a sample"),
        (result["ratio_of_best"], "times faster, and computing the cache"),
        (result["break_even_epochs"], "epochs (`benchmarks/cache_prefix.py`)"),
    ):
        numbers = re.findall(rf"([\d.]+) {re.escape(unit)}", text)
        assert len(numbers) == 1, unit
        assert shown(numbers[0], value), unit
    seconds = result["median_seconds"]
    step = re.findall(r"An expert-only step takes (.*?) times less", prose(SPEED))[0]
    assert shown(step, seconds["without"], seconds["cached"], result["ratio_of_medians"])


@pytest.mark.slow
def test_what_eight_gpus_would_need_is_what_pi05_plan_says(capsys: pytest.CaptureFixture[str]) -> None:
    from pi05.train.plan.report import report

    lines = [
        cells
        for cells in table_rows(section(SEVERAL_GPUS, "## Memory and speed"))
        if len(cells) == 6 and "×" in cells[0]
    ]
    assert len(lines) == 5
    for cells in lines:
        gpus, gpu = re.match(r"(\d+) × (\w+)", cells[0]).groups()  # type: ignore[union-attr]
        config = presets.real()
        if "auto" in cells[2]:
            config = replace(config, activation_checkpointing="auto")
        report(config, gpu=gpu.lower(), gpus=int(gpus), cameras=None, prompt_tokens=None, as_json=True)
        plan = json.loads(capsys.readouterr().out)
        assert cells[1] == f"`{plan['parallel']}`", cells
        hours = config.steps / plan["steps_per_hour"]
        assert shown(" ".join(cells[3:]), plan["peak"] / 2**30, plan["samples_per_second"], 20_000, hours) or shown(
            " ".join(cells[3:]), plan["peak"] / 2**30, plan["samples_per_second"], hours
        ), (cells, plan)
