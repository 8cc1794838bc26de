"""Who finds what: `pi05 check` and three checkers from PyPI on the same altered copies of the same sound sets.

    python benchmarks/check_rivals.py --set cr5=../shared/datasets/cr5_v30_5ep_onefile --set tabletop=FOLDER \\
        --tool lerobot-doctor=VENV --tool lerobot-lint=VENV --tool rdq=VENV

Each checker runs from its own virtual environment, on the sound original and on each copy of `altered_copies.py`. What
it says of a copy counts only where it does not say it of the original, too: its messages are compared without their
numbers. Counted is that something new is said as a warning or an error, not whether it names the mistake: what was said
stands
in the JSON. What is only noted does not count. Writes benchmarks/results/check_rivals_DATE.json and prints the table of
`docs/check.md`.
"""

from __future__ import annotations

import argparse
import functools
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
"""(error, warning or note, message) of a checker about a set; what is well is left out."""
Tool = Callable[[list[Path]], list[Said]]
OURS = "pi05 check"


def main() -> None:
    """Run everything, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", required=True, help="NAME=FOLDER of a sound set")
    parser.add_argument("--tool", action="append", default=[], help="NAME=FOLDER of its virtual environment")
    parser.add_argument("--only", nargs="*", help="names of altered copies; without it all of them")
    parser.add_argument("--without-ours", action="store_true", help="run the other tools only")
    arguments = parser.parse_args()
    venvs = dict(entry.split("=", 1) for entry in arguments.tool)
    tools: dict[str, Tool] = {} if arguments.without_ours else {OURS: lambda roots: [ours(root) for root in roots]}
    tools |= {name: functools.partial(READERS[name], Path(venv)) for name, venv in venvs.items()}
    result: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": machine_info(),
        "versions": {name: version(Path(venv), name) for name, venv in venvs.items()},
        "sets": {},
    }
    path = Path(__file__).parent / "results" / f"check_rivals_{result['date']}.json"
    for entry in arguments.set:
        name, folder = entry.split("=", 1)
        result["sets"][name] = compare(Path(folder), tools, arguments.only)
        if path.is_file():  # of an earlier call on the same day, with other sets or tools
            result = merge(json.loads(path.read_text()), result)
        path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(table(result))
    print(path)


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return both; where both have a value, the new one."""
    both = {**old, **new}
    for key in set(old) & set(new):
        if isinstance(old[key], dict) and isinstance(new[key], dict):
            both[key] = merge(old[key], new[key])
    return both


def version(venv: Path, name: str) -> str:
    """Return the installed version of a checker."""
    said = subprocess.run([venv / "bin" / "pip", "show", name], capture_output=True, text=True, check=True).stdout
    return next(line.partition(": ")[2] for line in said.splitlines() if line.startswith("Version"))


def compare(original: Path, tools: dict[str, Tool], only: list[str] | None = None) -> dict[str, Any]:
    """Return what each checker says of the original, and what it says anew of each copy, or of some of them."""
    copies: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        chosen = [a for a in ALTERATIONS if only is None or a.name in only]
        made = [a for a in chosen if make_copy(original, Path(folder) / a.name, a)]
        for alteration in made:
            copies[alteration.name] = {"killer": alteration.killer, "what": alteration.what, "new": {}}
        sound = {}
        for name, tool in tools.items():
            start = time.perf_counter()
            sound[name], *others = tool([original, *(Path(folder) / a.name for a in made)])
            known = {nameless(message) for _, message in sound[name]}
            for alteration, said in zip(made, others, strict=True):
                new = [(status, text.replace(f"{folder}/{alteration.name}", "SET")) for status, text in said]
                new = [(status, text) for status, text in new if nameless(text) not in known]
                copies[alteration.name]["new"][name] = new
                print(name, alteration.name, worst(new), flush=True)
            print(name, f"{time.perf_counter() - start:.0f} s", flush=True)
    return {"sound": sound, "copies": copies}


def nameless(message: str) -> str:
    """Return a message without what differs from run to run: numbers and paths."""
    return re.sub(r"\d+(\.\d+)?(e-?\d+)?", "#", re.sub(r"\S*/\S+", "PATH", message))


def worst(said: Said) -> str:
    """Return the severest status, or nothing."""
    statuses = {status for status, _ in said}
    return next((status for status in ("error", "warning", "note") if status in statuses), "")


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
        cells = [", ".join(_cell(new, tool) for new in there.values()) for tool in tools]
        where = f" ({', '.join(there)})" if len(sets) > 1 else ""
        lines.append(f"| {alteration.what}{where} | {' | '.join(cells)} |")
    totals = []
    for tool in tools:
        news = [copy["new"] for s in sets.values() for copy in s["copies"].values() if tool in copy["new"]]
        found = [worst(new[tool]) in ("error", "warning") for new in news]
        totals.append(f"**{sum(found)} of {len(found)}**")
    lines.append(f"| all | {' | '.join(totals)} |")
    counts = []
    for tool in tools:
        said = [status for s in sets.values() for status, _ in s["sound"].get(tool, [])]
        counts.append(f"{said.count('error')} errors, {said.count('warning')} warnings")
    lines.append(f"| said of the {len(sets)} sound originals | {' | '.join(counts)} |")
    return "\n".join(lines)


def _cell(new: dict[str, Said], tool: str) -> str:
    return (worst(new[tool]) or "–") if tool in new else "not run"


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
    return [(f.status, f"{f.name}: {f.text}") for f in findings if f.status != "ok"]


def run(command: list[str | Path]) -> str:
    """Run a checker and return what it prints; its exit code says what it found, not whether it ran."""
    start = time.perf_counter()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=3600, check=False)
    if not (done.stdout + done.stderr).strip():
        raise RuntimeError(f"{command} said nothing in {time.perf_counter() - start:.0f} s: {done.stderr[-2000:]}")
    return done.stdout if done.stdout.strip() else done.stderr


def doctor(venv: Path, roots: list[Path]) -> list[Said]:
    """Run lerobot-doctor. What it says of a set that it cannot open is an error."""
    status = {"FAIL": "error", "WARN": "warning"}
    answers: list[Said] = []
    for root in roots:
        text = run([venv / "bin" / "lerobot-doctor", "check", root, "--json"])
        if "{" not in text:
            answers.append([("error", text.strip().splitlines()[-1])])
            continue
        answers.append(
            [
                (status[message["severity"]], f"{check['name']}: {message['message']}")
                for check in json.loads(text[text.index("{") :])["checks"]
                for message in check["messages"]
                if message["severity"] in status
            ]
        )
    return answers


def rdq(venv: Path, roots: list[Path]) -> list[Said]:
    """Run rdq with every frame decoded."""
    status = {"critical": "error", "warning": "warning", "info": "note"}
    answers: list[Said] = []
    for root in roots:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            text = run([venv / "bin" / "rdq", "check", root, "--video-full", "--no-color", "--json", report])
            if not report.is_file():
                answers.append([("error", text.strip().splitlines()[-1])])
                continue
            found = json.loads(report.read_text())["findings"]
        answers.append([(status[f["severity"]], f"{f['check']}: {f['message']}") for f in found])
    return answers


LINT_DRIVER = """
import json, sys
from typer.testing import CliRunner
from lerobot_lint.cli import app
for root in json.loads(sys.argv[1]):
    result = CliRunner().invoke(app, ["check", root, "--json", sys.argv[2]])
    try:
        with open(sys.argv[2]) as file:
            found = [(f["severity"], f["check"] + ": " + f["message"]) for f in json.load(file)["findings"]]
    except (OSError, ValueError):
        found = [("error", (result.output or repr(result.exception)).strip().splitlines()[-1])]
    open(sys.argv[2], "w").close()
    print(json.dumps(found))
"""
"""Many sets in one process: importing LeRobot takes longer than checking one."""


def lint(venv: Path, roots: list[Path]) -> list[Said]:
    """Run lerobot-lint's own command on each set."""
    with tempfile.TemporaryDirectory() as folder:
        names = json.dumps([str(root.resolve()) for root in roots])
        lines = run([venv / "bin" / "python", "-c", LINT_DRIVER, names, Path(folder) / "report.json"]).splitlines()
    status = {"error": "error", "warning": "warning", "info": "note"}
    answers = [json.loads(line) for line in lines if line.startswith("[")]
    return [[(status[severity], message) for severity, message in answer] for answer in answers]


READERS: dict[str, Callable[[Path, list[Path]], list[Said]]] = {
    "lerobot-doctor": doctor,
    "lerobot-lint": lint,
    "rdq": rdq,
}


if __name__ == "__main__":
    main()
