"""Every finding of `pi05 doctor`, word for word, from a machine that has it; and the whole examination."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctor_cases import MACHINES, TWO_CARDS, healthy, python, with_gpu

from pi05.doctor import examine
from pi05.doctor.facts import Facts, Package, Torch
from pi05.finding import exit_code
from pi05.finding_report import render_finding

STATUSES = ("ok", "note", "warning", "error")


@pytest.mark.parametrize(
    ("name", "facts", "text"), MACHINES, ids=[f"{i}-{name}" for i, (name, _, _) in enumerate(MACHINES)]
)
def test_a_finding_reads_like_this(name: str, facts: Facts, text: str) -> None:
    assert [render_finding(finding) for finding in examine.judge(facts) if finding.name == name] == [text]


def judged_names() -> Iterator[str]:
    """Yield the names that the judges' sources give to findings."""
    for file in sorted((Path(examine.__file__).parent / "judge").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in STATUSES:
                name = node.args[0]
                choices = [name.body, name.orelse] if isinstance(name, ast.IfExp) else [name]
                for choice in choices:
                    assert isinstance(choice, ast.Constant), f"{file}: the name of a finding is a literal"
                    yield str(choice.value)


def test_there_is_no_finding_without_a_test() -> None:
    assert {name for name, _, _ in MACHINES} == set(judged_names())


def test_what_is_to_be_mended_says_what_it_does_and_how_it_is_mended() -> None:
    for _, facts, _ in MACHINES:
        for finding in examine.judge(facts):
            assert finding.status in STATUSES
            assert (finding.effect and finding.remedy) or not finding.to_mend, finding


@pytest.mark.parametrize("facts", [healthy(), with_gpu(), with_gpu(cards=TWO_CARDS)], ids=["cpu", "gpu", "two gpus"])
def test_a_machine_on_which_all_is_well_has_nothing_to_mend(facts: Facts) -> None:
    assert exit_code(examine.judge(facts)) == 0


def test_one_broken_thing_is_one_finding() -> None:
    broken = Torch(fault="ImportError: undefined symbol")
    names = [finding.name for finding in examine.judge(with_gpu(torch=broken)) if finding.to_mend]
    assert names == ["torch.import"]


def test_what_workers_compare() -> None:
    facts = with_gpu(
        cards=TWO_CARDS, interpreter=python(packages=(Package(name="av", oldest="14", found=None),)).interpreter
    )
    assert examine.compared(facts) == {
        "Python": "3.12.4",
        "torch": "2.13.0+cu130",
        "CUDA of torch": "13.0",
        "NCCL": "2.28.9",
        "driver": "580.65.06",
        "GPUs": "2 x NVIDIA H200",
        "av": "none",
    }
