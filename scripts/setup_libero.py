"""Put LIBERO into the virtual environment `.venv`: the set of packages that was verified, its assets, a way to draw.

`make libero` calls it after `make setup`; it does nothing when nothing has changed. Standard library only.

    python scripts/setup_libero.py           set up
    python scripts/setup_libero.py --plan    only say what would be installed

The extra `pi05[libero]` holds all that pip can resolve. Three packages come without what they ask for: hf-libero wants
robomimic, hydra, transformers and a renderer that is compiled, robosuite a second OpenCV beside the headless one, bddl
a notebook converter and pytest. Nothing of that is used, and pip would take MuJoCo 3.8, which docs/libero.md warns of.

Where no graphics library draws without a screen, root installs Debian's packages of Mesa; anybody else is told their
names.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from pi05.sim.libero.rendering import MESA  # noqa: E402 - the package lies there; this part of it needs nothing

VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "pi05-libero.json"
CONSTRAINTS = ROOT / "constraints.txt"
WITHOUT_DEPENDENCIES = ("hf-libero==0.1.4", "robosuite==1.4.0", "bddl==1.0.1")
DRAW = "from pi05.sim.libero.rendering import choose_rendering; print(choose_rendering())"


class SetupError(Exception):
    """Stop with a message that tells what to do."""


def steps() -> list[list[str]]:
    """Return what pip is asked to install, in turn."""
    return [
        ["--constraint", str(CONSTRAINTS), "--editable", ".[dev,libero]"],
        ["--no-deps", *WITHOUT_DEPENDENCIES],
    ]


def fingerprint() -> str:
    """Return what the set depends on; while it is the same, there is nothing to do."""
    files = (CONSTRAINTS, ROOT / "pyproject.toml", Path(__file__))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def install() -> None:
    """Install the packages."""
    for arguments in steps():
        print("  pip " + " ".join(arguments), flush=True)
        command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--quiet", *arguments]
        if subprocess.run(command, check=False, cwd=ROOT).returncode != 0:
            raise SetupError(
                "pip could not install LIBERO; its own message is above.\n"
                "To do: check the network (a mirror: PIP_INDEX_URL) and run make libero again."
            )


def draws() -> str | None:
    """Return the graphics library that draws a frame, None where none does; asked in the environment itself."""
    answer = subprocess.run([str(PYTHON), "-c", DRAW], capture_output=True, text=True, check=False, cwd=ROOT)
    return answer.stdout.strip() if answer.returncode == 0 else None


def install_mesa() -> None:
    """Install Debian's packages of Mesa as root, or say which they are."""
    commands = (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", *MESA.split()])
    if shutil.which("apt-get") is None:
        raise SetupError(
            "MuJoCo draws nothing on this machine.\n"
            "To do: install Mesa's libEGL and libOSMesa with the package manager of this system, then make libero."
        )
    if os.geteuid() != 0:
        raise SetupError(f"MuJoCo draws nothing here.\nTo do: sudo apt-get install {MESA}, then make libero.")
    for command in commands:
        print("  " + " ".join(command), flush=True)
        if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode != 0:
            raise SetupError(f"{command[0]} failed; its own message is above.\nTo do: apt-get install {MESA}")


def main(arguments: Sequence[str]) -> int:
    """Set LIBERO up, or with --plan say what would be done."""
    if arguments == ["--plan"]:
        for step in steps():
            print("pip install " + " ".join(step))
        print(f"where nothing draws without a screen: apt-get install {MESA}")
        return 0
    if arguments:
        raise SetupError(f"{' '.join(arguments)} is not known.\nTo do: use --plan, or nothing.")
    if not PYTHON.exists():
        raise SetupError(f"there is no {VENV}.\nTo do: make libero, which makes it first.")
    if STAMP.exists() and json.loads(STAMP.read_text()) == fingerprint():
        return 0
    install()
    way = draws()
    if way is None:
        install_mesa()
        way = draws()
    if way is None:
        raise SetupError("MuJoCo draws nothing, with Mesa.\nTo do: pi05 doctor says what each library answers.")
    STAMP.write_text(json.dumps(fingerprint()))
    print(f"LIBERO is installed; MuJoCo draws with {way}.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
