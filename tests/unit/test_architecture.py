"""Keep watch over the shape of the code: who may import whom, what stays torch-free, what tests are collected."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from long_tests import LONG

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src"
FILES = sorted((SOURCE / "pi05").rglob("*.py"))
TORCH_FREE_FILES = [
    file
    for file in FILES
    if (file.name == "config.py" and file.parent.name != "peft") or file.parent.name in ("commands", "settings")
]
"""`checkpoint/peft/config.py` reads PEFT's file and holds no settings."""

GROUND = {"errors", "files", "settings", "temporary", "types", "waits"}
BOTH = {"model", "data", "checkpoint"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "types": set(),
    "child": set(),
    "triton_here": set(),
    "compiler": {"triton_here"},
    "machine": {"errors"},
    "files": {"errors", "temporary"},
    "temporary": set(),
    "finding": set(),
    "finding_report": {"errors", "finding"},
    "terminal": {"errors"},
    "revision": set(),
    "waits": set(),
    "settings": {"errors"},
    "sources": {"errors", "files", "revision", "temporary", "terminal"},
    "model": GROUND,
    "data": {*GROUND, "revision", "sources"},
    "sim": {*GROUND, "child"},
    "checkpoint": {*GROUND, "revision", "sources", "model", "data"},
    "prepared": {*GROUND, "data"},
    "policy": {*GROUND, *BOTH, "prepared"},
    "policy_choice": {"errors", "settings"},
    "check": {*GROUND, *BOTH, "finding", "policy", "pages", "sources", "terminal"},
    "train": {
        *GROUND,
        *BOTH,
        "sources",
        "terminal",
        "policy",
        "machine",
        "check",
        "compiler",
        "finding",
        "triton_here",
    },
    "pages": {*GROUND, "checkpoint", "train.records"},
    "eval": {
        *GROUND,
        *BOTH,
        "terminal",
        "policy",
        "policy_choice",
        "serve",
        "sim",
        "machine",
        "pages",
        "train.records",
    },
    "export": {*GROUND, *BOTH, "policy"},
    "serve": {*GROUND, "checkpoint", "compiler", "data", "policy", "policy_choice", "prepared", "machine"},
    "hub": {*GROUND, *BOTH, "revision", "sources", "policy", "export", "train"},
    "doctor": {"errors", "child", "finding", "sources", "sim", "triton_here"},
    "presets": {*GROUND, "train"},
    "demo": {
        *GROUND,
        *BOTH,
        "terminal",
        "policy",
        "policy_choice",
        "train",
        "pages",
        "eval",
        "sim",
        "presets",
        "machine",
    },
    "commands": {
        *GROUND,
        *BOTH,
        "terminal",
        "sources",
        "machine",
        "policy",
        "train",
        "pages",
        "eval",
        "export",
        "hub",
        "serve",
        "sim",
        "presets",
        "demo",
        "doctor",
        "check",
        "finding",
        "finding_report",
    },
    "cli": {*GROUND, "commands", "train"},
    "__main__": {"cli"},
    "pi05": {"checkpoint", "data", "policy"},
}
"""Rooms, and the rooms that each may see; "room.wing" is that wing alone, "pi05" the package's own `__init__`, whose
version may be read by everybody."""

WINGS: dict[str, set[str]] = {
    "data.lerobot": {"data.describe", "data.robot", "data.wanted"},
    "data.robot": {"data.statistics"},
    "data.measures": {"data", "data.lerobot"},
    "checkpoint.openpi": {"checkpoint"},
    "checkpoint.lerobot": {"checkpoint", "checkpoint.openpi"},
    "checkpoint.peft": {"checkpoint", "checkpoint.lerobot", "checkpoint.openpi"},
    "train.checked": {"train", "train.inputs"},
    "train.device": {"train.config", "train.parallel"},
    "train.inputs": {"train.config"},
    "train.optim": {"train.config", "train.parallel"},
    "train.parallel": {"train"},
    "train.records": {"train", "train.parallel"},
    "train.plan": {"train", "train.device", "train.inputs", "train.optim", "train.parallel"},
    "train.watchers": {"train", "train.checked", "train.parallel"},
    "sim.libero": {"sim.episodes", "sim.protocol"},
    "eval.places": {"eval.episode", "eval.instructions"},
    "eval.open_loop": {"eval"},
    "check.fix": set(),
    "check.pictures": {"check.subject"},
    "checkpoint.own": set(),
    "check.numbers": {"check.subject", "check.structure"},
    "doctor.probes": {"doctor.facts", "doctor.hub_address", "doctor.torch_builds"},
    "doctor.judge": {"doctor.facts", "doctor.hub_address", "doctor.remedies", "doctor.torch_builds"},
}
"""What each wing may see of its own room, besides itself: other wings, or files of the floor (all of them: the room's
name). The floor may see its wings; that no two modules see each other is a test of its own."""

EXCEPTIONS: dict[str, set[str]] = {
    "sim.collect": {"data.lerobot"},
    "sim.collect_tasks": {"data.lerobot"},
    "sim.replay_file": {"data.lerobot"},
    "sim.libero.assets": {"sources"},
}
"""Single modules that see more than their room."""

TORCH_FREE = [
    "pi05",
    "pi05.cli",
    "pi05.policy_choice",
    "pi05.presets",
    "pi05.serve.protocol",
    "pi05.train.device.attention_cases",
    "pi05.train.device.kernels",
    "pi05.train.plan.gpus",
    "pi05.waits",
    *sorted(f"pi05.{'.'.join(file.relative_to(SOURCE / 'pi05').with_suffix('').parts)}" for file in TORCH_FREE_FILES),
]

TESTED_BY: dict[str, str] = {
    "__main__": "e2e/conftest.py",
    "checkpoint.accounting": "unit/checkpoint/test_load_refusals.py",
    "checkpoint.file_names": "unit/checkpoint/test_locate.py",
    "checkpoint.lerobot.tokenizer_name": "unit/checkpoint/lerobot/test_write.py",
    "checkpoint.lerobot.fields": "unit/checkpoint/test_mutations.py",
    "checkpoint.lerobot.normalization": "unit/checkpoint/lerobot/test_read.py",
    "checkpoint.lerobot.steps": "unit/checkpoint/lerobot/test_read.py",
    "checkpoint.lerobot.write_steps": "unit/checkpoint/lerobot/test_write.py",
    "checkpoint.openpi.orbax_fields": "unit/checkpoint/openpi/test_orbax.py",
    "checkpoint.peft.locate_base": "unit/checkpoint/peft/test_load.py",
    "checkpoint.plausible": "unit/checkpoint/test_mutations.py",
    "checkpoint.policy_folder": "unit/test_policy.py",
    "checkpoint.policy_options": "unit/checkpoint/lerobot/test_read.py",
    "checkpoint.sentencepiece": "unit/checkpoint/test_tokenizer_folder.py",
    "checkpoint.weights": "unit/checkpoint/test_load.py",
    "check.config": "unit/check/test_examine.py",
    "check.numbers.measure": "unit/check/numbers/test_family.py",
    "check.numbers.motion": "unit/check/numbers/test_family.py",
    "check.numbers.pairing": "unit/check/numbers/test_family.py",
    "check.numbers.rotation": "unit/check/numbers/test_family.py",
    "check.numbers.units": "unit/check/numbers/test_family.py",
    "commands.check": "e2e/test_check.py",
    "commands.command": "unit/test_cli.py",
    "commands.demo": "unit/test_cli.py",
    "commands.eval": "e2e/test_eval.py",
    "commands.push": "e2e/test_push.py",
    "commands.report": "e2e/test_report.py",
    "commands.run_files": "unit/commands/test_train.py",
    "commands.serve": "e2e/test_serve.py",
    "data.lerobot.columns": "unit/data/lerobot/test_reader.py",
    "data.lerobot.episode_table": "unit/data/lerobot/test_meta.py",
    "data.lerobot.info": "unit/data/lerobot/test_meta.py",
    "data.lerobot.numbers": "unit/data/lerobot/test_reader.py",
    "data.robot.control_rate": "unit/serve/test_protocol.py",
    "data.prefix_cache": "unit/train/test_cached_prefix.py",
    "data.robot.stored_observations": "unit/serve/test_engine.py",
    "doctor.facts": "unit/doctor/test_examine.py",
    "doctor.hub_address": "unit/doctor/probes/test_network.py",
    "doctor.judge.gpu": "unit/doctor/test_examine.py",
    "doctor.judge.interpreter": "unit/doctor/test_examine.py",
    "doctor.judge.network": "unit/doctor/test_examine.py",
    "doctor.judge.rendering": "unit/doctor/test_examine.py",
    "doctor.judge.system": "unit/doctor/test_examine.py",
    "doctor.judge.trackers": "unit/doctor/test_examine.py",
    "doctor.judge.video": "unit/doctor/test_examine.py",
    "doctor.remedies": "unit/doctor/test_examine.py",
    "eval.evaluate": "e2e/test_eval.py",
    "eval.open_loop.drawings": "unit/eval/open_loop/test_evaluate.py",
    "eval.open_loop.page": "unit/eval/open_loop/test_evaluate.py",
    "eval.open_loop.result": "unit/eval/open_loop/test_evaluate.py",
    "eval.places.here": "unit/eval/test_rollout.py",
    "eval.places.process": "unit/eval/places/test_processes.py",
    "eval.places.worker": "unit/eval/places/test_processes.py",
    "check.fix.account": "unit/check/fix/test_repair.py",
    "check.fix.clips": "unit/check/fix/test_repair.py",
    "check.fix.cuts": "unit/check/fix/test_repair.py",
    "check.fix.judge": "unit/check/fix/test_repair.py",
    "check.fix.lists": "unit/check/fix/test_repair.py",
    "check.fix.plan": "unit/check/fix/test_repair.py",
    "check.fix.source": "unit/check/fix/test_repair.py",
    "check.fix.tables": "unit/check/fix/test_repair.py",
    "check.fix.true_statistics": "unit/check/fix/test_repair.py",
    "check.fix.verify": "unit/check/fix/test_repair.py",
    "check.subject": "unit/doctor/test_examine.py",
    "check.contact_sheets": "unit/check/test_page.py",
    "check.likeness": "unit/check/test_chosen_base.py",
    "check.normalised": "unit/check/test_recipe.py",
    "check.real_batches": "unit/train/checked/test_base_network.py",
    "finding": "unit/doctor/test_examine.py",
    "export.adapter_base": "unit/export/test_export_adapters.py",
    "export.checks": "unit/export/test_export_adapters.py",
    "export.folders": "unit/export/test_export.py",
    "export.request": "unit/export/test_export.py",
    "export.source": "unit/export/test_export_adapters.py",
    "hub.config": "unit/commands/test_fetch.py",
    "hub.references": "unit/hub/test_fetch.py",
    "prepared": "unit/test_policy.py",
    "serve.line": "unit/serve/test_client.py",
    "serve.selftest": "unit/serve/test_engine.py",
    "sim.crew": "unit/sim/test_collect_tasks.py",
    "sim.tabletop_tasks": "unit/sim/test_tabletop.py",
    "sim.libero.config": "unit/sim/test_config.py",
    "sim.libero.goals": "unit/sim/libero/test_environment.py",
    "sim.libero.pristine": "unit/sim/libero/test_simulator.py",
    "sources.cache": "unit/sources/test_resolve.py",
    "sources.client": "unit/sources/test_transfer.py",
    "sources.places": "unit/sources/test_resolve.py",
    "sources.receipt": "unit/hub/test_fetch.py",
    "train.checked.gate": "e2e/test_check.py",
    "train.checkpoint": "e2e/test_resume.py",
    "train.data": "unit/train/test_cached_prefix.py",
    "train.loop": "e2e/test_train.py",
    "train.memory_config": "unit/train/test_config.py",
    "train.optim.config": "unit/train/test_config.py",
    "train.optim.kernel_check": "unit/train/optim/test_kernel_update.py",
    "train.optim.kernel_values": "unit/train/optim/test_kernel_update.py",
    "train.optim.plain_update": "unit/train/optim/test_low_memory.py",
    "train.optim.triton_kernels": "unit/train/optim/test_kernel_update.py",
    "train.optim.triton_update": "unit/train/optim/test_kernel_update.py",
    "train.optim.protocol": "unit/train/optim/test_build.py",
    "train.optim.moments": "unit/train/optim/test_low_memory.py",
    "train.parallel.fate": "unit/train/parallel/test_ranks.py",
    "train.parallel.split": "unit/train/parallel/test_ranks.py",
    "train.plan.compile_here": "unit/train/plan/test_compilation.py",
    "train.plan.gpus": "unit/train/plan/test_methods.py",
    "train.plan.report": "unit/commands/test_plan.py",
    "demo.chain": "e2e/test_demo.py",
    "demo.tabletop": "e2e/test_demo.py",
    "train.plan.speed": "unit/train/plan/test_memory.py",
    "train.policy_config": "unit/train/test_config.py",
    "train.preview": "e2e/test_train.py",
    "train.records.config": "unit/train/records/test_wandb.py",
    "train.records.destinations": "e2e/test_train.py",
    "train.records.fields": "unit/train/records/test_read.py",
    "train.records.run_record": "unit/train/records/test_read.py",
    "train.watchers.base_network": "e2e/test_watchers.py",
}
"""Modules without a test file of their own name, and the file that tests them."""

TESTS_OF_MORE: dict[str, str] = {
    "checkpoint/lerobot/test_read_facts": "facts of LeRobot's processors across its versions",
    "checkpoint/test_load_memory": "what loading holds in memory, over all layouts",
    "checkpoint/test_load_refusals": "every refusal of a damaged checkpoint, over all layouts",
    "checkpoint/test_mutations": "every file that a user can bring, damaged in one place",
    "checkpoint/test_origin": "where weights come from, in one line (receipt.py)",
    "checkpoint/test_round_trips": "layouts written and read back",
    "commands/test_system_refusals": "what the operating system refuses, over all commands",
    "data/lerobot/test_mutations": "every value of a data set's metadata, exchanged for others",
    "export/test_export_adapters": "export of adapters, merged and alone",
    "model/test_attention": "attention of siglip.py and gemma.py",
    "model/test_dead_work": "work that nothing reads is not done, over the whole network",
    "serve/test_soak": "benchmarks/serve_soak.py, a short version",
    "test_architecture": "the layout itself",
    "test_docs": "the documentation",
    "test_docs_tables": "benchmarks/docs_tables.py, numbers in the documentation",
    "test_gpu_day": "benchmarks/gpu_day.py, whose parts may fail",
    "test_lerobot_tables": "benchmarks/lerobot_tables.py, the tables of docs/coming-from-lerobot.md",
    "test_launch": "launch/skypilot.yaml",
    "test_plan_table": "the READMEs' table of GPUs",
    "test_rivals_table": "benchmarks/rivals_table.py, what is counted as found",
    "test_setup_env": "scripts/setup_env.py",
    "test_setup_libero": "scripts/setup_libero.py",
    "test_slurm_script": "launch/slurm.sbatch",
    "test_tiny_base": "the base that ships in the package",
    "train/optim/test_compiled_steps": "compiled layers with every optimizer",
    "train/optim/test_kernel_code": "triton_kernels.py, compiled for GPUs that are not there",
    "train/optim/test_precision": "what each precision learns",
    "train/plan/test_candidates": "what the planner may propose",
    "train/test_calling": "pi05.train(config)",
    "train/test_fake_cuda": "every kind of step on CUDA tensors without values; nothing waits",
    "test_findings": "tests/proofs.py, the findings of checks and watchers",
    "test_killers": "docs/killers.md",
}
"""Test files in tests/unit that mirror no module, and what they are about."""

FILE_ENDINGS = {"py", "json", "jsonl", "npz", "parquet", "safetensors"}
SPOKEN_OF = {
    "cls",
    "dataclasses",
    "frames",
    "lerobot",
    "model",
    "multiprocessing",
    "observation",
    "pi05",
    "state",
    "time",
    "tl",
    "torch",
}
"""What docstrings may name parts of besides modules: packages, and objects."""

FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "misc", "base", "core"}
LONGEST_FILE, LONGEST_FUNCTION, LONGEST_TRAIN, MOST_FILES = 350, 60, 120, 24


def module_name(file: Path) -> str:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@functools.cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def import_nodes(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield all imports, those inside functions included, those for type checkers only left out."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not is_type_checking(child):
            yield from import_nodes(child)


@functools.cache
def imported(file: Path) -> frozenset[str]:
    """Return the modules of pi05 that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in import_nodes(tree_of(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "pi05"}
        elif node.module is not None and node.module.split(".")[0] == "pi05":
            assert node.level == 0
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return frozenset(found)


ROOMS = {file.parent.name for file in FILES if file.name == "__init__.py" and file.parent.parent == SOURCE / "pi05"}


def place(module: str) -> tuple[str, str]:
    """Return room and wing of a module; the wing of a file on a room's floor is the room's name."""
    parts = module.removeprefix("pi05.").split(".")
    is_wing = len(parts) > 1 and (SOURCE / "pi05" / parts[0] / parts[1]).is_dir()
    return parts[0], ".".join(parts[:2]) if is_wing else parts[0]


def may_see(module: str, other: str) -> bool:
    (room, wing), (other_room, other_wing) = place(module), place(other)
    if other == "pi05" or wing == other_wing:
        return True
    if room != other_room:
        allowed = ALLOWED[room] | EXCEPTIONS.get(module.removeprefix("pi05."), set())
        return other_room in allowed or other_wing in allowed
    if wing == room:  # the floor and its wings
        return True
    return bool({other_wing, other.removeprefix("pi05.")} & WINGS[wing])


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows(module: str) -> None:
    room, wing = place(module)
    assert room in ALLOWED, f"{room} is new: give it its arrows in this test"
    assert wing == room or wing in WINGS, f"{wing} is new: give it its arrows in this test"
    wrong = {name for name in imported(MODULES[module]) if not may_see(module, name)}
    assert not wrong, f"{module} must not import {sorted(wrong)}"


def test_the_arrows_name_nothing_that_is_gone() -> None:
    names = {name.removeprefix("pi05.") for name in MODULES}
    assert {*ALLOWED, *WINGS, *EXCEPTIONS} <= names
    assert set().union(*ALLOWED.values(), *WINGS.values(), *EXCEPTIONS.values()) <= names


def test_docstrings_name_nothing_that_is_gone() -> None:
    """A `module.name` in words is that of a module here, which has it, or of a package or object in a list."""
    by_name: dict[str, list[str]] = {}
    for module, file in MODULES.items():
        code = re.sub(r"`[^`]*`", "", file.read_text(encoding="utf-8"))
        by_name.setdefault(module.split(".")[-1], []).append(code)
    gone = []
    for module, file in MODULES.items():
        for first, name in re.findall(r"`([a-z_0-9]+)\.([A-Za-z_]+)`", file.read_text(encoding="utf-8")):
            if name in FILE_ENDINGS or first in SPOKEN_OF:
                continue
            if not any(re.search(rf"\b{name}\b", code) for code in by_name.get(first, [])):
                gone.append(f"{module}: `{first}.{name}`")
    assert not gone


def test_rooms_have_wings_before_they_are_halls() -> None:
    for folder in {file.parent for file in FILES}:
        assert len(folder.relative_to(SOURCE).parts) <= 3, f"{folder} is a wing of a wing"
        assert len(list(folder.glob("*.py"))) <= MOST_FILES, f"{folder} is a hall: give it wings"


def test_unit_tests_mirror_the_source() -> None:
    """Every module has a test file of its name, or stands in `TESTED_BY`; every test file has a module, or a reason."""
    unit = REPOSITORY / "tests" / "unit"
    found = {str(file.relative_to(unit).with_suffix("")) for file in unit.rglob("test_*.py")}
    own = {}
    for module, file in MODULES.items():
        if file.name != "__init__.py":
            parts = module.split(".")[1:]
            own["/".join([*parts[:-1], f"test_{parts[-1]}"])] = ".".join(parts)
    without = {module for test, module in own.items() if test not in found}
    assert without == set(TESTED_BY), sorted(without ^ set(TESTED_BY))
    assert found - set(own) == set(TESTS_OF_MORE), sorted((found - set(own)) ^ set(TESTS_OF_MORE))
    gone = [test for test in TESTED_BY.values() if not (REPOSITORY / "tests" / test).is_file()]
    assert not gone


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


@pytest.mark.process
def test_no_torch_is_imported_with_what_starts_fast() -> None:
    """One process for all: what a module brings in is seen before the next one is imported."""
    program = "import importlib, sys; seen = set()\n"
    program += "for name in sys.argv[1:]:\n    importlib.import_module(name)\n"
    program += "    if new := ({'torch', 'numpy'} & set(sys.modules)) - seen: print(name, *new); seen |= new"
    answer = subprocess.run([sys.executable, "-c", program, *TORCH_FREE], capture_output=True, text=True, check=True)
    assert answer.stdout == ""


def test_every_config_is_watched() -> None:
    assert {"pi05.model.config", "pi05.data.config", "pi05.train.config", "pi05.eval.config"} <= set(TORCH_FREE)
    assert {"pi05.commands.train", "pi05.settings.schema", "pi05.train.optim.config"} <= set(TORCH_FREE)


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [module for module in MODULES if set(module.split(".")) & FORBIDDEN_NAMES]


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        module for module, file in MODULES.items() if (tree := tree_of(file)).body and ast.get_docstring(tree) is None
    ]
    assert not silent


def test_files_and_functions_stay_short() -> None:
    long = []
    for module, file in MODULES.items():
        if (lines := file.read_text(encoding="utf-8").count("\n")) > LONGEST_FILE:
            long.append(f"{module} has {lines} lines: look for the second concept")
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                limit = LONGEST_TRAIN if (module, node.name) == ("pi05.train.loop", "train_on") else LONGEST_FUNCTION
                if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > limit:
                    long.append(f"{module}.{node.name} has {lines} lines")
    assert not long


def test_text_reaches_the_terminal_in_two_places() -> None:
    """`errors.tell` prints lines, `terminal.PlainConsole` what `rich` prints: neither lets a name act there."""
    found = set()
    for module, file in MODULES.items():
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                found.add((module, "print"))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Console":
                found.add((module, "Console"))
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stdout.write", "sys.stderr.write"):
                found.add((module, "write"))
    found.remove(("pi05.child", "print"))  # to the process that started it, in JSON
    found.remove(
        ("pi05.commands.doctor", "print")
    )  # colours, and a line that is overwritten; its words are made visible
    found.remove(("pi05.commands.check", "print"))  # likewise
    assert found == {("pi05.errors", "print")}


def holds_tests(file: Path) -> bool:
    return re.search(r"^ *def test_", file.read_text(encoding="utf-8"), re.M) is not None


def test_every_test_file_is_collected() -> None:
    files = sorted((REPOSITORY / "tests").rglob("*.py"))
    assert len(files) > 10
    never_run = [file.name for file in files if holds_tests(file) and not file.name.startswith("test_")]
    empty = [file.name for file in files if file.name.startswith("test_") and not holds_tests(file)]
    assert (never_run, empty) == ([], [])


def test_long_tests_are_there() -> None:
    for path, _, name in (entry.partition("::") for entry in LONG):
        assert f"def {name}(" in (REPOSITORY / "tests" / path).read_text(encoding="utf-8") if name else True, path
        assert (REPOSITORY / "tests" / path).is_file()
