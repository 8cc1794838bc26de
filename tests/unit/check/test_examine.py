"""The frame: families in their order, what they cannot read, what is passed over, and the names that there are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from robot_sets import sound_robot

from pi05.check import examine as module
from pi05.check.config import ALLOWANCE_OF, REFUSING, as_names, as_words
from pi05.check.examine import Family, examine, judge
from pi05.check.subject import Subject
from pi05.errors import ConfigError, DataError
from pi05.finding import Finding, error, note, ok, warning
from pi05.train.config import TrainConfig

CHECK = Path(module.__file__).parent
UNITS = error("numbers.units", "two units", "squeezes", "convert")
CLOCK = error("structure.clock", "off", "pairs", "repair")
IDLE = warning("numbers.idle", "still", "stands", "cut")


def family(title: str, *findings: Finding, quick: bool = True, fault: DataError | None = None) -> Family:
    def check(subject: Subject, progress: module.Progress) -> Iterator[Finding]:
        progress(1, 2, "half")
        yield from findings
        if fault is not None:
            raise fault

    return Family(title, check, quick)


def test_families_run_in_order_and_quick_ones_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAMILIES", (family("a", IDLE), family("b", UNITS, quick=False), family("c", CLOCK)))
    subject, heard = sound_robot().subject(), list[tuple[int, int, str]]()
    assert examine(subject) == [IDLE, UNITS, CLOCK]
    assert examine(subject, quick=True, progress=lambda *told: heard.append(told)) == [IDLE, CLOCK]
    assert heard == [(0, 1, "a"), (1, 2, "half"), (0, 1, "c"), (1, 2, "half")]


def test_what_a_family_cannot_read_is_a_finding_and_the_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = DataError("the video is cut", found="12 frames", remedy="copy again", topic="video", episodes=[3])
    monkeypatch.setattr(module, "FAMILIES", (family("a", IDLE, fault=fault), family("b", CLOCK)))
    first, told, last = examine(sound_robot().subject())
    assert (first, last) == (IDLE, CLOCK)
    assert (told.name, told.status, told.remedy) == ("structure.video", "error", "copy again")
    assert told.text == "the video is cut; found: 12 frames"
    assert told.numbers == {"episodes": [3]}


def test_errors_are_passed_over_by_name_and_nothing_else_is() -> None:
    verdict = judge([UNITS, CLOCK, IDLE, ok("a.b", "fine")], ["numbers.units", "numbers.idle"])
    assert verdict.passed == ("numbers.units",)
    assert [finding.name for finding in verdict.refused] == ["structure.clock"]
    passed = verdict.findings[0]
    assert (passed.status, passed.text) == ("warning", "passed over with --allow: two units")
    assert verdict.findings[2] == IDLE
    assert [finding["name"] for finding in verdict.to_dict()["findings"]] == [
        "numbers.units", "structure.clock", "numbers.idle"
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["timestamps", "structure.clock"])
def test_the_readers_own_words_mean_the_same(word: str) -> None:
    assert judge([CLOCK], [word]).passed == ("structure.clock",)
    assert as_words((word, "numbers.units", "memory")) == ("timestamps", "memory")
    assert as_names((word,)) == {"structure.clock"}
    assert TrainConfig(allow=(word,)).allow == (word,)


def test_names_that_do_not_exist_are_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig(allow=("numbers.unit",))
    assert "numbers.units" in str(caught.value)
    assert "timestamps" in str(caught.value)


def errors_in_source() -> set[str]:
    """Return the names of all errors that the checks may yield, those of the reader's refusals left out."""
    found = set()
    for file in CHECK.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("error", "severity") and node.args:
                name = node.args[0]
                if isinstance(name, ast.Constant):
                    found.add(name.value)
                elif isinstance(name, ast.JoinedStr):
                    start = ast.unparse(name).removeprefix("f'").partition("{")[0]
                    found |= {known for known in REFUSING if known.startswith(start)}
                elif ast.unparse(name) == "name":  # a function that is told it
                    found |= {known for known in REFUSING if f'"{known}"' in text}
    return found


def test_every_error_has_a_name_that_may_be_passed_over() -> None:
    """But those on what cannot be read, and what training would stop at anyway."""
    unreadable = {"numbers.not_finite", "pictures.unreadable", "structure.missing_frames"}
    assert errors_in_source() - unreadable == set(REFUSING) - set(ALLOWANCE_OF)


def test_findings_name_their_subject() -> None:
    assert {name.partition(".")[0] for name in REFUSING} <= {
        "structure", "numbers", "pictures", "language", "recipe", "base"
    }  # fmt: skip
    assert note("language.one_task", "one").subject == "language"
