"""The page for LeRobot's users: its tables are the program's, and every field of LeRobot's has a fate."""

from __future__ import annotations

import json
from types import ModuleType

import pytest
from programs import load_program

from pi05.errors import ConfigError
from pi05.settings.lerobot_flags import translate_training_flag
from pi05.settings.lerobot_parallel import Degrees
from pi05.settings.schema import walk
from pi05.train.config import TrainConfig


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return load_program("benchmarks/lerobot_tables.py")


def test_the_page_is_what_the_program_writes(program: ModuleType) -> None:
    text = program.PAGE.read_text(encoding="utf-8")
    assert program.generated(text) == text, "run benchmarks/lerobot_tables.py"


def test_a_stale_row_is_written_anew(program: ModuleType) -> None:
    text = program.PAGE.read_text(encoding="utf-8")
    stale = text.replace("| `--batch_size` | 8 | 32 |", "| `--batch_size` | 8 | 16 |")
    assert stale != text
    assert program.generated(stale) == text


def test_a_default_without_a_reason_is_an_error(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "WHY", {path: why for path, why in program.WHY.items() if path != "seed"})
    with pytest.raises(ValueError, match="no reason is given for the default of seed"):
        program.differing()
    monkeypatch.setattr(program, "WHY", {**program.WHY, "seed": "x", "resume": "x"})
    with pytest.raises(ValueError, match="reasons for defaults that do not differ: resume"):
        program.differing()


def test_a_table_that_is_missing_is_an_error(program: ModuleType) -> None:
    with pytest.raises(ValueError, match="needs the tables"):
        program.generated("")


def test_every_field_of_lerobot_has_a_fate(program: ModuleType) -> None:
    """As a flag with its default: a setting of ours, another name, taken as said, or refused; none is unknown."""
    ours = {setting.path for setting in walk(TrainConfig)}
    unknown = []
    for path, default in program.lerobot_defaults().items():
        if path in ours or path == "checkpoint_path":  # no flag there either
            continue
        text = default if isinstance(default, str) else json.dumps(default)
        try:
            meaning = Degrees().translate(path, text) or translate_training_flag(path, text)
        except ConfigError as error:
            assert error.remedy  # noqa: PT017 - refused with what to do instead
            continue
        unknown += [path] * (meaning is None)
    assert not unknown
