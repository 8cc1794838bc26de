"""Python, packages, and leftovers that are imported or loaded in the place of what is installed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pi05.doctor.facts import Interpreter, Machine, Torch
from pi05.doctor.remedies import install, install_compiler, install_torch, uninstall
from pi05.doctor.torch_builds import Gpu
from pi05.finding import Finding, error, note, ok, warning

SUPPORTED = ((3, 11), (3, 13))
OURS = ("lerobot", "pi05")
"""What may well be used from a folder of sources."""


def judge_interpreter(
    facts: Interpreter, machine: Machine, torch: Torch, gpus: Sequence[Gpu] = ()
) -> Iterator[Finding]:
    """Yield what is to be said about Python and its environment."""
    version = ".".join(map(str, facts.version))
    if not SUPPORTED[0] <= facts.version[:2] <= SUPPORTED[1]:
        yield error(
            "python.version",
            f"Python {version}, and pi05 supports 3.11 to 3.13",
            "may fail at any import",
            "python3.12 -m venv .venv && . .venv/bin/activate && pip install .",
        )
    elif not facts.virtual:
        yield note(
            "python.shared",
            f"Python {version}, and no virtual environment: packages are shared with all of this Python's programs",
            "changes with what others install",
            "python3 -m venv .venv && . .venv/bin/activate",
        )
    else:
        yield ok("python.ok", f"{version}, {machine.python}")
    yield from _packages(facts, machine)
    yield from _leftovers(facts, machine, torch, gpus)
    if gpus and torch.cuda is not None and facts.why_no_triton is not None:
        yield note(
            "torch.no_compiler",
            f"nothing can be compiled for the GPU: {facts.why_no_triton}",
            "takes its layers, and the low-memory update, operation by operation: slower, and with more memory",
            install(machine, "triton") if "triton" in facts.why_no_triton else install_compiler(machine),
        )


def _packages(facts: Interpreter, machine: Machine) -> Iterator[Finding]:
    if facts.sources is not None:
        yield warning(
            "packages.sources",
            f"pi05 is not installed in this Python; it runs from {facts.sources}",
            "fails where a package that it needs is missing",
            install(machine, facts.sources),
        )
    wrong = [package for package in facts.packages if package.found is None or older(package.found, package.oldest)]
    if wrong:
        said = ", ".join(f"{p.name} {'is missing' if p.found is None else f'is {p.found}'}" for p in wrong)
        yield error(
            "packages.wrong",
            said,
            "fails where the package is first used",
            install(machine, *(f"{package.name}>={package.oldest}" for package in wrong)),
        )
    elif facts.packages:
        yield ok("packages.ok", f"all {len(facts.packages)} that pi05 needs")


def _leftovers(facts: Interpreter, machine: Machine, torch: Torch, gpus: Sequence[Gpu]) -> Iterator[Finding]:
    if facts.editable_lerobot is not None:
        yield warning(
            "leftovers.lerobot",
            f"LeRobot is installed here in editable form, from {facts.editable_lerobot}",
            "changes with that folder, and LeRobot's pins exchange torch, av and huggingface-hub under pi05",
            f"{uninstall(machine, 'lerobot')}  # and give LeRobot an environment of its own",
        )
    if len(facts.torch_folders) > 1:
        in_home = any(facts.user_site and folder.startswith(facts.user_site) for folder in facts.torch_folders)
        added = any(folder.startswith(entry) for folder in facts.torch_folders for entry, _ in facts.python_path)
        yield error(
            "leftovers.two_torches",
            f"{len(facts.torch_folders)} torch installations: {', '.join(facts.torch_folders)}",
            "loads libraries of one into the other: undefined symbol, or a crash without a word",
            "unset PYTHONPATH"
            if added
            else "export PYTHONNOUSERSITE=1"
            if in_home
            else f"{uninstall(machine, 'torch')}  # until there is none; then: {install_torch(machine, gpus)}",
        )
    shadowed = [(entry, [name for name in names if name not in OURS]) for entry, names in facts.python_path]
    for entry, names in shadowed:
        if names:
            yield warning(
                "leftovers.python_path",
                f"PYTHONPATH has {entry}, whose {', '.join(names)} is imported in the place of the installed one",
                "uses versions that nobody chose for it",
                "unset PYTHONPATH",
            )
    if facts.python_path and not any(names for _, names in shadowed):
        yield note("leftovers.python_path_set", f"PYTHONPATH is set: {':'.join(e for e, _ in facts.python_path)}")
    if torch.cuda is not None or torch.fault is not None:
        for entry, libraries in facts.library_path:
            build = "torch" if torch.cuda is None else f"torch's own, for CUDA {torch.cuda}"
            yield warning(
                "leftovers.library_path",
                f"LD_LIBRARY_PATH has {entry} with {_some(libraries)}, loaded in the place of {build}",
                "fails at the import of torch, or in the first kernel, or uses an older cuDNN or NCCL",
                "unset LD_LIBRARY_PATH",
            )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def older(found: str, oldest: str) -> bool:
    """Tell whether a version is older than another, by their leading numbers."""

    def numbers(version: str) -> tuple[int, ...]:
        return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[+a-zA-Z]", version)[0]))

    return numbers(found) < numbers(oldest)
