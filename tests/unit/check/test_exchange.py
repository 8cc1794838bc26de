"""SARIF and JUnit: what their readers demand, and that nothing of a finding is lost."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from pi05.check.exchange import to_junit, to_sarif
from pi05.finding import Finding, error, note, ok, warning

ROOT = Path("/data/pick & place")
FINDINGS = [
    ok("structure.set", "5 episodes"),
    error("numbers.units", "degrees <in> \x1b[2J half", "squeezes", "convert & retry", {"factor": float("inf")}),
    warning("numbers.units", "again", "squeezes", "convert"),
    note("language.one_task", "one task: 'x'"),
]


def test_sarif_has_what_the_standard_demands() -> None:
    log = json.loads(to_sarif(FINDINGS, ROOT), parse_constant=lambda text: pytest_fail(text))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert run["tool"]["driver"]["name"] == "pi05 check"
    assert [rule["id"] for rule in rules] == ["structure.set", "numbers.units", "language.one_task"]
    assert len(run["results"]) == len(FINDINGS)
    for result, finding in zip(run["results"], FINDINGS, strict=True):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == finding.name
        assert result["level"] in ("none", "note", "warning", "error")
        assert result["kind"] in ("pass", "fail", "informational")
        assert result["kind"] == "fail" or result["level"] == "none"  # § 3.27.9 and § 3.27.10
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert uri == "file:///data/pick%20%26%20place"
    text = run["results"][1]["message"]["text"]
    assert text == "degrees <in> \\u001b[2J half\na run squeezes\nto do: convert & retry"
    assert run["results"][1]["properties"] == {"factor": "inf"}


def pytest_fail(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def test_junit_counts_errors_as_failures() -> None:
    suites = ElementTree.fromstring(to_junit(FINDINGS, ROOT))
    (suite,) = suites
    assert (suites.tag, suite.tag, suite.get("name")) == ("testsuites", "testsuite", "pi05 check /data/pick & place")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "1", "0")
    cases = list(suite)
    assert [(case.get("classname"), case.get("name")) for case in cases] == [
        (f"check.{finding.subject}", finding.name) for finding in FINDINGS
    ]
    failures = [case.find("failure") for case in cases]
    assert [failure is not None for failure in failures] == [False, True, False, False]
    failure = failures[1]
    assert failure is not None
    assert failure.get("message") == "degrees <in> \\u001b[2J half"
    assert failure.text is not None
    assert failure.text.endswith("to do: convert & retry")
    told = cases[2].findtext("system-out")
    assert told is not None
    assert told.startswith("warning: again")


def test_what_xml_cannot_hold_is_spelt_out() -> None:
    odd = Finding("language.characters", "warning", "task 'a\ufffe\u0000b'")
    (suite,) = ElementTree.fromstring(to_junit([odd], ROOT))
    assert suite[0].findtext("system-out") == "warning: task 'a\\ufffe\\u0000b'"
