"""Prove with the real LeRobot that checkpoints go both ways: same observation and noise, same actions (1e-4).

LeRobot from PyPI, `--lerobot` says which version, runs in a Python 3.12 environment of its own (about 5.5 GB with
PyTorch's CUDA packages); pi05 in this one. The network is tiny, because LeRobot's sizes are set from outside for it;
all else is LeRobot's own code:

1. LeRobot saves a base folder; `pi05 train` fine-tunes it on table-top demonstrations, in full and with LoRA.
2. `pi05 export --to lerobot` writes the results, merged and adapter-only. LeRobot loads each in a process without
   network, hub cache or pi05, in another working directory: "All keys loaded", its own processors, its own sampling.
3. `lerobot-eval` and `lerobot-rollout` run an exported folder in the table-top simulator; every executed action is
   compared with ours for the same observation and noise.
4. The other way round: `lerobot-train` fine-tunes the same base (quantiles; mean and deviation; relative actions;
   a third, empty camera; LoRA), and `Policy.load` gives LeRobot's actions.
5. Weights that go lerobot → pi05 → lerobot come back bit for bit.

    python benchmarks/interop_lerobot.py --lerobot=0.6.1 --env /tmp/lerobot-env --python python3.12

The environment is made on the first run, and used again later if it holds that version. Prints a table, writes
benchmarks/results/interop_lerobot_VERSION_DATE.json, and exits with 1 when anything differs by more than the limit.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from interop_cases import (
    EXPORTS,
    LEROBOT_BASES,
    LEROBOT_RUNS,
    LIMIT,
    OUR_RUNS,
    ROLLOUT_TASK,
    Export,
    lerobot_flags,
    train_flags,
)
from interop_compare import answers, compare, draw_noise, observations, write_observations
from interop_sizes import CAMERAS, SIZES
from interop_steps import Sides, config_keys, provide_tokenizer, same_tokens, same_weights
from interop_tabletop import closed_loop, simulator
from open_with_lerobot import environment

import pi05
from pi05 import Policy
from pi05.checkpoint.sidecar import write_sidecar
from pi05.machine import machine_info
from pi05.model.config import ModelConfig

NEWEST = "0.6.1"
"""Newest version that PyPI served when this was last looked at (2026-11-29)."""
MODULES = "lerobot.datasets, transformers, peft, accelerate"
"""What an environment that was made for something else may lack."""
OBSERVATIONS = 8


def main() -> None:
    """Parse the arguments, run everything, print and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lerobot", default=NEWEST, help="LeRobot's version (default: %(default)s)")
    parser.add_argument("--env", type=Path, help="LeRobot's environment, outside the repository (default: temporary)")
    parser.add_argument("--python", default="python3.12", help="the Python 3.12 that makes the environment")
    parser.add_argument("--work", type=Path, help="folder to keep the checkpoints in (default: temporary)")
    parser.add_argument("--tokenizer", type=Path, help="also compare this tokenizer's ids, e.g. Gemma's tokenizer.json")
    arguments = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.work or Path(temporary) / "work").absolute()
        folder.mkdir(parents=True)
        requirement = f"lerobot[pi,peft,dataset,training]=={arguments.lerobot}"
        python = environment(arguments.env or Path(temporary) / "env", arguments.python, requirement, MODULES)
        with closing(Sides(folder, python)) as sides:
            proof = Proof(sides, arguments.lerobot)
            proof.run(arguments.tokenizer)
    result = proof.result() | {"minutes": round((time.perf_counter() - started) / 60, 1)}
    path = Path(__file__).parent / "results" / f"interop_lerobot_{arguments.lerobot}_{result['date']}.json"
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print(f"{'all passed' if result['pass'] else 'FAILED'}; written to {path}")
    sys.exit(0 if result["pass"] else 1)


class Proof:
    """All cases, in order; each adds a row to `rows`."""

    def __init__(self, sides: Sides, version: str) -> None:
        self.sides = sides
        self.version = version
        self.folder = sides.folder
        self.rows: dict[str, dict[str, Any]] = {}
        self.facts: dict[str, Any] = {}

    def run(self, tokenizer: Path | None) -> None:
        """Run every case; one that fails is a row, and the others go on."""
        sides, folder = self.sides, self.folder
        sides.lerobot("describe", folder / "facts.json")
        self.facts = json.loads((folder / "facts.json").read_text())
        if self.facts["versions"]["lerobot"] != self.version:
            sys.exit(f"the environment holds LeRobot {self.facts['versions']['lerobot']}: give another --env")
        self.tokenizer = provide_tokenizer(folder)
        sides.pi05("collect", "--env=tabletop", "--episodes=6", f"--output={folder / 'data'}")
        self.given = observations(folder / "data", tuple(CAMERAS), OBSERVATIONS)
        self.noise = draw_noise(OBSERVATIONS)
        self.square = observations(folder / "data", tuple(CAMERAS), OBSERVATIONS, ((224, 224),))
        write_observations(folder / "observations.npz", self.given, self.noise)
        write_observations(folder / "square.npz", self.square, self.noise)
        sides.lerobot("base", folder / "base", cache=True)
        write_sidecar(folder / "base", {"layout": "lerobot", "model": SIZES})  # a folder never tells head counts
        self.row("tokenizer folder (tiny)", same_tokens, sides, self.tokenizer)
        if tokenizer is not None:
            self.row("tokenizer folder (given)", same_tokens, sides, tokenizer)
        for name in OUR_RUNS:
            self.row(f"pi05 train from LeRobot's base: {name}", self.trained, name)
        for export in EXPORTS:
            self.row(f"pi05 → LeRobot: {export.title}", self.exported, export)
        self.row("pi05 → LeRobot: openpi's base, 224 px pictures", self.openpi_base)
        self.row("pi05 → LeRobot: moved, --relocate", self.moved)
        for command in ("eval", "rollout"):
            self.row(f"lerobot-{command}, simulator", self.command, command)
        for name in LEROBOT_RUNS:
            self.row(f"LeRobot → pi05: {name}", self.imported, name)
        self.row("weights LeRobot → pi05 → LeRobot", self.round_trip)

    def row(self, title: str, case: Callable[..., dict[str, Any]], *arguments: Any) -> None:
        """Run one case, keep and print its row."""
        try:
            self.rows[title] = case(*arguments)
        except (subprocess.CalledProcessError, pi05.errors.UserError) as error:
            output = getattr(error, "output", None) or str(error)
            self.rows[title] = {"pass": False, "error": output[-2000:]}
        row = self.rows[title]
        print(f"{'pass' if row['pass'] else 'FAIL'}  {title:52s} {summary(row)}", flush=True)

    def trained(self, name: str, base: str = "base") -> dict[str, Any]:
        """Fine-tune a base with our command."""
        self.sides.pi05("train", *train_flags(name, self.folder, self.folder / base, self.tokenizer))
        return {"pass": True}

    def exported(self, export: Export) -> dict[str, Any]:
        """Export one run, and compare LeRobot's actions with those of the run and of the folder read again."""
        out = self.folder / "exports" / export.name
        self.sides.pi05("export", "--to=lerobot", *export.flags, self.folder / export.run, out)
        row = self.compared(out, self.folder / export.run, limit=export.limit)
        theirs = np.load(self.folder / f"{out.name}.npz")
        again = compare(answers(Policy.load(out), self.given, self.noise), theirs, export.limit)
        keys = config_keys(out, self.version, self.facts["fields"])
        row["max difference of actions, read again"] = again["max difference of actions"]
        known = not any(names for title, names in keys.items() if title.startswith("unknown to "))
        return row | keys | {"pass": row["pass"] and again["pass"] and known}

    def compared(self, out: Path, source: Path, *, square: bool = False, limit: float = LIMIT) -> dict[str, Any]:
        """Compare LeRobot's actions from the folder `out` with ours from `source`."""
        given, name = (self.square, "square.npz") if square else (self.given, "observations.npz")
        answer = self.folder / f"{out.name}.npz"
        self.sides.lerobot("actions", out, self.folder / name, answer)
        return compare(answers(Policy.load(source), given, self.noise), np.load(answer), limit)

    def openpi_base(self) -> dict[str, Any]:
        """Fine-tune an openpi folder, so with openpi's normalisation and resize, and export to LeRobot.

        LeRobot resizes in its own way, so pictures are of the network's size, which both leave alone.
        """
        self.sides.pi05("export", "--to=openpi", self.folder / "full", self.folder / "exports" / "openpi")
        self.trained("openpi_base", "exports/openpi")
        out = self.folder / "exports" / "openpi_base"
        self.sides.pi05("export", "--to=lerobot", self.folder / "openpi_base", out)
        processor = Policy.load(self.folder / "openpi_base").processor
        told = {"formula": processor.formula, "resize": processor.resize}
        return self.compared(out, self.folder / "openpi_base", square=True) | told

    def moved(self) -> dict[str, Any]:
        """Move an exported folder, let `pi05 export --relocate` rewrite its paths, and compare again."""
        first, out = self.folder / "exports" / "to_move", self.folder / "another place" / "moved"
        self.sides.pi05("export", "--to=lerobot", self.folder / "full", first)
        out.parent.mkdir()
        first.rename(out)
        self.sides.pi05("export", "--relocate", out)
        return self.compared(out, self.folder / "full")

    def command(self, name: str) -> dict[str, Any]:
        """Run LeRobot's own command on an exported folder in the simulator."""
        out = self.folder / "exports" / EXPORTS[0].name
        with simulator(self.folder / "tabletop.sock") as chunks:
            flags = lerobot_flags(name, out, self.folder / f"lerobot_{name}")
            self.sides.lerobot(name, *flags, TABLETOP=str(self.folder / "tabletop.sock"))
        return closed_loop(Policy.load(out), chunks, LIMIT, ROLLOUT_TASK if name == "rollout" else None)

    def imported(self, name: str) -> dict[str, Any]:
        """Fine-tune with `lerobot-train`, and compare our actions with LeRobot's."""
        run, answer = self.folder / "lerobot_runs" / name.replace(" ", "_"), self.folder / f"lerobot_{name}.npz"
        base = LEROBOT_BASES.get(name, "base")
        flags = lerobot_flags("train", self.folder / base, run) + LEROBOT_RUNS[name]
        self.sides.lerobot("train", *flags, f"--dataset.root={self.folder / 'data'}", cache=True)
        trained = run / "checkpoints" / "last" / "pretrained_model"
        self.sides.lerobot("actions", trained, self.folder / "observations.npz", answer, cache=True)
        tokenizer = self.tokenizer if base == "base" else None  # LeRobot keeps the path of our export's tokenizer
        policy = Policy.load(trained, tokenizer_path=tokenizer, config=ModelConfig(**SIZES))
        return compare(answers(policy, self.given, self.noise), np.load(answer))

    def round_trip(self) -> dict[str, Any]:
        """Take LeRobot's base to our layout and back."""
        source = self.folder / "lerobot_runs" / "quantiles" / "checkpoints" / "last" / "pretrained_model"
        middle, back = self.folder / "exports" / "to_pi05", self.folder / "exports" / "back"
        write_sidecar(source, {"layout": "lerobot", "model": SIZES})
        self.sides.pi05("export", "--to=pi05", f"--tokenizer_path={self.tokenizer}", source, middle)
        self.sides.pi05("export", "--to=lerobot", middle, back)
        return same_weights(source, back)

    def result(self) -> dict[str, Any]:
        """Return everything that is written to the file."""
        return {
            "date": date.today().isoformat(),
            "pass": all(row["pass"] for row in self.rows.values()),
            "limit": LIMIT,
            "machine": machine_info(),
            "versions": {
                "pi05": pi05.__version__,
                "python": platform.python_version(),
                "lerobot's python": self.facts["python"],
                **{name if name == "lerobot" else f"lerobot's {name}": v for name, v in self.facts["versions"].items()},
            },
            "network": SIZES,
            "cases": self.rows,
        }


def summary(row: dict[str, Any]) -> str:
    """Return the numbers of a row that matter, in short."""
    if "error" in row:
        return str(row["error"])
    if "tensors" in row:
        return f"{row['bit-equal']} of {row['tensors']} tensors bit-equal, the others are never used"
    shown = ("max difference of normalised", "max difference of actions")
    return "  ".join(f"{key.removeprefix('max difference of ')} {row[key]:.1e}" for key in shown if key in row)


if __name__ == "__main__":
    main()
