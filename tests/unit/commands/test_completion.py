"""Shells that complete: each real one that is installed is started on a terminal and asked with its Tab key."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pi05 import cli
from pi05.commands.completion import SCRIPTS, completed
from pi05.settings.schema import walk

START = {
    "bash": ["--norc", "--noprofile", "-i"],
    "zsh": ["-f", "-i"],
}
PREPARE = {
    "bash": "bind 'set bell-style none'; bind 'set completion-query-items 0'; bind 'set page-completions off'; ",
    "zsh": "autoload -Uz compinit; compinit -u -D; unsetopt beep; LISTMAX=1000; ",
}
PATIENCE_S = 30.0


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", SCRIPTS)
def test_every_command_and_flag_is_in_the_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    for name, command in cli.COMMANDS.items():
        assert re.search(rf"\b{name}\b", text)
        for setting in (*walk(command.settings), *command.extra):
            assert (f"-l {setting.path} " if shell == "fish" else f"--{setting.path}") in text
    assert {command.name for command in completed(cli.COMMANDS)} == set(cli.COMMANDS)


@pytest.mark.parametrize("words", [[], ["csh"], ["bash", "zsh"]])
def test_another_shell_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", *words]) == 2
    assert "wanted: bash, zsh, fish" in capsys.readouterr().err


Ask = Callable[[str, str], str]


@pytest.fixture(params=["bash", "zsh"])
def ask(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Return a function that types a line and tabs into a shell of its own, until an answer shows."""
    shell: str = request.param
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(script(shell, capsys))
    (tmp_path / "folder_of_mine").mkdir()

    def type_line(line: str, answer: str) -> str:
        mine, its = pty.openpty()
        environment = {**os.environ, "PS1": "$ ", "TERM": "dumb", "HOME": str(tmp_path), "COLUMNS": "200"}
        process = subprocess.Popen(
            [program, *START[shell]], stdin=its, stdout=its, stderr=its, cwd=tmp_path, env=environment, close_fds=True
        )
        os.close(its)
        try:
            os.write(mine, f"{PREPARE[shell]}source ./script; echo rea''dy\n".encode())
            read_until(mine, "ready\r\n")
            os.write(mine, f"{line}\t".encode())
            seen = read_until(mine, answer, give_up_s=2.0)
            if answer not in seen:
                os.write(mine, b"\t\t")
                seen += read_until(mine, answer)
            return seen
        finally:
            process.kill()
            process.wait()
            os.close(mine)

    return type_line


def read_until(terminal: int, text: str, give_up_s: float = PATIENCE_S) -> str:
    seen, started = "", time.monotonic()
    while text not in seen and time.monotonic() - started < give_up_s:
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 65536).decode(errors="replace")
    return seen


@pytest.mark.process
@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("pi05 tr", "pi05 train "),
        ("pi05 train --policy.compile_m", "--policy.compile_model"),
        ("pi05 train --policy.optimizer_l", "--policy.optimizer_lr="),
        ("pi05 train --loss=ma", "--loss=masked"),
        ("pi05 train --loss=", "openpi"),
        ("pi05 train --seed=1 --preset ti", "--preset tiny"),
        ("pi05 train --dataset.root=fold", "--dataset.root=folder_of_mine"),
        ("pi05 report fold", "report folder_of_mine"),
    ],
)
def test_the_shell_completes(line: str, answer: str, ask: Ask) -> None:
    assert answer in ask(line, answer)


@pytest.mark.process
@pytest.mark.parametrize(
    ("line", "answers"),
    [
        ("pi05 tr", {"train"}),
        ("pi05 train --policy.compile_m", {"--policy.compile_model"}),
        ("pi05 train --loss=", {"--loss=masked", "--loss=lerobot", "--loss=openpi"}),
        ("pi05 eval --env ", {"tabletop"}),
        ("pi05 report fold", {"folder_of_mine/"}),
    ],
)
def test_fish_completes(line: str, answers: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = shutil.which("fish")
    if program is None:
        pytest.skip("fish is not installed")
    (tmp_path / "script").write_text(script("fish", capsys))
    (tmp_path / "folder_of_mine").mkdir()
    command = [program, "--no-config", "-c", f'source script; complete -C "{line}"']
    answer = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True, env={**os.environ, "HOME": str(tmp_path)}
    )
    assert {row.split("\t")[0] for row in answer.stdout.splitlines()} == answers
