"""`pi05 check` as a user types it: what it prints and writes, its exit codes, and what `pi05 train` does with it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import fakes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from broken import data_file, edit_table, replace
from check_subjects import write_set
from robot_sets import real_folder

from pi05.cli import main

Answer = tuple[int, dict[str, Any]]


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run the command; return its exit code and its JSON."""

    def run(folder: Path, *words: str) -> Answer:
        capsys.readouterr()
        page = [] if "--quick" in words else [f"--page_dir={tmp_path / 'page'}"]
        code = main(["check", str(folder), "--json", "--offline", *page, *words])
        return code, json.loads(capsys.readouterr().out)

    return run


def named(report: dict[str, Any], *statuses: str) -> set[str]:
    return {finding["name"] for finding in report["findings"] if finding["status"] in statuses}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "set"
    write_set(folder, cameras=("front",), length=40)
    return folder


def test_a_sound_set(sound: Path, check: Callable[..., Answer], tmp_path: Path) -> None:
    code, report = check(sound, "--preset=tiny", f"--sarif={tmp_path / 'a.sarif'}", f"--junit={tmp_path / 'a.xml'}")
    assert (code, report["to_mend"], named(report, "error", "warning")) == (0, False, set())
    assert report["dataset"] == str(sound)
    results = json.loads((tmp_path / "a.sarif").read_text())["runs"][0]["results"]
    assert len(results) == len(report["findings"])
    suites = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert suites.get("failures") == "0"
    assert suites.get("tests") == str(len(report["findings"]))


def test_the_table_tells_names_and_what_mends_them(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(sound), "--quick", "--policy.chunk_size=20", "--policy.n_action_steps=20"]) == 0
    text = capsys.readouterr().out
    assert "warning  recipe.open_loop\n" in text
    assert "         to do: --policy.n_action_steps=" in text
    assert text.endswith("check: 1 warning to mend\n")


def test_a_real_set_whose_clock_is_bad_and_its_mended_twin(check: Callable[..., Answer]) -> None:
    true_of_it = {"numbers.stale_first", "numbers.noise", "numbers.idle", "language.underscores"}
    code, report = check(real_folder("cr5_v21_5ep_badclock"), "--quick")
    assert (code, named(report, "error"), named(report, "warning")) == (1, {"structure.clock"}, true_of_it)
    code, report = check(real_folder("cr5_v21_5ep_badclock"), "--quick", "--allow=timestamps")
    assert (code, report["passed"], named(report, "error")) == (0, ["structure.clock"], set())
    code, report = check(real_folder("cr5_v21_5ep"), "--quick")
    assert (code, named(report, "error"), named(report, "warning")) == (0, set(), true_of_it)


def test_each_defect_that_a_real_sets_source_publishes(check: Callable[..., Answer]) -> None:
    """A camera without files, 44 dimensions, constant ones; the rest: `unit/check/test_structure.py`."""
    code, report = check(real_folder("gr1_sim_v20_5ep"), "--quick")
    assert (code, named(report, "error")) == (1, {"structure.camera", "recipe.contents"})
    assert {"structure.late_start", "structure.totals", "structure.columns"} <= named(report, "note")
    assert {"numbers.constant", "language.unused_tasks"} <= named(report, "note")
    texts = " ".join(finding["text"] for finding in report["findings"])
    assert all(words in texts for words in ("egoview", "at most 32; found: 44", "0:100", "path templates"))


def test_a_set_that_cannot_be_opened(tmp_path: Path, check: Callable[..., Answer]) -> None:
    fake = fakes.write_dataset(tmp_path / "set")
    (fake.root / "meta" / "info.json").write_text("{")
    code, report = check(fake.root, "--quick")
    assert (code, named(report, "error", "warning", "note", "ok")) == (1, {"structure.files"})


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "pi05 check DATASET"),
        (["nowhere/at-all/x"], "there is no data set"),
        (["set", "more"], "'set' is no flag"),
        (["set", "--allow=nonsense"], "numbers.units"),
        (["set", "--sarif=set/meta/info.json/x.sarif"], "cannot write --sarif"),
        (["set", "--dataset.episodes=[99]"], "--dataset.episodes"),
        (["set", "--polcy.path=x"], "polcy"),
    ],
)
def test_what_a_user_can_get_wrong(
    words: list[str],
    part: str,
    sound: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").symlink_to(sound)
    assert main(["check", *words, "--quick", "--offline"]) == 2
    message = capsys.readouterr().err
    assert part in message
    assert "to do:" in message
    assert "Traceback" not in message


@pytest.mark.process
def test_an_interruption_ends_it_at_once(sound: Path, tmp_path: Path, start: Callable[..., Any]) -> None:
    process = start("check", str(sound), "--preset=tiny", f"--page_dir={tmp_path / 'page'}")
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert text.endswith("Interrupted.\n")
    assert "Traceback" not in text
    assert not (tmp_path / "page" / "check.html").exists()


# --- pi05 train -------------------------------------------------------------------------------------------------------


def in_other_units(folder: Path) -> Path:
    """Write a set of which two episodes are in degrees."""

    def change(episode: int, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        factor = np.float32(57.2958 if episode in (1, 4) else 1)
        return states * factor, actions * factor

    write_set(folder, cameras=("front",), length=40, change=change)
    return folder


def test_training_refuses_an_error_unless_it_is_named(
    workshop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = in_other_units(tmp_path / "degrees")
    flags = workshop.flags(tmp_path / "run", dataset__root=data, dataset__cache_dir=tmp_path / "cache", steps=1)
    assert main(["train", *flags]) == 2
    message = capsys.readouterr().err
    assert "numbers.units: the states of 1, 4 of 6 episodes are in other units" in message
    assert "--allow='[numbers.units" in message
    assert not (tmp_path / "cache").exists()  # before any picture was decoded
    allowed = message.partition("--allow='[")[2].partition("]")[0]
    assert main(["train", *flags, f"--allow=[{allowed}]"]) == 0
    assert "warning: numbers.units: passed over with --allow" in capsys.readouterr().out
    assert "numbers.units" in json.loads((tmp_path / "run" / "config.json").read_text())["allow"]
    checks = json.loads((tmp_path / "run" / "checks.json").read_text())
    assert "numbers.units" in checks["passed"]
    (found,) = [finding for finding in checks["findings"] if finding["name"] == "numbers.units"]
    assert found["numbers"]["episodes"] == [1, 4]


def test_training_says_nothing_of_checks_when_all_is_well(
    sound: Path, workshop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = workshop.flags(tmp_path / "run", dataset__root=sound, steps=1)
    assert main(["train", *flags]) == 0
    out = capsys.readouterr().out
    assert not any(f"{family}." in out for family in ("structure", "numbers", "language", "recipe", "base.s"))
    assert json.loads((tmp_path / "run" / "checks.json").read_text())["passed"] == []


def test_a_resumed_run_is_warned_and_goes_on(workshop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run of an earlier version, which had no such check: its `allow` names nothing."""
    data = in_other_units(tmp_path / "degrees")
    flags = workshop.flags(tmp_path / "run", dataset__root=data, steps=1, allow="[numbers.units, recipe.range_state]")
    assert main(["train", *flags]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps({**config, "allow": []}))
    capsys.readouterr()
    assert main(["train", "--resume", str(tmp_path / "run"), "--steps=2"]) == 0
    assert "a new run would be refused for it" in capsys.readouterr().out


def test_a_bad_clock_is_refused_and_allowed_by_either_name(
    workshop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = fakes.write_dataset(tmp_path / "set", storage="image")
    for path in sorted((fake.root / "data").rglob("*.parquet")):
        late = 1.2 * np.asarray(pq.read_table(path)["timestamp"])
        edit_table(path, lambda table, late=late: replace(table, "timestamp", pa.array(late, pa.float32())))
    assert data_file(fake, 0).exists()
    flags = workshop.flags(tmp_path / "run", dataset__root=fake.root, dataset__cache_dir=tmp_path / "c", steps=1)
    assert main(["train", *flags]) == 2
    assert "the timestamps disagree" in capsys.readouterr().err
    assert main(["train", *flags, "--allow=structure.clock"]) == 0
    assert "structure.clock: passed over" in capsys.readouterr().out
