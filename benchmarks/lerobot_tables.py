"""Write the tables of docs/coming-from-lerobot.md: from our settings, from the fates of LeRobot's flags, its defaults.

    python benchmarks/lerobot_tables.py            # rewrite the page
    python benchmarks/lerobot_tables.py --check    # say whether it differs, and fail

Each table stands between `<!-- lerobot: NAME -->` and `<!-- /lerobot -->`. LeRobot's defaults are those of its code
(`tests/golden/lerobot_configs/defaults.json`). A default that differs and has no reason in `WHY` is an error, and so is
a reason for a default that does not differ.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pi05.settings.lerobot_flags import FATES, RENAMED, translate_training_flag
from pi05.settings.schema import walk
from pi05.train.config import TrainConfig

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "coming-from-lerobot.md"
DEFAULTS = REPOSITORY / "tests" / "golden" / "lerobot_configs" / "defaults.json"
MARKED = re.compile(r"(<!-- lerobot: ([\w-]+) -->\n)(.*?)(<!-- /lerobot -->)", re.S)
WHOLE_BASE = "that of the base checkpoint, which was trained with it"
FROM_RUN = "follows from the steps of the run"

WHY = {
    "policy.compile_model": "on a GPU where it is predicted to pay for the method and the length of the run",
    "batch_size": "openpi's; per GPU in both",
    "num_workers": "threads of one process, not processes; frames are decoded once, into a cache",
    "steps": "openpi's; always shown as samples and epochs too",
    "log_freq": "openpi's",
    "save_freq": "a crash costs less; the newest three and the best are kept (`--keep_checkpoints`)",
    "eval_steps": "the action error on held-out episodes, not the loss; 0 switches it off in both",
    "seed": "openpi's",
    "dataset.eval_split": "without held-out episodes nobody sees when to stop",
    "dataset.repo_id": "a local folder (`--dataset.root`) needs no name",
    "policy.push_to_hub": "nothing is published unless asked for",
    "policy.device": "`auto` is CUDA where there is a GPU, in both",
    "policy.chunk_size": WHOLE_BASE,
    "policy.n_action_steps": "half of the chunk and at most a second: openpi executes 5 of 10; 50 of 50 is a second or "
    "more without looking",
    "policy.tokenizer_max_length": WHOLE_BASE + "; a longer prompt is an error, not cut off",
    "policy.empty_cameras": "empty slots are found and always masked; a number that is given is checked",
    "policy.relative_exclude_joints": "the same `gripper`, but no error where a robot has none",
    "policy.optimizer_lr": "2.5e-5 too; ten times that for LoRA, and the preset's for `sim`",
    "policy.optimizer_weight_decay": "openpi's; 0.01 is honoured when it is given",
    "policy.scheduler_warmup_steps": FROM_RUN + ": a thirtieth, at most 1,000",
    "policy.scheduler_decay_steps": FROM_RUN + ": all of them, at most 30,000; a number that is given is not rescaled",
    "policy.scheduler_decay_lr": "a tenth of the peak, so 2.5e-6 too",
    "wandb.project": "our name",
    "wandb.mode": "the same",
    "peft.method_type": "spelt in lower case",
    "peft.lora_alpha": "the rank, so that the adapter counts once; LeRobot leaves PEFT's 8, which halves it at rank 16",
    "peft.target_modules": "attention and MLP of language model and expert, as openpi; LeRobot's own reach query "
    "and value maps of the expert and the action projections (`--peft.target_modules=lerobot`)",
    "peft.full_training_modules": "the action and time projections are trained in full; `[]` is LeRobot's",
    "peft.init_type": "PEFT's in both",
    "ema.decay": "constant, as openpi's; LeRobot's follows a warm-up unless it is given",
}
"""Why a default is not LeRobot's."""
NOT_GIVEN_MEANS_OTHERWISE = ("peft.lora_alpha",)
"""Settings that are not given by default in both, which means different things."""


def main() -> int:
    """Rewrite the page, or say that it differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check, text = parser.parse_args().check, PAGE.read_text(encoding="utf-8")
    written = generated(text)
    if written != text and not check:
        PAGE.write_text(written, encoding="utf-8")
    print("the same" if written == text else "differs" if check else "written")
    return int(check and written != text)


def generated(text: str) -> str:
    """Return the page with its tables written anew. Raises ValueError for tables that are missing or not known."""
    if {name for _, name, _, _ in MARKED.findall(text)} != set(TABLES):
        raise ValueError(f"the page needs the tables {', '.join(TABLES)}")
    return MARKED.sub(lambda m: m[1] + TABLES[m[2]]() + m[4], text)


def lerobot_defaults() -> dict[str, Any]:
    """Return LeRobot's training settings by dotted path, with their defaults."""
    return {path: value for part in json.loads(DEFAULTS.read_text()).values() for path, value in part.items()}


def differing() -> str:
    """Return the settings that both have, where the defaults differ."""
    theirs, ours = lerobot_defaults(), {setting.path: setting.default for setting in walk(TrainConfig)}
    rows, reasons = [], dict(WHY)
    for path in ours:
        if path not in theirs or equal(path, theirs[path], ours[path]):
            continue
        if path not in reasons:
            raise ValueError(f"no reason is given for the default of {path}: {theirs[path]} there, {ours[path]} here")
        rows.append([f"`--{path}`", shown(theirs[path]), shown(ours[path]), reasons.pop(path)])
    if reasons:
        raise ValueError(f"reasons for defaults that do not differ: {', '.join(reasons)}")
    return table(["flag", "LeRobot", "here", "why"], rows)


def same() -> str:
    """Return the settings that both have with the same default."""
    theirs, ours = lerobot_defaults(), {setting.path: setting.default for setting in walk(TrainConfig)}
    found = [f"`--{path}`" for path in ours if path in theirs and equal(path, theirs[path], ours[path])]
    return ", ".join(found) + ".\n"


def other_names() -> str:
    """Return the flags that have another name here."""
    rows = []
    for path in RENAMED:
        value = {"policy.dtype": "bfloat16", "accelerator.mixed_precision": "bf16", "mixed_precision": "bf16"}.get(path)
        meaning = translate_training_flag(path, value or "VALUE")
        assert meaning is not None
        given = f"`--{path}={value}`" if value else f"`--{path}`"
        rows.append([given, f"`--{meaning.path}={meaning.value}`" if value else f"`--{meaning.path}`"])
    return table(["LeRobot", "here"], rows)


def refused() -> str:
    """Return the flags that mean nothing here: what is taken as said all the same, why, and what to use."""
    rows = []
    for path, fate in FATES.items():
        name = f"--{path}…" if path[-1] in "._" else f"--{path}"
        rows.append([f"`{name}`", ", ".join(f"`{value}`" for value in fate.harmless) or "–", fate.reason, fate.instead])
    return table(["LeRobot", "taken", "refused otherwise, because", "to do"], rows)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table as Markdown."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (head, ["---"] * len(head), *rows)]
    return (
        "".join("| " + " | ".join(cells) + " |\n" for cells in escaped)
        .replace("| --- ", "|---")
        .replace("--- |", "---|")
    )


def equal(path: str, theirs: Any, ours: Any) -> bool:
    """Tell whether two defaults mean the same; ours is compared as JSON would hold it."""
    return path not in NOT_GIVEN_MEANS_OTHERWISE and bool(theirs == json.loads(json.dumps(ours)))


def shown(value: Any) -> str:
    """Return a default as a reader writes it."""
    if value is None or value == "REQUIRED":
        return "not given" if value is None else "has to be given"
    if isinstance(value, bool | list | tuple | dict):
        return f"`{json.dumps(value)}`"
    return f"`{value}`" if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:g}"


TABLES: dict[str, Callable[[], str]] = {
    "defaults": differing,
    "same": same,
    "names": other_names,
    "refused": refused,
}

if __name__ == "__main__":
    raise SystemExit(main())
