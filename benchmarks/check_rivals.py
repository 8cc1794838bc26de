"""Who finds what: `pi05 check` and three checkers from PyPI on the same altered copies of the same sound sets.

    python benchmarks/check_rivals.py --set cr5=../shared/datasets/cr5_v30_5ep_onefile --set tabletop=FOLDER \\
        --tool lerobot-doctor=VENV --tool lerobot-lint=VENV --tool rdq=VENV

Each checker runs from its own virtual environment, on the sound original and on each copy of `altered_copies.py`. What
it says of a copy counts only where it does not say it of the original, too: its messages are compared without their
numbers. Counted is that something new is said at all, as a warning or an error; what was said stands in the JSON, for
readers who ask whether it names the mistake. Writes benchmarks/results/check_rivals_DATE.json and prints the table of
`docs/check.md`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from altered_copies import ALTERATIONS, make_copy
from rich.console import Console

from pi05.machine import machine_info

Said = list[tuple[str, str]]
"""(error or warning, message) of a checker about a set; notes and what is well are left out."""
OURS = "pi05 check"


def main() -> None:
    """Run everything, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", required=True, help="NAME=FOLDER of a sound set")
    parser.add_argument("--tool", action="append", default=[], help="NAME=FOLDER of its virtual environment")
    arguments = parser.parse_args()
    tools: dict[str, Callable[[Path], Said]] = {OURS: ours}
    venvs = dict(entry.split("=", 1) for entry in arguments.tool)
    tools |= {name: (lambda root, name=name: READERS[name](Path(venvs[name]), root)) for name in venvs}
    result: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "versions": {name: version(Path(venv), name) for name, venv in venvs.items()},
        "sets": {},
    }
    for entry in arguments.set:
        name, folder = entry.split("=", 1)
        result["sets"][name] = compare(Path(folder), tools)
    path = Path(__file__).parent / "results" / f"check_rivals_{result['date']}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(table(result))
    print(path)


def version(venv: Path, name: str) -> str:
    """Return the installed version of a checker."""
    said = subprocess.run([venv / "bin" / "pip", "show", name], capture_output=True, text=True, check=True).stdout
    return next(line.partition(": ")[2] for line in said.splitlines() if line.startswith("Version"))


def compare(original: Path, tools: dict[str, Callable[[Path], Said]]) -> dict[str, Any]:
    """Return what each checker says of the original, and what it says anew of each copy."""
    sound = {name: tool(original) for name, tool in tools.items()}
    known = {name: {nameless(message) for _, message in said} for name, said in sound.items()}
    copies: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for alteration in ALTERATIONS:
            root = Path(folder) / alteration.name
            if not make_copy(original, root, alteration):
                continue
            new: dict[str, Said] = {}
            for name, tool in tools.items():
                said = [(status, text.replace(str(root), "SET")) for status, text in tool(root)]
                new[name] = [(status, text) for status, text in said if nameless(text) not in known[name]]
            copies[alteration.name] = {"killer": alteration.killer, "what": alteration.what, "new": new}
            print(alteration.name, {name: worst(said) for name, said in new.items()}, flush=True)
    return {"sound": sound, "copies": copies}


def nameless(message: str) -> str:
    """Return a message without what differs from run to run: numbers and paths."""
    return re.sub(r"\d+(\.\d+)?(e-?\d+)?", "#", re.sub(r"\S*/\S+", "PATH", message))


def worst(said: Said) -> str:
    """Return the severest status, or nothing."""
    statuses = {status for status, _ in said}
    return "error" if "error" in statuses else "warning" if statuses else ""


def table(result: dict[str, Any]) -> str:
    """Return the table of `docs/check.md`."""
    sets = result["sets"]
    tools = [OURS, *result["versions"]]
    heads = [f"{name} {result['versions'].get(name, '')}".strip() for name in tools]
    lines = [f"| mistake | {' | '.join(heads)} |"]
    lines.append("|---" * (len(tools) + 1) + "|")
    for alteration in ALTERATIONS:
        there = {
            name: s["copies"][alteration.name]["new"] for name, s in sets.items() if alteration.name in s["copies"]
        }
        if not there:
            continue
        cells = [", ".join(f"{worst(new[tool]) or '–'}" for new in there.values()) for tool in tools]
        lines.append(f"| {alteration.what} ({', '.join(there)}) | {' | '.join(cells)} |")
    totals = []
    for tool in tools:
        found = [bool(copy["new"][tool]) for s in sets.values() for copy in s["copies"].values()]
        totals.append(f"**{sum(found)} of {len(found)}**")
    lines.append(f"| all | {' | '.join(totals)} |")
    counts = [str(sum(len(s["sound"][tool]) for s in sets.values())) for tool in tools]
    lines.append(f"| said of the sound originals | {' | '.join(counts)} |")
    return "\n".join(lines)


def ours(root: Path) -> Said:
    """Run our checks in this process, without a base, as `pi05 check SET` does."""
    from pi05.check.examine import examine
    from pi05.commands.check import CHECK_FLAGS
    from pi05.commands.train import read_training_settings
    from pi05.train.checked.subject import open_subject

    request, _ = read_training_settings([str(root)], CHECK_FLAGS, word="dataset.root")
    subject, findings = open_subject(request.config, Console(quiet=True))
    if subject is not None:
        findings = [*findings, *examine(subject)]
    return [(f.status, f"{f.name}: {f.text}") for f in findings if f.to_mend]


def run(command: list[str | Path]) -> str:
    """Run a checker and return what it prints; its exit code says what it found, not whether it ran."""
    start = time.perf_counter()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600, check=False)
    if not done.stdout.strip():
        raise RuntimeError(f"{command} said nothing in {time.perf_counter() - start:.0f} s: {done.stderr[-2000:]}")
    return done.stdout


def doctor(venv: Path, root: Path) -> Said:
    """Run lerobot-doctor. A set that it cannot open is an error, in its words."""
    text = run([venv / "bin" / "lerobot-doctor", "check", root, "--json"])
    if "{" not in text:
        return [("error", text.strip().splitlines()[-1])]
    report = json.loads(text[text.index("{") :])
    status = {"FAIL": "error", "WARN": "warning"}
    return [
        (status[message["severity"]], f"{check['name']}: {message['message']}")
        for check in report["checks"]
        for message in check["messages"]
        if message["severity"] in status
    ]


READERS: dict[str, Callable[[Path, Path], Said]] = {"lerobot-doctor": doctor}


if __name__ == "__main__":
    main()
