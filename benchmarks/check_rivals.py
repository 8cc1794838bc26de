"""Who finds what: `pi05 check` and three checkers from PyPI on the same altered copies of the same sound sets.

    python benchmarks/check_rivals.py --venvs FOLDER

That is all. Each checker gets a virtual environment in FOLDER where it has none yet. The sets are the real CR5 set of
`../shared/datasets`, its pictures made smaller, and twelve table-top demonstrations that are collected anew; `--set
NAME=FOLDER` names others. Each checker is run on the sound original and on each copy of `altered_copies.py`. `--tools`
and `--only` run some of the checkers or copies again, and put what they say into the file of the day.

What a checker says of a copy counts only where it does not say it of the original, too, or less severely there: its
messages are compared without their measurements, while the numbers of dimensions stay. Counted is that something new
is said as a warning or an error, not whether it names the mistake; what was said stands in the JSON. What is only noted
does not count. Writes benchmarks/results/check_rivals_DATE.json and prints the table that
`docs_tables.py` writes into `docs/check.md`.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from altered_copies import ALTERATIONS, make_copy
from copies_in_files import change_pictures
from PIL import Image
from rich.console import Console
from rivals_table import OURS, Said, said_anew, table, worst

from pi05.machine import machine_info

Tool = Callable[[list[Path]], list[Said]]
PACKAGES = {"rdq": "rdq[video]"}
"""Without this extra rdq opens no picture."""
VERSIONS = {"lerobot-doctor": "0.2.0", "rdq": "0.3.4", "lerobot-lint": "0.1.1"}
"""The newest ones on PyPI in November 2026."""
CR5 = Path(__file__).resolve().parents[2] / "shared" / "datasets" / "cr5_v30_5ep_multifile_quantiles"
SMALLER = 4
"""CR5's pictures have 640 × 480 pixels: decoding 40 copies of them in four checkers would take hours."""
TABLETOP = ["--episodes=12", "--seed=0"]
"""Flags of `pi05 collect`."""
OFFLINE = {**os.environ, "HF_HUB_OFFLINE": "1"}
"""A set that cannot be read is not looked for on the hub."""


def main() -> None:
    """Run everything, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venvs", type=Path, required=True, help="folder of the checkers' virtual environments")
    parser.add_argument("--set", action="append", help="NAME=FOLDER of a sound set, instead of the two usual ones")
    parser.add_argument("--tools", nargs="*", default=[OURS, *VERSIONS], help="checkers to run; without it all of them")
    parser.add_argument("--only", nargs="*", help="names of altered copies; without it all of them")
    arguments = parser.parse_args()
    tools: dict[str, Tool] = {
        name: functools.partial(READERS[name], arguments.venvs / name) for name in arguments.tools
    }
    day = date.today().isoformat()
    path = Path(__file__).parent / "results" / f"check_rivals_{day}.json"
    with tempfile.TemporaryDirectory() as folder:
        for name, root, how in sound_sets(arguments.set, Path(folder)):
            for told in compare(root, tools, arguments.only):
                result = {"date": day, "machine": machine_info(), "versions": VERSIONS}
                result["mistakes"] = {alteration.name: alteration.what for alteration in ALTERATIONS}
                result["sets"] = {name: {"made": how, **told}}
                if path.is_file():  # of the other set, or of an earlier call of the day with other tools or copies
                    result = merge(json.loads(path.read_text()), result)
                path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(table(json.loads(path.read_text())))
    print(path)


def sound_sets(named: list[str] | None, folder: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield name, folder and origin of each set; those that are not named are the table-top's and CR5's."""
    if named:
        for entry in named:
            name, _, given = entry.partition("=")
            yield name, Path(given), Path(given).name
        return
    command = ["pi05", "collect", *TABLETOP]
    root = folder / "tabletop"
    subprocess.run([sys.executable, "-m", *command, f"--output={root}"], check=True, capture_output=True)
    yield "tabletop", root, " ".join(command)
    root = folder / "cr5"
    shutil.copytree(CR5, root)
    change_pictures(root, 0, lambda images, other: [reduced(image) for image in images])
    yield "cr5", root, f"{CR5.name}, its pictures {SMALLER} times smaller"


def reduced(image: np.ndarray) -> np.ndarray:
    """Return a picture with a fraction of its pixels, averaged."""
    return np.asarray(Image.fromarray(image).reduce(SMALLER))


def environment(venv: Path) -> Path:
    """Return a checker's virtual environment, a folder of its name, made where it is not there yet."""
    name = venv.name
    wanted = VERSIONS[name]
    if not (venv / "bin" / "pip").is_file():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        # LeRobot brings PyTorch along; this build is smaller than the one that it would choose.
        first = ["torch==2.13.0"] if name == "lerobot-lint" else []
        for package in (*first, f"{PACKAGES.get(name, name)}=={wanted}"):
            subprocess.run([venv / "bin" / "pip", "install", "--quiet", package], check=True)
    command = [str(venv / "bin" / "python"), "-c", f"import importlib.metadata as m; print(m.version({name!r}))"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if found != wanted:
        raise RuntimeError(f"{venv} holds {name} {found}, not {wanted}: remove the folder")
    return venv


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return both; where both have a value, the new one."""
    both = {**old, **new}
    for key in set(old) & set(new):
        if isinstance(old[key], dict) and isinstance(new[key], dict):
            both[key] = merge(old[key], new[key])
    return both


def compare(original: Path, tools: dict[str, Tool], only: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield what each checker says of the original, and what it says anew of each copy, or of some of them."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = [a for a in ALTERATIONS if only is None or a.name in only]
        made = [a for a in chosen if make_copy(original, Path(folder) / a.name, a)]
        for name, tool in tools.items():
            start = time.perf_counter()
            sound, *others = tool([original, *(Path(folder) / a.name for a in made)])
            copies: dict[str, Any] = {}
            for alteration, said in zip(made, others, strict=True):
                said = [(status, text.replace(f"{folder}/{alteration.name}", "SET")) for status, text in said]
                copies[alteration.name] = {name: said_anew(said, sound)}
                print(name, alteration.name, worst(said_anew(said, sound)), flush=True)
            print(name, f"{time.perf_counter() - start:.0f} s", flush=True)
            yield {"sound": {name: sound}, "copies": copies}


def ours(venv: Path, roots: list[Path]) -> list[Said]:
    """Run our checks in this process, without a base, as `pi05 check SET` does."""
    return [_our_findings(root) for root in roots]


def _our_findings(root: Path) -> Said:
    from pi05.check.examine import examine
    from pi05.commands.check import CHECK_FLAGS
    from pi05.commands.train import read_training_settings
    from pi05.train.checked.subject import open_subject

    request, _ = read_training_settings([str(root)], CHECK_FLAGS, word="dataset.root")
    subject, findings = open_subject(request.config, Console(quiet=True))
    if subject is not None:
        findings = [*findings, *examine(subject)]
    return [(f.status, f"{f.name}: {f.text}") for f in findings if f.status != "ok"]


DRIVER = """
import contextlib, importlib, io, json, os, sys
with open(sys.argv[1]) as file:
    job = json.load(file)
main = getattr(importlib.import_module(job["module"]), job["main"])
os.cpu_count = lambda: 1  # starting processes takes longer than decoding a few small videos
answers = []
for arguments in job["calls"]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(arguments)
        except SystemExit:
            pass
        except Exception as error:
            print(repr(error))
    report = ""
    if os.path.isfile(job["report"]):
        with open(job["report"]) as file:
            report = file.read()
        os.unlink(job["report"])
    answers.append([report, said.getvalue()])
with open(sys.argv[2], "w") as file:
    json.dump(answers, file)
"""
"""All sets in one process of a checker's own command: importing LeRobot takes longer than checking one."""


def run(venv: Path, command: str, roots: list[Path], flags: list[str]) -> list[tuple[str, str]]:
    """Call `module:function check ROOT FLAGS` for each root; return the report of each and what was printed.

    `REPORT` in the flags stands for a file that the checker writes to.
    """
    module, _, main = command.partition(":")
    with tempfile.TemporaryDirectory() as folder:
        report, job, answers = (Path(folder) / name for name in ("report.json", "job.json", "answers.json"))
        ready = [str(report) if flag == "REPORT" else flag for flag in flags]
        calls = [["check", str(root.resolve()), *ready] for root in roots]
        job.write_text(json.dumps({"module": module, "main": main, "calls": calls, "report": str(report)}))
        python = environment(venv) / "bin" / "python"
        done = subprocess.run([python, "-c", DRIVER, job, answers], capture_output=True, text=True, env=OFFLINE)
        if done.returncode or not answers.is_file():
            raise RuntimeError(f"{venv}: {done.stderr[-2000:]}")
        return [(each[0], each[1]) for each in json.loads(answers.read_text())]


def cannot(printed: str) -> Said:
    """Return what a checker says of a set that it cannot open: an error, in its last words."""
    if not printed.strip():
        raise RuntimeError("a checker said nothing at all")
    return [("error", printed.strip().splitlines()[-1])]


def doctor(venv: Path, roots: list[Path]) -> list[Said]:
    """Run lerobot-doctor."""
    status = {"FAIL": "error", "WARN": "warning"}

    def read(printed: str) -> Said:
        if "{" not in printed:
            return cannot(printed)
        checks, _ = json.JSONDecoder().raw_decode(printed[printed.index("{") :])
        return [
            (status[message["severity"]], f"{check['name']}: {message['message']}")
            for check in checks["checks"]
            for message in check["messages"]
            if message["severity"] in status
        ]

    return [read(printed) for _, printed in run(venv, "lerobot_doctor.cli:main", roots, ["--json"])]


def findings(status: dict[str, str], report: str, printed: str) -> Said:
    """Return the findings of a report, as rdq and lerobot-lint write it."""
    if not report:
        return cannot(printed)
    return [(status[f["severity"]], f"{f['check']}: {f['message']}") for f in json.loads(report)["findings"]]


def rdq(venv: Path, roots: list[Path]) -> list[Said]:
    """Run rdq with every frame decoded."""
    status = {"critical": "error", "warning": "warning", "info": "note"}
    answers = run(venv, "rdq.cli:main", roots, ["--video-full", "--no-color", "--json", "REPORT"])
    return [findings(status, *answer) for answer in answers]


def lint(venv: Path, roots: list[Path]) -> list[Said]:
    """Run lerobot-lint."""
    status = {"error": "error", "warning": "warning", "info": "note"}
    return [findings(status, *answer) for answer in run(venv, "lerobot_lint.cli:app", roots, ["--json", "REPORT"])]


READERS: dict[str, Callable[[Path, list[Path]], list[Said]]] = {
    OURS: ours,
    "lerobot-doctor": doctor,
    "lerobot-lint": lint,
    "rdq": rdq,
}


if __name__ == "__main__":
    main()
