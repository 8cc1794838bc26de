"""Pieces of `interop_lerobot.py`: the two sides' processes, the tokenizer, checks of files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from interop_sizes import TOKENIZER
from safetensors.torch import load_file

import pi05
from pi05.checkpoint.tokenizer_folder import write_tokenizer
from pi05.data.tokenizer import Tokenizer

DEAD = {f"model.paligemma_with_expert.{tower}.lm_head.weight" for tower in ("paligemma", "gemma_expert")}
HERE = Path(__file__).parent.resolve()
WRITTEN_BY_DEV = HERE.parent / "tests" / "golden" / "lerobot_checkpoints" / "full"
TEXTS = [
    "Task: pick up the red block, State: 12 255 -1 0 128;\nAction: ",
    "Task: Öffne die Schublade, 打开抽屉 🤖, State: 1;\nAction: ",
    "Task: <bos> <image> \t two  spaces, State: 0 0 0;\nAction: ",
    " ",
]


class Sides:
    """Runs commands on either side.

    LeRobot's side has two processes, neither with a network: one with PaliGemma's tokenizer in a hub cache, as a user
    who trains with LeRobot has it, and one without, since exported folders must not need it.
    """

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder = folder
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()
        self._processes = {cache: self._start(python, cache) for cache in (True, False)}

    def _start(self, python: Path, cache: bool) -> subprocess.Popen[str]:
        hub = self.folder / ("hub" if cache else "hub_empty")
        own = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(hub), "HF_HOME": str(self.folder / "hf")}
        words = [str(python), str(HERE / "lerobot_side.py")]
        pipe = subprocess.PIPE
        return subprocess.Popen(words, stdin=pipe, stdout=pipe, env={**os.environ, **own}, text=True)

    def lerobot(self, *words: object, cache: bool = False, **environment: str) -> None:
        """Run a command of `lerobot_side.py` in a working directory of its own.

        Raises CalledProcessError with the output.
        """
        process, log = self._processes[cache], self.folder / "lerobot.log"
        assert process.stdin is not None
        assert process.stdout is not None
        job = {"words": [str(word) for word in words], "directory": str(self.elsewhere)}
        process.stdin.write(json.dumps({**job, "environment": environment, "log": str(log)}) + "\n")
        process.stdin.flush()
        status = process.stdout.readline().strip()
        if status != "0":
            raise subprocess.CalledProcessError(int(status or -1), job["words"], output=log.read_text())

    def pi05(self, *words: object) -> None:
        """Run a pi05 command. Raises CalledProcessError with the output."""
        subprocess.run(
            [sys.executable, "-m", "pi05", *map(str, words)],
            cwd=self.folder,
            env={**os.environ, "PI05_CACHE": str(self.folder / "frames")},
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def close(self) -> None:
        """End LeRobot's processes."""
        for process in self._processes.values():
            process.communicate()


def provide_tokenizer(folder: Path) -> Path:
    """Put the packaged tokenizer where LeRobot looks for PaliGemma's: into a hub cache. Returns its folder there."""
    commit = "0" * 40
    entry = folder / "hub" / f"models--{TOKENIZER.replace('/', '--')}"
    snapshot = entry / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(commit)
    (snapshot / "config.json").write_text(json.dumps({"model_type": "paligemma"}))
    write_tokenizer(snapshot, Tokenizer.load(Path(pi05.__file__).parent / "assets" / "pi05-tiny"))
    return snapshot


def same_tokens(sides: Sides, path: Path) -> dict[str, Any]:
    """Write a tokenizer folder as an export does, and compare AutoTokenizer's ids with ours."""
    tokenizer = Tokenizer.load(path)
    folder = sides.folder / f"tokenizer_{tokenizer.sha256[:8]}"
    folder.mkdir()
    write_tokenizer(folder, tokenizer)
    (folder / "texts.json").write_text(json.dumps(TEXTS))
    sides.lerobot("tokens", folder, folder / "texts.json", folder / "ids.json")
    told = json.loads((folder / "ids.json").read_text())
    equal = told["ids"] == [tokenizer.encode(text) for text in TEXTS]
    return {"pass": equal, "texts": len(TEXTS), "vocabulary": tokenizer.vocab_size, "class": told["class"]}


def config_keys(folder: Path, version: str, known: list[str]) -> dict[str, Any]:
    """Return how many keys config.json has, and those that LeRobot of `version` or 0.6.2-dev does not know.

    `known` are the fields of the installed version. Those of 0.6.2-dev are in a folder that it wrote.
    """
    keys = set(json.loads((folder / "config.json").read_text()))
    newer = set(json.loads((WRITTEN_BY_DEV / "config.json").read_text()))
    strange = {f"unknown to {version}": sorted(keys - set(known)), "unknown to 0.6.2-dev": sorted(keys - newer)}
    return {"config keys": len(keys), **strange}


def same_weights(source: Path, back: Path) -> dict[str, Any]:
    """Compare two LeRobot weight files name by name and bit by bit.

    The two heads that π₀.₅ never uses (`DEAD`) are not kept; LeRobot wants their names, so an export has them anew.
    """
    before, after = (load_file(folder / "model.safetensors") for folder in (source, back))
    shared = before.keys() & after.keys()
    same = {name for name in shared if before[name].dtype == after[name].dtype and before[name].equal(after[name])}
    return {
        "pass": before.keys() == after.keys() and before.keys() - same <= DEAD,
        "tensors": len(before),
        "bit-equal": len(same),
        "different (never used)": sorted(shared - same),
        "missing or new": sorted(before.keys() ^ after.keys()),
    }
