"""What of a checker's words counts as found in an altered copy, and how it is counted."""

from __future__ import annotations

from types import ModuleType

import pytest
from programs import load_program


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return load_program("benchmarks/rivals_table.py")


SOUND = [
    ("warning", "action[2]: 54.6% of values at maximum (1.0000)"),
    ("note", "Joint 0's state follows with correlation 0.71"),
    ("error", "jumps in episodes 1, 2 and 3 of /tmp/one/data.parquet"),
]


@pytest.mark.parametrize(
    "said",
    [
        ("warning", "action[2]: 41% of values at maximum (0.9)"),
        ("note", "Joint 0's state follows with correlation -0.55"),
        ("error", "jumps in episodes 4 of /tmp/other/data.parquet"),
        ("warning", "jumps in episodes 1, 2, 3, 7 of /tmp/one/data.parquet"),
    ],
)
def test_what_is_said_of_the_original_too_does_not_count(program: ModuleType, said: tuple[str, str]) -> None:
    assert program.said_anew([said], SOUND) == []


@pytest.mark.parametrize(
    "said",
    [
        ("warning", "action[1]: 54.6% of values at maximum (1.0000)"),
        ("note", "Joint 1's state follows with correlation 0.71"),
        ("warning", "Joint 0's state follows with correlation 0.71"),
        ("note", "NaN in episode 1"),
    ],
)
def test_another_dimension_more_severity_and_other_words_count(program: ModuleType, said: tuple[str, str]) -> None:
    assert program.said_anew([said], SOUND) == [said]


def test_notes_are_shown_and_not_counted(program: ModuleType) -> None:
    copies = {
        "spike": {"pi05 check": [["warning", "a spike"]], "rdq": [["note", "odd"], ["error", "a spike"]]},
        "noise": {"pi05 check": [["note", "noise"]], "rdq": []},
    }
    sound = {"pi05 check": [], "rdq": [["warning", "rests"], ["note", "fast"]]}
    sets = {"one": {"copies": copies, "sound": sound}, "two": {"copies": {"noise": {"rdq": []}}, "sound": {}}}
    mistakes = {"spike": "a spike", "noise": "noise", "other": "of no set"}
    lines = program.table({"versions": {"rdq": "0.3.4"}, "mistakes": mistakes, "sets": sets}).splitlines()
    assert lines == [
        "| mistake | pi05 check | rdq 0.3.4 |",
        "| --- | --- | --- |",
        "| a spike (one) | warning | error |",
        "| noise (one, two) | note, not run | –, – |",
        "| all | **1 of 2** | **1 of 3** |",
        "| said of the 2 sound originals | 0 errors, 0 warnings | 0 errors, 1 warnings |",
    ]
