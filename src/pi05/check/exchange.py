"""Findings for other programs: SARIF 2.1.0 for code hosts and editors, JUnit XML for pipelines.

Sources: OASIS, Static Analysis Results Interchange Format 2.1.0; the JUnit XML schema that Jenkins reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pi05
from pi05.errors import visible
from pi05.finding import Finding

LEVELS = {"ok": "none", "note": "note", "warning": "warning", "error": "error"}
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_sarif(findings: Sequence[Finding], root: Path) -> str:
    """Return a SARIF log with one run: a rule for each name, a result for each finding, located at the data set."""
    names = list(dict.fromkeys(finding.name for finding in findings))
    first = {finding.name: finding for finding in reversed(findings)}
    rules = [
        {
            "id": name,
            "shortDescription": {"text": name},
            "help": {"text": visible(first[name].remedy) or name},
            "defaultConfiguration": {"level": LEVELS[first[name].status]},
        }
        for name in names
    ]
    where = {"physicalLocation": {"artifactLocation": {"uri": root.absolute().as_uri()}}}
    results = [
        {
            "ruleId": finding.name,
            "ruleIndex": names.index(finding.name),
            "level": LEVELS[finding.status],
            "kind": "pass" if finding.status == "ok" else "fail" if finding.to_mend else "informational",
            "message": {"text": visible(_told(finding))},
            "locations": [where],
            "properties": finding.to_dict().get("numbers", {}),
        }
        for finding in findings
    ]
    for result in results:
        if result["kind"] != "fail":
            result["level"] = "none"  # as the standard wants it of everything that is no failure
    driver = {"name": "pi05 check", "version": pi05.__version__, "rules": rules}
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def to_junit(findings: Sequence[Finding], root: Path) -> str:
    """Return JUnit XML: a test case for each finding; errors fail, warnings and notes pass and say what they found."""
    failures = sum(finding.status == "error" for finding in findings)
    counts = {"tests": str(len(findings)), "failures": str(failures), "errors": "0", "skipped": "0"}
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": f"pi05 check {_clean(str(root))}", **counts})
    for finding in findings:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": f"check.{finding.subject}", "name": finding.name}
        )
        if finding.status == "error":
            failure = ElementTree.SubElement(case, "failure", {"message": _clean(finding.text), "type": finding.name})
            failure.text = _clean(_told(finding))
        else:
            ElementTree.SubElement(case, "system-out").text = _clean(f"{finding.status}: {_told(finding)}")
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=False) + "\n"


def _told(finding: Finding) -> str:
    effect = f"\na run {finding.effect}" if finding.effect else ""
    remedy = f"\nto do: {finding.remedy}" if finding.remedy else ""
    return f"{finding.text}{effect}{remedy}"


def _clean(text: str) -> str:
    """Return text as XML may hold it: what has no place there is spelt out."""
    return _NOT_IN_XML.sub(lambda match: f"\\u{ord(match[0]):04x}", visible(text))
