"""The command table: what is listed, what starts without torch, how commands end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import pi05
from pi05 import cli
from pi05.errors import DataError
from pi05.settings.schema import walk
from pi05.train.config import TrainConfig


def test_the_overview_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in cli.COMMANDS)
    assert set(cli.COMMANDS) == {
        *("doctor", "fetch", "check", "plan", "train", "eval", "serve", "export", "inspect", "push", "collect", "demo"),
        *("report", "completion", "replay"),
    }


@pytest.mark.process
def test_help_loads_next_to_nothing() -> None:
    program = """
import sys, pi05.cli
assert pi05.cli.main(["--help"]) == pi05.cli.main(["train", "--help"]) == 0
heavy = {"torch", "numpy", "yaml", "rich", "PIL", "pyarrow", "av", "jinja2", "tokenizers"} & set(sys.modules)
print("\\n", len(sys.modules), sorted(heavy))
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    count, heavy = answer.stdout.splitlines()[-1].split(maxsplit=1)
    assert heavy == "[]"
    assert int(count) < 200


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_flag_is_explained_in_the_commands_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    printed = capsys.readouterr().out
    command = cli.COMMANDS[name]
    assert command.summary in printed
    assert command.usage in printed
    for setting in (*walk(command.settings), *command.extra):
        assert f"  --{setting.path}  (" in printed
        assert setting.help
        assert setting.help.split()[0] in printed


def test_help_fits_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert cli.main(["train", "--help"]) == 0
    body = capsys.readouterr().out.partition("general:")[2]
    assert max(map(len, body.splitlines())) <= 60
    monkeypatch.setenv("COLUMNS", "80")
    for words in ([], *([name, "--help"] for name in cli.COMMANDS)):
        assert cli.main(words) == 0
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 80, words


def test_flags_stand_under_headings(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--help"]) == 0
    blocks = capsys.readouterr().out.partition("general:")[2].split("\n\n")
    found = {block.partition(":\n")[0]: re.findall(r"^  --(\w+)  \(", block, re.M) for block in blocks[1:]}
    assert list(found)[: len(TrainConfig.HEADINGS)] == list(TrainConfig.HEADINGS)
    for heading, names in TrainConfig.HEADINGS.items():
        assert sorted(found[heading]) == sorted(names.split())


def test_the_plans_own_flags_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.index("  --gpu  (") < printed.index("  --method  (") < printed.index("  --preset  (")


@pytest.mark.process
@pytest.mark.parametrize("encoding", ["ascii", "gbk"])
def test_a_terminal_that_cannot_write_every_letter(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "pi05", "--help"]
    answer = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert answer.returncode == 0
    assert answer.stderr == b""
    assert b"fine-tune" in answer.stdout


@pytest.mark.process
@pytest.mark.parametrize(("given", "found"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_do_not_spin_while_they_wait_unless_the_user_wants_it(given: str | None, found: str) -> None:
    """Set before PyTorch is imported, or its threads never read it."""
    program = (
        "import os, sys; from pi05 import cli; before = 'torch' in sys.modules; cli.main(['--version']); "
        "print(os.environ['OMP_WAIT_POLICY'], before)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == [found, "False"]


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"pi05 {pi05.__version__}\n"


def test_the_version_is_that_of_the_package() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'version = "{pi05.__version__}"' in text


def test_a_typing_mistake_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tarin"]) == 2
    assert "did you mean pi05 train?" in capsys.readouterr().err


def end_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `pi05 demo` end with an exception."""

    def run(_: Sequence[str]) -> int:
        raise error

    monkeypatch.setitem(cli.COMMANDS, "demo", replace(cli.COMMANDS["demo"], run=run))


def test_a_users_error_ends_with_2_and_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    end_with(monkeypatch, DataError("there is no video", wanted="a.mp4", found="nothing", remedy="copy it"))
    assert cli.main(["demo"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "error: there is no video\n  wanted: a.mp4\n  found:  nothing\n  to do:  copy it\n"


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    end_with(monkeypatch, KeyboardInterrupt())
    assert cli.main(["demo"]) == 130
    assert "Interrupted" in capsys.readouterr().err


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    end_with(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["demo"])


def test_a_package_that_cannot_be_imported_leads_to_the_doctor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    end_with(monkeypatch, ImportError("libcudart.so.13: cannot open shared object file\nmore", name="torch._C"))
    assert cli.main(["demo"]) == 2
    assert capsys.readouterr().err == (
        "error: torch._C cannot be imported\n"
        "  found:  libcudart.so.13: cannot open shared object file\n"
        "  to do:  pi05 doctor looks at this installation, and says what mends it\n"
    )
    end_with(monkeypatch, ImportError("cannot import name 'x'", name="pi05.train"))
    with pytest.raises(ImportError):
        cli.main(["demo"])


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        ("CUDA error: no kernel image is available for execution on the device", "pi05 doctor"),
        ("NCCL error in: x.cpp, unhandled system error", "pi05 doctor"),
        ("Found no NVIDIA driver on your system", "pi05 doctor"),
        ("The size of tensor a (3) must match", None),
    ],
)
def test_under_the_traceback_of_a_gpus_error_stands_what_to_do(
    error: str, hint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_with(monkeypatch, RuntimeError(error))
    with pytest.raises(RuntimeError) as caught:
        cli.main(["demo"])
    notes = getattr(caught.value, "__notes__", [])
    assert [note.partition(", ")[0][:17] for note in notes] == ([] if hint is None else [f"to do: {hint}"[:17]])


@pytest.mark.process
def test_training_with_a_broken_torch_names_the_doctor(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')\n")
    (tmp_path / "data").mkdir()
    path = os.pathsep.join([str(tmp_path), str(Path(pi05.__file__).parents[1])])
    answer = subprocess.run(
        [sys.executable, "-m", "pi05", "train", "--preset=tiny", f"--dataset.root={tmp_path / 'data'}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert answer.returncode == 2
    assert "libcudart.so.13" in answer.stderr
    assert "pi05 doctor" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(("met", "code"), [(True, 0), (False, 1)])
def test_a_demo_that_misses_its_goals_ends_with_1(met: bool, code: int, monkeypatch: pytest.MonkeyPatch) -> None:

    from pi05.demo import tabletop

    monkeypatch.setattr(tabletop, "run_demo", lambda **_: SimpleNamespace(met=met))
    assert cli.main(["demo"]) == code


@pytest.mark.process
def test_a_reader_that_leaves_is_no_fault() -> None:
    program = f"set -o pipefail; {sys.executable} -m pi05 train --help | head -1"
    answer = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False)
    assert answer.stdout.count("\n") == 1
    assert (answer.returncode, answer.stderr) == (0, "")


def test_an_interrupted_run_says_what_was_saved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from pi05.train import loop

    def stop(_: object) -> None:
        (tmp_path / "run/checkpoints/000003").mkdir(parents=True)
        (tmp_path / "run/checkpoints/last").symlink_to("000003")
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train", stop)
    flags = [f"--dataset.root={tmp_path}", "--from_scratch", f"--output_dir={tmp_path}/run"]
    assert cli.main(["train", *flags]) == 130
    printed = capsys.readouterr().err
    assert "000003" in printed
    assert f"pi05 train --resume {tmp_path}/run" in printed


def test_the_public_names_resolve_when_used() -> None:
    from pi05.data.lerobot.reader import Dataset
    from pi05.policy import Policy

    assert pi05.Dataset is Dataset
    assert pi05.Policy is Policy
    assert callable(pi05.load_model)
    assert set(pi05.__all__) <= set(dir(pi05))
    with pytest.raises(AttributeError, match="nothing"):
        _ = pi05.nothing


@pytest.mark.parametrize(
    ("words", "rest", "offline"),
    [
        (["--offline", "--seed=1"], ["--seed=1"], True),
        (["--offline=true"], [], True),
        (["--offline=false"], [], False),
        (["--seed", "1"], ["--seed", "1"], False),
    ],
)
def test_offline_is_taken_out_of_the_words(words: list[str], rest: list[str], offline: bool) -> None:
    assert cli.take_offline(words) == (rest, offline)


@pytest.mark.parametrize("before", [None, "0"])
def test_offline_holds_while_the_command_runs(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    if before is not None:
        monkeypatch.setenv("HF_HUB_OFFLINE", before)
    seen: list[str | None] = []

    def run(words: Sequence[str]) -> int:
        seen.append(os.environ.get("HF_HUB_OFFLINE"))
        return 0

    monkeypatch.setitem(cli.COMMANDS, "eval", replace(cli.COMMANDS["eval"], run=run))
    assert cli.main(["eval", "--offline"]) == cli.main(["eval"]) == 0
    assert seen == ["1", before]
    assert os.environ.get("HF_HUB_OFFLINE") == before
