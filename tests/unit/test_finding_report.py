"""The report: short lines, whole commands, and the end that says how much there is to mend."""

from __future__ import annotations

import json

import pytest
from doctor_cases import MACHINES

from pi05.doctor.examine import judge
from pi05.finding import error, note, ok, warning
from pi05.finding_report import for_terminal, render, render_finding, summary, to_json

FINE = ok("python.ok", "3.12.4")
NO_GPU = note("gpu.none", "no GPU: training on the CPU is for the demo only")
BAD = error("torch.import", "torch cannot be imported", "fails at its start", "pip install torch")
SLOW = warning("disk.slow", "runs takes 40 MB/s", "waits", "pi05 train --output_dir=FOLDER")


def test_lines_fit_80_columns_and_commands_stay_whole() -> None:
    for _, facts, _ in MACHINES:
        for finding in judge(facts):
            for line in render_finding(finding, 80).splitlines():
                command = line.strip() == f"to do: {finding.remedy}"
                assert len(line) <= 80 or command or max(map(len, line.split())) > 60, line


def test_the_report_of_a_machine() -> None:
    assert render([NO_GPU, BAD, FINE], "doctor") == (
        "note     gpu        no GPU: training on the CPU is for the demo only\n"
        "error    torch      torch cannot be imported\n"
        "                    a run fails at its start\n"
        "                    to do: pip install torch\n"
        "ok       python     3.12.4\n"
        "\n"
        "doctor: 1 error to mend"
    )


def test_the_short_report_shows_what_is_to_be_mended() -> None:
    more = "pi05 doctor looks at more"
    nothing = f"doctor: nothing to mend ({NO_GPU.text})\n({more})"
    assert render([FINE, NO_GPU], "doctor", short=True, more=more) == nothing
    report = f"{render_finding(SLOW)}\n\ndoctor: 1 warning to mend\n({more})"
    assert render([FINE, NO_GPU, SLOW], "doctor", short=True, more=more) == report


def test_the_whole_name_stands_above_a_finding() -> None:
    assert render([BAD], "check", names=True) == (
        "error    torch.import\n"
        "         torch cannot be imported\n"
        "         a run fails at its start\n"
        "         to do: pip install torch\n"
        "\n"
        "check: 1 error to mend"
    )


def test_names_of_others_act_on_no_terminal() -> None:
    (clean,) = for_terminal([warning("language.empty", "task \x1b[2J", "waits", "rename \x07")])
    assert (clean.text, clean.remedy) == ("task \\u001b[2J", "rename \\u0007")


@pytest.mark.parametrize(
    ("findings", "text"),
    [
        ([FINE], "doctor: nothing to mend"),
        ([BAD, BAD, SLOW], "doctor: 2 errors and 1 warning to mend"),
        ([SLOW, SLOW], "doctor: 2 warnings to mend"),
    ],
)
def test_the_summary_counts(findings: list, text: str) -> None:
    assert summary(findings, "doctor") == text


def test_colours_are_around_the_status_only() -> None:
    plain, coloured = render_finding(BAD), render_finding(BAD, colour=True)
    assert coloured.startswith("\x1b[31merror    \x1b[0mtorch")
    assert coloured.replace("\x1b[31m", "").replace("\x1b[0m", "") == plain


def test_json_has_the_same_findings() -> None:
    report = json.loads(to_json([FINE, SLOW], to_mend=True, versions={"torch": "2.13.0"}))
    assert report["to_mend"] is True
    assert report["versions"] == {"torch": "2.13.0"}
    assert report["findings"][1] == {
        "name": "disk.slow",
        "status": "warning",
        "text": "runs takes 40 MB/s",
        "effect": "waits",
        "remedy": "pi05 train --output_dir=FOLDER",
    }
    odd = warning("numbers.x", "odd", "waits", "mend", {"share": float("nan"), "pairs": [(1, float("inf"))]})
    assert json.loads(to_json([odd], to_mend=False))["findings"][0]["numbers"] == {
        "share": "nan",
        "pairs": [[1, "inf"]],
    }
    assert json.loads(to_json([FINE], to_mend=False))["to_mend"] is False
