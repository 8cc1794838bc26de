"""Keep watch over the shape of the code: who may import whom, what stays torch-free, what tests are collected."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src"
FILES = sorted((SOURCE / "pi05").rglob("*.py"))

GROUND = {"errors", "settings", "types"}
BOTH = {"model", "data", "checkpoint"}
WHOLE_CHAIN = {*GROUND, *BOTH, "policy", "train", "eval", "sim", "presets", "machine"}
COMMANDS = {"commands", "export_command", "inspection", "inspection_tables"}
ALLOWED = {
    "errors": set(),
    "types": set(),
    "settings": {"errors"},
    "machine": set(),
    "flags": {"errors", "settings"},
    "foreign_flags": {"errors", "settings", "flags"},
    "model": GROUND,
    "data": GROUND,
    "sim": {*GROUND, "data"},
    "checkpoint": {*GROUND, "model", "data"},
    "policy": {*GROUND, *BOTH},
    "exporting": {*GROUND, *BOTH, "policy"},
    "export": {*GROUND, *BOTH, "policy", "exporting"},
    "inspection": {*GROUND, *BOTH},
    "inspection_tables": set(),
    "commands": {"errors", "settings"},
    "export_command": {*GROUND, *BOTH, "commands", "exporting", "export"},
    "train": {*GROUND, *BOTH, "policy", "machine"},
    "eval": {*GROUND, *BOTH, "policy", "sim", "machine"},
    "hub": {*GROUND, *BOTH, "policy", "export", "train", "eval"},
    "presets": {"errors", "settings", "train"},
    "train_command": {"errors", "settings", "flags", "foreign_flags", "presets", "train"},
    "plan_command": {"errors", "settings", "train", "train_command"},
    "demo": WHOLE_CHAIN,
    "cli": {*WHOLE_CHAIN, *COMMANDS, "demo", "flags", "foreign_flags", "train_command", "plan_command", "hub", "pi05"},
    "__main__": {"cli"},
    "pi05": {"checkpoint", "data", "policy"},
}
"""By top-level name under pi05; "pi05" is the package's own `__init__`. The version may be read by everybody."""

TORCH_FREE = [
    "pi05",
    "pi05.cli",
    "pi05.commands",
    "pi05.export_command",
    "pi05.plan_command",
    "pi05.presets",
    "pi05.train.gpus",
    "pi05.train_command",
    *sorted(f"pi05.{file.parent.name}.config" for file in FILES if file.name == "config.py"),
]
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "misc", "base", "core"}
LONGEST_FILE, LONGEST_FUNCTION, LONGEST_TRAIN = 350, 60, 120


def module_name(file: Path) -> str:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def import_nodes(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield all imports, those inside functions included, those for type checkers only left out."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not is_type_checking(child):
            yield from import_nodes(child)


def imported(file: Path) -> set[str]:
    """Return the modules of pi05 that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in import_nodes(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "pi05"}
        elif node.module is not None and node.module.split(".")[0] == "pi05":
            assert node.level == 0
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return found


def layer(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows(module: str) -> None:
    own = layer(module)
    assert own in ALLOWED, f"{module} is new: give it its arrows in this test"
    wrong = {name for name in imported(MODULES[module]) if name != "pi05" and layer(name) not in {own, *ALLOWED[own]}}
    assert not wrong, f"{module} must not import {sorted(wrong)}"


def test_only_collecting_in_sim_sees_data() -> None:
    for module, file in MODULES.items():
        if layer(module) == "sim" and module != "pi05.sim.collect":
            assert not {name for name in imported(file) if layer(name) in ("data", "model")}, module


def test_no_import_cycle_even_through_lazy_imports() -> None:
    graph = {module: imported(file) - {module} for module, file in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        assert module not in path, "cycle: " + " → ".join([*path[path.index(module) :], module])
        if module in done:
            return
        for name in sorted(graph.get(module, ())):
            visit(name, [*path, module])
        done.add(module)

    for module in graph:
        visit(module, [])


@pytest.mark.parametrize("module", TORCH_FREE)
def test_no_torch_is_imported_with(module: str) -> None:
    program = f"import {module}, sys; print(sorted({{'torch', 'numpy'}} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_every_config_is_watched() -> None:
    assert {"pi05.model.config", "pi05.data.config", "pi05.train.config", "pi05.eval.config"} <= set(TORCH_FREE)


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [module for module in MODULES if set(module.split(".")) & FORBIDDEN_NAMES]


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        module
        for module, file in MODULES.items()
        if (tree := ast.parse(file.read_text(encoding="utf-8"))).body and ast.get_docstring(tree) is None
    ]
    assert not silent


def test_files_and_functions_stay_short() -> None:
    long = []
    for module, file in MODULES.items():
        text = file.read_text(encoding="utf-8")
        if (lines := text.count("\n")) > LONGEST_FILE:
            long.append(f"{module} has {lines} lines: look for the second concept")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                limit = LONGEST_TRAIN if (module, node.name) == ("pi05.train.loop", "train_on") else LONGEST_FUNCTION
                if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > limit:
                    long.append(f"{module}.{node.name} has {lines} lines")
    assert not long


def holds_tests(file: Path) -> bool:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in ast.walk(tree))


def test_every_test_file_is_collected() -> None:
    files = sorted((REPOSITORY / "tests").rglob("*.py"))
    assert len(files) > 10
    never_run = [file.name for file in files if holds_tests(file) and not file.name.startswith("test_")]
    empty = [file.name for file in files if file.name.startswith("test_") and not holds_tests(file)]
    assert (never_run, empty) == ([], [])
